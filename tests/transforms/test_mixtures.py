"""transforms.mixtures: `k_mixture` is the blend that it says."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import exact, transformed

import pkpo_jax

K_MIXTURE = jax.jit(pkpo_jax.k_mixture)
MIXTURES = (
  (1.0, 0.0, 0.0, 0.0),
  (0.0, 1.0, 0.0, 0.0),
  (0.5, 0.25, 0.125, 0.0),
  (0.0, -1.0, 0.0, 3.0),
)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [2, 4, 7])
def test_k_mixture_is_its_definition(n):
  cases = list(itertools.product(exact.groups(n), MIXTURES))
  cases = [(group, mixture[:n]) for group, mixture in cases]
  weights = jax.vmap(K_MIXTURE)(*map(np.array, zip(*cases)))
  expected = exact.floats([exact.k_mixture(*case) for case in cases])
  np.testing.assert_allclose(weights, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("centred", [False, True])
def test_a_mask_drops_samples_and_the_k_that_they_are_too_few_for(centred):
  """What is left of the blend is exact: each k as far as it is defined."""
  mixture = (0.5, 0.25, 0.0, 2.0, -1.0, 4.0)[: 6 - centred]
  cases = list(itertools.product(exact.groups(6), exact.masks(6)))

  def definition(group, mask):
    weights = mixture[: max(sum(mask) - centred, 0)]
    if sum(mask) < 2:
      return [0.0] * 6
    return exact.floats(
      exact.masked(exact.k_mixture, group, mask, weights, centred)
    )

  expected = [definition(*case) for case in cases]
  rewards, where = map(np.array, zip(*cases))
  blend = functools.partial(pkpo_jax.k_mixture, centred=centred)
  function = jax.vmap(lambda g, m: blend(g, np.array(mixture), where=m))
  weights = np.asarray(jax.jit(function)(rewards, where))
  np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-5)
  assert not np.any(weights[~where])


@pytest.mark.usefixtures("x64")
def test_k_mixture_is_unbiased():
  mixture = (0.5, 0.0, 2.0, -0.25)
  batched = jax.vmap(K_MIXTURE, (0, None))
  for rewards in transformed.ACTION_REWARDS:
    groups = np.array(rewards)[transformed.sampled_actions(4)]
    mean = transformed.expected_estimate(batched(groups, np.array(mixture)), 4)
    true = sum(
      w * transformed.gradient(rewards, k)
      for k, w in enumerate(mixture, start=1)
    )
    np.testing.assert_allclose(mean, true, atol=1e-14)


@pytest.mark.slow
@transformed.properties
@hypothesis.given(transformed.rewards_of_length(5), st.integers(1, 5))
def test_k_mixture_of_one_k_is_that_k(rewards, k):
  mixture = K_MIXTURE(np.array(rewards), np.eye(5)[k - 1])
  weights = transformed.jitted("sloo_minus_one", np.array(rewards), k)
  np.testing.assert_allclose(mixture, weights, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_k_mixture_under_jax_transformations():
  rewards, mixtures = np.array(exact.groups(5)), np.array(MIXTURES)
  rows, vmapped = list(zip(rewards, mixtures)), jax.vmap(pkpo_jax.k_mixture)
  expected = [exact.k_mixture(tuple(g), tuple(m)) for g, m in rows]
  for weights in (
    [pkpo_jax.k_mixture(*row) for row in rows],
    [K_MIXTURE(*row) for row in rows],
    vmapped(rewards, mixtures),
    jax.jit(vmapped)(rewards, mixtures),
  ):
    np.testing.assert_allclose(
      weights, exact.floats(expected), rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_k_mixture_of_a_reward_that_is_not_finite(bad):
  rewards = np.array([0.5, 1.0, bad, 2.0, 0.25])
  mixture = np.array([0.0, 1.0, 0.5])
  assert np.all(np.isnan(K_MIXTURE(rewards, mixture)))
  where = np.array([True, True, False, True, True])
  weights = K_MIXTURE(rewards, mixture, where=where)
  expected = exact.k_mixture((0.5, 1.0, 2.0, 0.25), tuple(mixture))
  np.testing.assert_allclose(weights[where], exact.floats(expected), rtol=2e-6)
  assert weights[2] == 0


@pytest.mark.parametrize("shape", [(), (0,), (5,), (1, 2)])
def test_k_mixture_needs_1_to_n_weights(shape):
  message = r"k_mixture: k_weights must be \[K\] with K in 1\.\.4.*n=4"
  with pytest.raises(ValueError, match=message):
    pkpo_jax.k_mixture(np.ones(4), np.ones(shape))


def test_k_mixture_needs_two_samples():
  with pytest.raises(ValueError, match=r"k_mixture: .*n=1"):
    pkpo_jax.k_mixture(np.ones(1), np.ones(1))


@pytest.mark.usefixtures("x64")
def test_k_mixture_of_float64_stays_wide():
  rewards = jnp.array([0, 1, 1, 0, 0], "float64")
  out = jax.eval_shape(pkpo_jax.k_mixture, rewards, np.ones(3))
  assert out.dtype == jnp.float64


def test_k_mixture_of_nothing_gives_zeros():
  weights = K_MIXTURE(np.full(5, np.nan), np.ones(3), where=np.zeros(5, bool))
  np.testing.assert_array_equal(weights, np.zeros(5))


def test_k_mixture_checks_its_group():
  with pytest.raises(ValueError, match="k_mixture: rewards must be one group"):
    pkpo_jax.k_mixture(np.ones((2, 4)), np.ones(2))
  with pytest.raises(ValueError, match="k_mixture: where must be bool"):
    pkpo_jax.k_mixture(np.ones(4), np.ones(2), where=np.ones(4))
