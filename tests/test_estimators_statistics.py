"""pkpo_jax.estimators: bias and variance, exact over all outcomes."""

import functools
import itertools
import math

import jax
import numpy as np
import pytest
from helpers import bits

import pkpo_jax

max_at_k = jax.jit(pkpo_jax.max_at_k)


@functools.cache
def curves(n, ks):
  """(pass@k, its standard error), each [n + 1, K], for c = 0..n; float64."""

  @jax.jit
  def both(c, k):
    return (
      pkpo_jax.pass_at_k(c, n, k),
      pkpo_jax.pass_at_k_standard_error(c, n, k),
    )

  with bits.enable_x64(True):
    values = both(np.arange(n + 1)[:, None], np.array(ks))
  return [np.asarray(value) for value in values]


def binomial(n, p):
  """Probabilities of c = 0..n right answers; no underflow for large n."""
  c = np.arange(n + 1)
  log_choose = [
    math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in c
  ]
  return np.exp(log_choose + c * math.log(p) + (n - c) * math.log1p(-p))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
def test_pass_at_k_is_unbiased(p):
  ks = range(1, 13)
  mean = binomial(12, p) @ curves(12, ks)[0]
  np.testing.assert_allclose(mean, 1 - (1 - p) ** np.array(ks), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_max_at_k_is_unbiased():
  probs, rewards = np.array([0.5, 0.3, 0.2]), np.array([1.0, -2.0, 5.0])
  actions = np.array(list(itertools.product(range(3), repeat=4)))
  for k in (1, 2, 3, 4):
    values = jax.vmap(max_at_k, (0, None))(rewards[actions], k)
    mean = np.prod(probs[actions], axis=1) @ values
    # P(max <= v)^k at v = -2, 1, 5 is 0.3^k, 0.8^k, 1.
    expected = -2 * 0.3**k + (0.8**k - 0.3**k) + 5 * (1 - 0.8**k)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def moments(n, p, ks):
  """Exact (variance of rho, mean square of its standard error), each [K]."""
  weights = binomial(n, p)
  rho, errors = curves(n, ks)
  return weights @ (rho - weights @ rho) ** 2, weights @ errors**2


@pytest.mark.parametrize("n", [2, 3, 5, 16])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.8])
def test_the_standard_error_is_conservative_on_average(n, p):
  variance, jackknife = moments(n, p, range(1, n))
  np.testing.assert_allclose(variance[0], p * (1 - p) / n, rtol=1e-12)
  np.testing.assert_allclose(jackknife[0], variance[0], rtol=1e-12)
  assert np.all(jackknife[1:] > variance[1:] * (1 + 1e-6))


@pytest.mark.parametrize("p", [0.02, 0.2, 0.6])
def test_variance_law_of_corollary_3(p):
  ks = np.array([1, 2, 4, 8])
  law = ks**2 * p * (1 - p) ** (2 * ks - 1)
  excess = []
  for n in (512, 1024):
    variance, jackknife = moments(n, p, tuple(ks))
    excess.append(np.abs(variance * n / law - 1))
    # The next term of Hoeffding's expansion is of order k^3 p / (1-p) / n.
    assert np.all(excess[-1] <= ks**2 / n * (1 + ks * p / (1 - p)))
    assert np.all(jackknife >= variance * (1 - 1e-12))
  assert max(excess[0][0], excess[1][0]) < 1e-9
  ratio = excess[1][1:] / excess[0][1:]
  assert np.all((0.4 < ratio) & (ratio < 0.6))


@pytest.mark.parametrize("n", [2, 10, 1024])
def test_standard_error_at_k_1_is_that_of_a_share(n):
  p = np.arange(n + 1) / n
  errors = curves(n, (1,))[1][:, 0]
  np.testing.assert_allclose(errors, np.sqrt(p * (1 - p) / (n - 1)), atol=1e-14)
