"""pkpo_jax._order_statistics: the checks and sums that all estimates share."""

import math
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import exact

from pkpo_jax import _order_statistics as ranks


def sort(rewards, where=None):
  return ranks.sort_group("f", np.array(rewards), where)


def test_a_group_is_sorted_with_the_masked_at_its_end():
  where = np.array([True, False, True, True])
  group = sort([3.0, np.nan, -1.0, 2.0], where)
  np.testing.assert_array_equal(group.sorted, [-1, 2, 3, 3])
  np.testing.assert_array_equal(group.order[:2], [2, 3])
  np.testing.assert_array_equal(group.ranks, [1, 2, 3, 4])
  np.testing.assert_array_equal(group.mask, where)
  assert group.n == 3 and group.finite
  np.testing.assert_array_equal(ranks.gaps(group), [3, 1, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_unmasked_reward_that_is_not_finite(bad):
  rewards = [0.5, bad, 2.0]
  assert not sort(rewards).finite
  assert sort(rewards, np.array([True, False, True])).finite
  assert sort(rewards, np.zeros(3, bool)).n == 0


@pytest.mark.parametrize(
  "dtype", ["bool", "int8", "uint8", "int32", "bfloat16", "float16", "float32"]
)
def test_narrow_rewards_become_float32(dtype):
  rewards, _, n = ranks.check_group("f", jnp.array([0, 1, 1], dtype), None)
  chex.assert_type([rewards, n], jnp.float32)
  np.testing.assert_array_equal(rewards, [0, 1, 1])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["int64", "bfloat16", "float32", "float64"])
def test_only_float64_stays_wide(dtype):
  expected = jnp.float64 if dtype == "float64" else jnp.float32
  rewards, _, n = ranks.check_group("f", jnp.array([0, 1], dtype), None)
  chex.assert_type([rewards, n], expected)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_rewards_must_be_one_group(shape):
  with pytest.raises(ValueError, match=r"^f: rewards must be one group"):
    ranks.check_group("f", np.ones(shape), None)


def test_rewards_must_be_real():
  with pytest.raises(ValueError, match=r"^f: rewards must be real"):
    ranks.check_group("f", np.ones(4, complex), None)


@pytest.mark.parametrize(
  "where", [np.ones(3, bool), np.ones(4), np.ones((1, 4), bool)]
)
def test_where_must_be_bool_of_the_same_shape(where):
  with pytest.raises(ValueError, match=r"^f: where must be bool of shape \(4"):
    ranks.check_group("f", np.ones(4), where)


@pytest.mark.parametrize("k", [2.0, 1.5, True, np.float32(2), np.ones(2, int)])
def test_k_must_be_an_integer_scalar(k):
  message = r"^f: k must be an integer scalar.*n=4, valid k: 1\.\.3"
  with pytest.raises(ValueError, match=message):
    ranks.check_k("f", 4, k, last=3)


@pytest.mark.parametrize("k", [-1, 0, 4, np.int64(9), jnp.int32(4)])
def test_a_concrete_k_out_of_range(k):
  message = rf"^f: k={k} is out of range for n=4 .* 1\.\.3\."
  with pytest.raises(ValueError, match=message):
    ranks.check_k("f", 4, k, last=3)


def test_a_traced_k_where_none_is_valid():
  with pytest.raises(ValueError, match=r"k=\(traced\) .* valid k: none"):
    jax.jit(lambda k: ranks.check_k("f", 1, k, last=0))(1)
  jax.jit(lambda k: ranks.check_k("f", 4, k, last=3))(99)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_rank_weights_are_shares_of_subsets(n):
  group = sort(np.arange(7.0))
  for k in range(1, n + 1):
    weights = ranks.rank_weights(group, jnp.float32(n), jnp.float32(k))
    expected = [
      Fraction(math.comb(r - 1, k - 1), math.comb(n, k))
      for r in range(1, n + 1)
    ]
    expected = exact.floats(expected) + [k / n] * (7 - n)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_climb_and_descend():
  steps = jnp.array([1.0, 2.0, 4.0])
  np.testing.assert_array_equal(ranks.climb(steps), [0, 1, 3, 7])
  np.testing.assert_array_equal(ranks.descend(steps), [7, 6, 4, 0])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_leave_one_out_is_the_estimate_of_the_others(k):
  rewards = exact.GROUPS[0]
  values = ranks.leave_one_out(sort(rewards), jnp.float32(k))
  for rank, reward in enumerate(sorted(rewards)):
    others = [g for g in rewards if g != reward]  # all of them differ
    expected = float(exact.max_at_k(others, k))
    np.testing.assert_allclose(values[rank], expected, rtol=1e-6, atol=1e-6)


def test_centre_leaves_out_the_masked():
  group = sort([1.0, 2.0, 5.0], np.array([True, True, False]))
  centred = ranks.centre(group, jnp.array([1.0, 3.0, 100.0]))
  np.testing.assert_array_equal(centred[:2], [-1, 1])


def test_undefined_is_zero_unusable_is_nan_and_masked_is_zero():
  mask, weights = jnp.array([True, False]), jnp.ones(2)
  for defined, finite, expected in (
    (True, True, [1, 0]),
    (False, True, [0, 0]),
    (True, False, [np.nan, 0]),
    (False, False, [np.nan, 0]),
  ):
    values = ranks.masked(weights, mask, defined, finite=jnp.array(finite))
    np.testing.assert_array_equal(values, expected)


def test_by_sample_undoes_the_sorting():
  group = sort([3.0, 1.0, 2.0])
  weights = ranks.by_sample(group, jnp.array([10.0, 20.0, 30.0]), True)
  np.testing.assert_array_equal(weights, [30, 10, 20])
