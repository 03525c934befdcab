"""transforms.baselines: equal to their definitions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import exact, transformed

OTHERS = (*exact.WITHOUT_K, *exact.BINARY)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "n"),
  [(f, n) for f in OTHERS for n in range(1, 8) if transformed.valid_ks(f, n)],
)
def test_is_its_definition(name, n):
  transformed.assert_is_its_definition(name, n)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_mask_drops_samples(name):
  transformed.assert_a_mask_drops_samples(name)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
def test_rloo_is_unbiased_for_the_mean_and_dr_grpo_shrinks_it(n):
  for rewards in transformed.ACTION_REWARDS:
    weights, true = (
      transformed.weights_of_samples(n, rewards),
      transformed.gradient(rewards, 1),
    )
    mean = transformed.expected_estimate(weights["rloo"][0], n)
    np.testing.assert_allclose(mean, true, atol=1e-14)
    mean = transformed.expected_estimate(weights["dr_grpo"][0], n)
    np.testing.assert_allclose(mean, (1 - 1 / n) * true, atol=1e-14)


@pytest.mark.parametrize("name", ["rloo", "dr_grpo"])
def test_scales_with_the_rewards(name):
  for k, rewards in itertools.product((1, 2, 4), exact.groups(5)):
    weights = transformed.jitted(name, rewards, k)
    scaled = transformed.jitted(name, 8 * np.array(rewards), k)
    np.testing.assert_array_equal(scaled, 8 * weights)  # 8: no rounding.


@pytest.mark.slow
@pytest.mark.parametrize("n", range(2, 8))
def test_maxrl_is_a_harmonic_mixture(n):
  for rewards in exact.binary_groups(n):
    blend = np.array(rewards) / n
    for k in range(2, n + 1):
      blend += transformed.evaluated(n)["sloo_minus_one"][rewards, k] / k
    maxrl = transformed.evaluated(n)["maxrl"][rewards, 1]
    np.testing.assert_allclose(maxrl, blend, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 16384])
def test_baselines_at_any_size(n):
  rewards = (np.arange(n) % 2).astype(np.float32)
  half, std = 0.5, math.sqrt(0.25 * n / (n - 1))
  sign = 2 * rewards - 1
  expected = {
    "rloo": sign * half / (n - 1),
    "grpo": sign * half / (std + 1e-6) / n,
    "dr_grpo": sign * half / n,
    "maxrl": 2 * rewards / n,
    "passk_training": sign / n,
  }
  weights = transformed.by_name(tuple(expected), rewards[None], np.array([1]))
  for name, values in expected.items():
    np.testing.assert_allclose(weights[name][0], values, rtol=3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("c", [1, 2, 8191, 16382, 16383])
def test_passk_training_where_almost_all_are_alike(c):
  """rho (1 - rho) loses no digits, at rho near 0 and near 1."""
  n, ks = 16384, np.array([1, 2, 16, 128])
  groups = np.tile(np.arange(n) < c, (ks.size, 1)).astype(np.float32)
  weights = transformed.by_name(("passk_training",), groups, ks)
  for k, row in zip(ks.tolist(), np.asarray(weights["passk_training"])):
    miss = Fraction(math.comb(n - c, k), math.comb(n, k))
    expected = math.sqrt(miss / (1 - miss)) / n
    np.testing.assert_allclose(row[:c], expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(
      row[c:], -expected * c / (n - c), rtol=1e-5, atol=1e-12
    )


@pytest.mark.parametrize("name", exact.BINARY)
def test_fractions_of_what_is_known_for_binary_rewards(name):
  """Neither stops a run whose rewards are fractions of unit tests passed."""
  rewards = (0.25, 0.0, 1.0, 0.75, 0.25)
  (expected,) = transformed.references(name, [rewards], [2])
  weights = transformed.jitted(name, rewards, 2)
  np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=1e-7)
