"""pkpo_jax.estimators: values against enumeration, statistics, properties."""

import functools
import itertools
import math
from fractions import Fraction

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import bits, exact

import pkpo_jax

# float32 rank weights at n = 16384 are within 3e-6.
RANK_WEIGHT_ERROR = 3e-6

properties = hypothesis.settings(
  deadline=None, derandomize=True, max_examples=60
)

VARIANTS = {
  "plain": lambda f: lambda *batch: np.stack([f(*a) for a in zip(*batch)]),
  "jit": lambda f: VARIANTS["plain"](jax.jit(f)),
  "vmap": lambda f: jax.jit(jax.vmap(f)),
}


def standard_error(rewards, k):
  return math.sqrt(exact.jackknife_variance(rewards, k))


ON_REWARDS = {
  "max_at_k": (pkpo_jax.max_at_k, exact.max_at_k),
  "max_at_k_standard_error": (pkpo_jax.max_at_k_standard_error, standard_error),
}

# Compiled once here rather than operation by operation in each test.
max_at_k = jax.jit(pkpo_jax.max_at_k)
max_at_k_standard_error = jax.jit(pkpo_jax.max_at_k_standard_error)


# --- Values, against enumeration.


@pytest.mark.parametrize("width", [32, 64])
def test_pass_at_k_is_the_share_of_subsets_with_a_hit(width):
  cases = [
    (c, n, k)
    for n in range(1, 8)
    for c in range(n + 1)
    for k in range(1, n + 1)
  ]
  expected = [float(exact.pass_at_k(n, c, k)) for c, n, k in cases]
  c, n, k = np.array(cases).T
  with bits.enable_x64(width == 64):
    values = jax.jit(lambda c, k: pkpo_jax.pass_at_k(c, n, k))(c, k)
  tolerance = 1e-6 if width == 32 else 1e-14
  np.testing.assert_allclose(values, expected, rtol=tolerance, atol=0)


@pytest.mark.usefixtures("x64")
def test_pass_at_k_standard_error_is_the_jackknife():
  cases = [
    (c, n, k) for n in range(2, 8) for c in range(n + 1) for k in range(1, n)
  ]
  expected = [standard_error((1,) * c + (0,) * (n - c), k) for c, n, k in cases]
  c, n, k = np.array(cases).T
  function = jax.jit(lambda c, k: pkpo_jax.pass_at_k_standard_error(c, n, k))
  np.testing.assert_allclose(function(c, k), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", range(1, 8))
def test_max_at_k_is_the_mean_best_of_the_subsets(n):
  cases = list(itertools.product(exact.groups(n), range(1, n + 1)))
  values, errors = both_at(*map(np.array, zip(*cases)))
  expected = [float(exact.max_at_k(*case)) for case in cases]
  np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-13)
  expected = [standard_error(g, k) if k < n else np.nan for g, k in cases]
  np.testing.assert_allclose(errors, expected, rtol=1e-13, atol=1e-12)


@jax.jit
@jax.vmap
def both_at(rewards, k):
  """(max@k, its standard error); a single sample has no error: NaN."""
  value = pkpo_jax.max_at_k(rewards, k)
  if rewards.size == 1:
    return value, jnp.nan
  return value, pkpo_jax.max_at_k_standard_error(rewards, k)


@pytest.mark.parametrize(
  ("name", "spare"), [("max_at_k", 0), ("max_at_k_standard_error", 1)]
)
def test_a_mask_drops_samples(name, spare):
  function, reference = ON_REWARDS[name]
  groups_and_masks = itertools.product(exact.groups(7), exact.masks(7))
  cases = [(g, k, m) for g, m in groups_and_masks for k in range(1, 8 - spare)]
  expected = [
    float(reference([g for g, m in zip(group, mask) if m], k))
    if k <= sum(mask) - spare
    else np.nan
    for group, k, mask in cases
  ]
  values = jax.jit(jax.vmap(lambda g, k, m: function(g, k, where=m)))(
    *map(np.array, zip(*cases))
  )
  np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-6)


def test_max_at_k_is_pass_at_k_on_binary_rewards():
  cases = list(itertools.product(exact.binary_groups(6), range(1, 7)))
  values = jax.vmap(max_at_k)(*map(np.array, zip(*cases)))
  expected = [float(exact.pass_at_k(6, int(sum(g)), k)) for g, k in cases]
  np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 17, 1024, 16384])
def test_the_ends_of_k_are_mean_and_best(n):
  rewards = np.random.default_rng(n).normal(size=n).astype(np.float32)
  mean = np.mean(rewards, dtype=np.float64)
  np.testing.assert_allclose(max_at_k(rewards, 1), mean, atol=2e-6)
  np.testing.assert_allclose(max_at_k(rewards, n), max(rewards), rtol=1e-6)


