"""The group under settings of jax that users run: strict, wide, debugging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import bits, exact, jax_settings

import pkpo_jax

N, K = 5, 2
REWARDS = np.array(
  [[0.5, np.nan, 2.0, 1.0, -1.0], [1, 0, 0, np.inf, 1], [np.nan] * 5],
  np.float32,
)
WHERE = np.isfinite(REWARDS)


def of_rewards(name):
  """A function of (rewards, where, k) that has this name."""
  function = getattr(pkpo_jax, name)
  return lambda rewards, where, k: function(rewards, k, where=where)


def k_mixture(rewards, where, k):
  weights = (jnp.arange(1, N + 1, dtype="int32") == k).astype(rewards.dtype)
  return pkpo_jax.k_mixture(rewards, weights, where=where)


def order_statistics(rewards, where, k):
  weights = jnp.ones(K, rewards.dtype) * k.astype(rewards.dtype)
  return pkpo_jax.order_statistics(rewards, weights, where=where)


def of_counts(name):
  function = getattr(pkpo_jax, name)

  def counted(rewards, where, k):
    right = jnp.sum(jnp.where(where, rewards, 0) > 0, axis=-1)
    return function(right, N, k)

  return counted


FUNCTIONS = {
  name: of_rewards(name)
  for name in (*exact.NAMES, "max_at_k", "max_at_k_standard_error")
}
FUNCTIONS |= {
  "k_mixture": k_mixture,
  "order_statistics": order_statistics,
  "pass_at_k": of_counts("pass_at_k"),
  "pass_at_k_standard_error": of_counts("pass_at_k_standard_error"),
}
SETTINGS = {
  "jax_numpy_dtype_promotion": "strict",
  "jax_numpy_rank_promotion": "raise",
  "jax_debug_nans": True,
  "jax_debug_infs": True,
}


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_under_strict_and_debugging_settings(name, x64):
  """Unjitted vmaps too, whose every operation is looked at for NaN and inf.

  In 64 bits jitted alone: promotion is looked at where a program is traced.

  The last group has no valid sample: its weights are zeros, and an estimate of
  it is NaN, which is left out here.
  """
  function = FUNCTIONS[name]
  groups = 2 if "at_k" in name else 3
  rewards, where = REWARDS[:groups], WHERE[:groups]
  expected = jax.jit(jax.vmap(function, (0, 0, None)))(rewards, where, K)
  rewards = rewards.astype("float64" if x64 else "float32")
  with bits.enable_x64(x64), jax_settings.changed(**SETTINGS):
    batched = jax.vmap(function, (0, 0, None))
    for run in (jax.jit(batched),) if x64 else (batched, jax.jit(batched)):
      values = run(rewards, where, jnp.int32(K))
      assert values.dtype == rewards.dtype
      np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    if not x64:
      values = function(rewards[0], where[0], jnp.int32(K))
      np.testing.assert_allclose(values, expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
def test_counts_broadcast_without_rank_promotion(x64):
  c, n = np.ones((3, 1, 1), int), np.array([[4], [8]])
  with bits.enable_x64(x64), jax_settings.changed(**SETTINGS):
    for function in (pkpo_jax.pass_at_k, pkpo_jax.pass_at_k_standard_error):
      values = function(jnp.array(c), n, np.array([1, 2, 3]))
      assert values.shape == (3, 2, 3)
      assert float(function(1, 4, 2)) == pytest.approx(float(values[0, 0, 1]))


@pytest.mark.parametrize("x64", [False, True])
def test_k_from_solve_rate(x64):
  c, n = np.array([0.0, 2.0, 0.5, 0.0]), np.array([4, 4, 4, 0])
  expected = pkpo_jax.k_from_solve_rate(c, n, k_max=4)
  with bits.enable_x64(x64), jax_settings.changed(**SETTINGS):
    ks = pkpo_jax.k_from_solve_rate(jnp.array(c), jnp.array(n), k_max=4)
    assert ks.dtype == jnp.int32
    np.testing.assert_array_equal(ks, expected)


def test_schedules():
  with jax_settings.changed(**SETTINGS):
    for schedule in (
      pkpo_jax.constant_k(4),
      pkpo_jax.piecewise_k([8, 1], [10]),
      pkpo_jax.linear_k(8, 1, 10),
    ):
      ks = [int(schedule(step)) for step in (0, 10)]
      np.testing.assert_array_equal(schedule(jnp.array([0, 10])), ks)
