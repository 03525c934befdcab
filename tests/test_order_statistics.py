"""pkpo_jax._order_statistics: the checks and sums that all estimates share."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import bits, exact

from pkpo_jax import _order_statistics as ranks


def sort(rewards, where=None):
  return ranks.sort_group("f", np.array(rewards), where)


def test_a_group_is_sorted_with_the_masked_at_its_end():
  where = np.array([True, False, True, True])
  group = sort([3.0, np.nan, -1.0, 2.0], where)
  np.testing.assert_array_equal(group.sorted * group.unit, [-1, 2, 3, 3])
  np.testing.assert_array_equal(group.order[:2], [2, 3])
  np.testing.assert_array_equal(group.ranks, [1, 2, 3, 4])
  np.testing.assert_array_equal(group.mask, where)
  assert group.n == 3 and group.finite
  gaps = ranks.gaps(group) * group.unit
  np.testing.assert_array_equal(gaps, [3, 1, 0])


@pytest.mark.parametrize("width", [32, 64])
def test_integers_are_in_the_order_of_floats(width):
  with bits.enable_x64(width == 64):
    limits = np.finfo(f"float{width}")
    above = [0.0, limits.smallest_subnormal, limits.tiny, 0.5, 1, limits.max]
    values = np.array([-x for x in above[::-1]] + above, limits.dtype)
    integers = ranks._integers(jnp.array(values))
    assert integers.dtype == f"int{width}"
    np.testing.assert_array_equal(np.diff(integers) > 0, True)


@pytest.mark.parametrize("where", [None, np.array([True, False, True, True])])
def test_bools_are_the_same_without_a_sort(where):
  def everything(rewards):
    group = ranks.sort_group("f", rewards, where)
    steps = ranks.gaps(group) * group.ranks[1:]
    climbed, descended = (f(group, steps) for f in (ranks.climb, ranks.descend))
    weights = [ranks.by_sample(group, x, True) for x in (climbed, descended)]
    return group.sorted, group.n, climbed, descended, *weights

  for bools in itertools.product([False, True], repeat=4):
    both = everything(np.array(bools)), everything(np.array(bools, float))
    for found, expected in zip(*both):
      np.testing.assert_array_equal(found, expected, err_msg=str(bools))
  sorts = [
    " sort[" in str(jax.make_jaxpr(everything)(np.ones(4, dtype)))
    for dtype in (bool, float)
  ]
  assert sorts == [False, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_unmasked_reward_that_is_not_finite(bad):
  rewards = jnp.array([0.5, bad, 2.0])
  finite = jax.jit(lambda g, where: ranks.sort_group("f", g, where).finite)
  assert not finite(rewards, np.ones(3, bool))
  assert finite(rewards, np.array([True, False, True]))
  assert sort(rewards, np.zeros(3, bool)).n == 0


@pytest.mark.slow
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
  group, steps = sort(np.arange(4.0)), jnp.array([1.0, 2.0, 4.0])
  np.testing.assert_array_equal(ranks.climb(group, steps), [0, 1, 3, 7])
  np.testing.assert_array_equal(ranks.descend(group, steps), [7, 6, 4, 0])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_leave_one_out_is_the_estimate_of_the_others(k):
  rewards = exact.GROUPS[0]
  group = sort(rewards)
  values = ranks.leave_one_out(group, jnp.float32(k)) * group.unit
  for rank, reward in enumerate(sorted(rewards)):
    others = [g for g in rewards if g != reward]  # all of them differ
    expected = float(exact.max_at_k(others, k))
    np.testing.assert_allclose(values[rank], expected, rtol=1e-6, atol=1e-6)


def test_centre_leaves_out_the_masked():
  group = sort([1.0, 2.0, 5.0], np.array([True, True, False]))
  centred = ranks.centre(group, jnp.array([1.0, 3.0, 100.0]))
  np.testing.assert_array_equal(centred[:2], [-1, 1])


def test_centred_climb_is_a_climb_that_is_centred():
  steps = jnp.array([1.0, 2.0, 4.0, 0.0])
  group = sort(np.arange(5.0), np.array([True, True, True, True, False]))
  expected = ranks.centre(group, ranks.climb(group, steps))
  climbed = ranks.centred_climb(group, steps)
  np.testing.assert_allclose(climbed[:4], expected[:4], rtol=1e-6)


@pytest.mark.parametrize(
  ("defined", "finite", "in_range", "expected"),
  [
    (True, True, True, [1, 0]),
    (False, True, True, [0, 0]),
    (True, False, True, [np.nan, 0]),
    (False, False, True, [np.nan, 0]),
    (True, True, False, [np.nan, np.nan]),
    (False, True, False, [np.nan, np.nan]),
  ],
)
def test_what_stands_in_the_place_of_weights(
  defined, finite, in_range, expected
):
  values = ranks.masked(
    jnp.ones(2),
    jnp.array([True, False]),
    defined,
    finite=jnp.array(finite),
    in_range=in_range,
  )
  np.testing.assert_array_equal(values, expected)


def test_by_sample_undoes_the_sorting_and_the_unit():
  group = sort([3.0, 1.0, 2.0])
  by_rank = jnp.array([10.0, 20.0, 30.0]) / group.unit
  weights = ranks.by_sample(group, by_rank, True)
  np.testing.assert_array_equal(weights, [30, 10, 20])