def test_pass_at_k_broadcasts():
  n, k = np.array([[4], [8]]), np.array([1, 2, 4, 3])
  function = jax.jit(lambda c, k: pkpo_jax.pass_at_k(c, n, k))
  values = function(np.ones((3, 1, 1), int), k)
  chex.assert_shape(values, (3, 2, 4))
  for i, n in enumerate((4, 8)):
    expected = [float(exact.pass_at_k(n, 1, k)) for k in (1, 2, 4, 3)]
    np.testing.assert_allclose(values[2, i], expected, rtol=1e-6)


# --- Properties.

quarters = st.integers(-64, 64).map(lambda x: x / 4)
group_and_k = st.sampled_from([2, 5]).flatmap(
  lambda n: st.tuples(
    st.lists(quarters, min_size=n, max_size=n), st.integers(1, n)
  )
)


@properties
@hypothesis.given(group_and_k, st.randoms(use_true_random=False))
def test_max_at_k_ignores_the_order(case, random):
  rewards, k = case
  shuffled = random.sample(rewards, len(rewards))
  assert max_at_k(np.array(rewards), k) == max_at_k(np.array(shuffled), k)


@properties
@hypothesis.given(group_and_k, quarters, st.sampled_from([0.5, 2.0, 3.0]))
def test_max_at_k_moves_and_scales_with_the_rewards(case, shift, scale):
  rewards, k = np.array(case[0]), case[1]
  value = max_at_k(rewards, k)
  moved = max_at_k(scale * rewards + shift, k)
  np.testing.assert_allclose(moved, scale * value + shift, atol=5e-5)


@properties
@hypothesis.given(group_and_k)
def test_max_at_k_grows_with_k_up_to_the_best(case):
  rewards = np.array(case[0])
  ks = range(1, rewards.size + 1)
  curve = [float(max_at_k(rewards, k)) for k in ks]
  assert all(a <= b + 1e-5 for a, b in itertools.pairwise(curve))
  np.testing.assert_allclose(curve[-1], max(rewards), rtol=1e-6)


# --- Transformations of jax, dtypes, sizes.


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_pass_at_k_under_jax_transformations(variant):
  c, k = np.array([0, 1, 3, 5]), np.array([2, 5, 1, 3])
  for function, reference in (
    (pkpo_jax.pass_at_k, lambda i, j: exact.pass_at_k(6, i, j)),
    (
      pkpo_jax.pass_at_k_standard_error,
      lambda i, j: standard_error((1,) * i + (0,) * (6 - i), j),
    ),
  ):
    values = VARIANTS[variant](lambda i, j, f=function: f(i, 6, j))(c, k)
    expected = [float(reference(i, j)) for i, j in zip(c, k)]
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ON_REWARDS)
def test_max_at_k_under_jax_transformations(name, variant):
  function, reference = ON_REWARDS[name]
  rewards, k = np.array(exact.groups(5)), np.array([2, 4, 1, 3])
  values = VARIANTS[variant](function)(rewards, k)
  expected = [float(reference(g, int(j))) for g, j in zip(rewards, k)]
  np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 6])
def test_static_k_gives_the_same(k):
  rewards = exact.GROUPS[0]
  for function, reference in ON_REWARDS.values():
    value = jax.jit(functools.partial(function, k=k))(np.array(rewards))
    np.testing.assert_allclose(value, float(reference(rewards, k)), rtol=2e-6)


def test_one_trace_serves_every_k():
  traces = []

  @jax.jit
  def estimates(rewards, num_correct, k):
    traces.append(k)
    return (
      pkpo_jax.max_at_k(rewards, k),
      pkpo_jax.pass_at_k(num_correct, 6, k),
    )

  rewards = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
  for k in range(1, 7):
    expected = float(exact.max_at_k(rewards, k))
    for value in estimates(np.array(rewards), 2, k):
      np.testing.assert_allclose(value, expected, rtol=1e-6)
  assert len(traces) == 1


def test_narrow_rewards_are_computed_in_float32():
  rewards = jnp.array([0, 1, 1, 0, 0], bool)
  for function, reference in ON_REWARDS.values():
    value = function(rewards, 2)
    chex.assert_type(value, jnp.float32)
    expected = float(reference((0, 1, 1, 0, 0), 2))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_float64_stays_wide():
  rewards = jnp.array(exact.GROUPS[1], "float64")
  for function, _ in ON_REWARDS.values():
    assert jax.eval_shape(function, rewards, 2).dtype == jnp.float64


def hit_probabilities(n, cs, k):
  """1 - C(n-c, k) / C(n, k), exact up to the last rounding."""
  return [float(1 - Fraction(math.comb(n - c, k), math.comb(n, k))) for c in cs]


def test_float32_at_n_16384():
  n, cs, ks = 16384, (1, 2, 16, 500, 8192, 16384), (1, 2, 8, 128, 2048, 16384)
  expected = [hit_probabilities(n, cs, k) for k in ks]
  values = jax.jit(lambda c, k: pkpo_jax.pass_at_k(c, n, k))(
    np.array(cs), np.array(ks)[:, None]
  )
  chex.assert_type(values, jnp.float32)
  np.testing.assert_allclose(values, expected, rtol=RANK_WEIGHT_ERROR)
  rewards = (np.arange(n) < np.array(cs)[:, None]).astype(np.float32)
  by_group = jax.vmap(max_at_k, (0, None))
  values = [by_group(rewards, k) for k in ks]
  # The error of the rank weights, and that of adding them up.
  np.testing.assert_allclose(values, expected, rtol=2 * RANK_WEIGHT_ERROR)


