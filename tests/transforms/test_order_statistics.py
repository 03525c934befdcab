"""transforms.mixtures: `order_statistics` and the centred `k_mixture`."""

import itertools

import jax
import numpy as np
import pytest
from helpers import bits, exact, transformed

import pkpo_jax

BATCHED = jax.jit(jax.vmap(pkpo_jax.order_statistics, (0, None)))
WEIGHTS = ((1.0,), (0.0, 1.0), (0.5, -1.0, 2.0), (0.25, 0.0, 0.5, 1.0))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
  ("n", "weights"),
  [(n, w) for n in (2, 3, 5, 7) for w in WEIGHTS if len(w) < n],
)
def test_is_its_definition(n, weights):
  groups = exact.groups(n)
  expected = [exact.order_statistics(group, weights) for group in groups]
  values = BATCHED(np.array(groups), np.array(weights))
  np.testing.assert_allclose(values, exact.floats(expected), atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("weights", WEIGHTS)
def test_is_unbiased(weights):
  """For the gradient of the mean of the L-statistic of K fresh samples."""
  n, K = 4, len(weights)
  if K == n:
    weights, K = weights[1:], K - 1
  for action_rewards in transformed.ACTION_REWARDS:
    g = np.array(action_rewards)
    estimates = BATCHED(g[transformed.sampled_actions(n)], np.array(weights))
    mean = transformed.expected_estimate(np.asarray(estimates), n)
    values = np.sort(g[transformed.sampled_actions(K)], axis=1) @ weights
    paid = np.repeat(values[:, None], K, axis=1)
    true = transformed.expected_estimate(paid, K)
    np.testing.assert_allclose(mean, true, atol=1e-13)


def test_a_mask_drops_samples():
  weights = (0.5, 0.0, 2.0)
  cases = list(itertools.product(exact.groups(6), exact.masks(6)))
  expected = [
    exact.floats(exact.masked(exact.order_statistics, g, m, weights))
    if sum(m) > len(weights)
    else [0.0] * 6
    for g, m in cases
  ]
  rewards, where = map(np.array, zip(*cases))
  values = jax.jit(
    jax.vmap(
      lambda g, m, w: pkpo_jax.order_statistics(g, w, where=m), (0, 0, None)
    )
  )(rewards, where, np.array(weights))
  np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-5)


@pytest.mark.slow
def test_the_best_of_many_is_scloo_at_any_size():
  rewards = np.random.default_rng(0).normal(size=(1, 2048)).astype(np.float32)
  for K in (1, 8, 200):
    values = BATCHED(rewards, np.eye(K)[-1])[0]
    scloo = transformed.jitted("scloo", rewards[0], K)
    np.testing.assert_allclose(values, scloo, atol=3e-5 * np.abs(scloo).max())


def test_equal_weights_are_the_mean_reward():
  rewards = np.array(exact.groups(6))
  values = BATCHED(rewards, np.full(4, 1 / 4))
  expected = [exact.floats(exact.rloo(group)) for group in exact.groups(6)]
  np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (1, 2)])
def test_weights_must_be_fewer_than_samples(shape):
  message = r"order_statistics: weights must be \[K\] with K in 1\.\.3.*n=4"
  with pytest.raises(ValueError, match=message):
    pkpo_jax.order_statistics(np.ones(4), np.ones(shape))


@pytest.mark.parametrize("name", ["order_statistics", "k_mixture"])
def test_weights_must_be_finite(name):
  with pytest.raises(ValueError, match="must be finite"):
    getattr(pkpo_jax, name)(np.ones(4), [1.0, np.nan])


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4, 7])
def test_a_centred_k_mixture(n):
  mixtures = [m[: n - 1] for m in (*WEIGHTS, (0.0, -1.0, 0.0, 3.0))]
  for group, mixture in itertools.product(exact.groups(n), mixtures):
    with bits.enable_x64(True):
      values = pkpo_jax.k_mixture(np.array(group), mixture, centred=True)
    expected = exact.floats(exact.k_mixture(group, mixture, True))
    np.testing.assert_allclose(values, expected, atol=1e-13)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [2, 5])
def test_mixtures_of_1_over_k_are_tails(n):
  """`k_mixture(1/k)` is tail_i less the mean of the others over n."""
  for group in exact.groups(n):
    tail = np.array(exact.floats(exact.maxrl(group)))
    others = (sum(group) - np.array(group)) / (n - 1)
    mixture = pkpo_jax.k_mixture(np.array(group), 1 / np.arange(1, n + 1))
    np.testing.assert_allclose(mixture, tail - others / n, atol=1e-13)
    by_k = 1 / np.arange(1, n)
    centred = pkpo_jax.k_mixture(np.array(group), by_k, centred=True)
    np.testing.assert_allclose(centred, tail - tail.mean(), atol=1e-13)


def test_a_centred_k_mixture_has_no_k_n():
  with pytest.raises(ValueError, match=r"K in 1\.\.3.*n=4"):
    pkpo_jax.k_mixture(np.ones(4), np.ones(4), centred=True)