def test_standard_error_in_float32_at_n_16384():
  rewards = np.random.default_rng(0).uniform(size=16384).astype(np.float32)
  for k in (1, 8, 128):
    narrow = max_at_k_standard_error(rewards, k)
    with bits.enable_x64(True):
      wide = max_at_k_standard_error(rewards.astype(np.float64), k)
    # The left-out estimates differ by 1/n of their size, so that float32
    # leaves few digits; a standard error needs no more.
    np.testing.assert_allclose(narrow, wide, rtol=2e-2)


# --- Where no estimate exists.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite(bad):
  rewards = np.array([0.5, bad, 2.0, 1.0])
  where = np.array([True, False, True, True])
  for function, reference in (
    (max_at_k, exact.max_at_k),
    (max_at_k_standard_error, standard_error),
  ):
    assert np.isnan(function(rewards, 2))
    expected = float(reference((0.5, 2.0, 1.0), 2))
    masked = function(rewards, 2, where=where)
    np.testing.assert_allclose(masked, expected, rtol=1e-6)


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_all_masked_gives_nan(value):
  for function in (max_at_k, max_at_k_standard_error):
    assert np.isnan(function(np.full(4, value), 1, where=np.zeros(4, bool)))


@pytest.mark.parametrize("k", [-3, 0, 5, 1000])
def test_traced_k_out_of_range_gives_nan(k):
  assert np.isnan(max_at_k(np.arange(4.0), k))
  assert np.isnan(max_at_k_standard_error(np.arange(4.0), k))
  for function in (pkpo_jax.pass_at_k, pkpo_jax.pass_at_k_standard_error):
    assert np.isnan(jax.jit(function, static_argnums=1)(2, 4, k))


def test_standard_error_at_traced_k_n_is_nan():
  assert np.isnan(max_at_k_standard_error(np.arange(4.0), 4))
  error = jax.jit(pkpo_jax.pass_at_k_standard_error, static_argnums=1)
  assert np.isnan(error(2, 4, 4))


@pytest.mark.parametrize("c", [-1, 5])
def test_traced_c_out_of_range_gives_nan(c):
  assert np.isnan(jax.jit(pkpo_jax.pass_at_k, static_argnums=(1, 2))(c, 4, 2))


def test_static_k_beyond_the_unmasked_gives_nan():
  where = np.array([True, True, False, False])
  function = jax.jit(pkpo_jax.max_at_k, static_argnums=1)
  assert np.isnan(function(np.ones(4), 3, where=where))


@pytest.mark.parametrize(
  "dtype", ["uint8", "uint16", "int8", "int64", "uint64"]
)
def test_counts_of_any_integer_type(dtype):
  """Nothing is subtracted in a type that wraps around."""
  c, k = np.array([0, 1, 2, 100]), np.array([1, 2, 3, 99])
  for function in (pkpo_jax.pass_at_k, pkpo_jax.pass_at_k_standard_error):
    expected = function(c, 100, k)
    for n in (100, np.array(100, dtype), np.full(4, 100, dtype)):
      values = function(c.astype(dtype), n, k.astype(dtype))
      np.testing.assert_array_equal(values, expected)
    assert np.all(np.isfinite(expected))


def test_counts_beyond_32_bits_do_not_come_back_as_small_ones():
  assert np.isnan(pkpo_jax.pass_at_k(np.array([2**32 + 1]), 4, 2))[0]
  assert np.isnan(pkpo_jax.pass_at_k(1, 4, np.array([2**32 + 1])))[0]
  with pytest.raises(ValueError, match=r"num_correct=4\.29497e\+09"):
    pkpo_jax.pass_at_k(2**32 + 1, 4, 2)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_the_standard_error_does_not_depend_on_the_zero(offset):
  rewards = np.array([0, 1, 0, 1, 1, 0, 0, 0] * 2, np.float32)
  for k in (1, 4, 15):
    expected = float(pkpo_jax.pass_at_k_standard_error(6, 16, k))
    error = max_at_k_standard_error(rewards + np.float32(offset), k)
    np.testing.assert_allclose(error, expected, rtol=1e-5, atol=1e-7)


def test_the_standard_error_of_pass_at_k_where_almost_all_are_right():
  """Its closed form, at n = 10,000: no difference of nearly equal estimates."""
  n, k = 10_000, 3
  for c in (1, 9_900, 9_990):
    miss = Fraction(math.comb(n - c, k), math.comb(n, k))
    variance = miss**2 * Fraction(k, n - k) ** 2 * (n - 1) * Fraction(c, n - c)
    error = pkpo_jax.pass_at_k_standard_error(c, n, k)
    np.testing.assert_allclose(error, math.sqrt(variance), rtol=1e-5)
