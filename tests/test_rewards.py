"""pkpo_jax._rewards: what comes in at the door, and what is turned away."""

import decimal
import fractions

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import exact

import pkpo_jax
from pkpo_jax import _rewards

# All that ignore a shift of the rewards, as functions of rewards and where.
SHIFT_FREE = {
  "rloo": pkpo_jax.rloo,
  "grpo": pkpo_jax.grpo,
  "dr_grpo": pkpo_jax.dr_grpo,
  "tailrl": pkpo_jax.tailrl,
  "order_statistics": lambda g, **kw: pkpo_jax.order_statistics(
    g, [1.0, 2.0], **kw
  ),
  "scloo": lambda g, **kw: pkpo_jax.scloo(g, 2, **kw),
  "sloo_minus_one": lambda g, **kw: pkpo_jax.sloo_minus_one(g, 2, **kw),
  "passk_training": lambda g, **kw: pkpo_jax.passk_training(g, 2, **kw),
  "k_mixture": lambda g, **kw: pkpo_jax.k_mixture(g, np.ones(2), **kw),
  "max_at_k_standard_error": lambda g, **kw: pkpo_jax.max_at_k_standard_error(
    g, 2, **kw
  ),
}
# And those that do not.
OTHERS = {
  "s": lambda g, **kw: pkpo_jax.s(g, 2, **kw),
  "sloo": lambda g, **kw: pkpo_jax.sloo(g, 2, **kw),
  "maxrl": pkpo_jax.maxrl,
  "max_at_k": lambda g, **kw: pkpo_jax.max_at_k(g, 2, **kw),
}
ALL = SHIFT_FREE | OTHERS


def check(rewards, where=None, **options):
  return _rewards.check_rewards("f", rewards, where, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
  "dtype", ["bool", "int8", "uint8", "int32", "bfloat16", "float16", "float32"]
)
@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_narrow_rewards_become_float32(array, dtype):
  given = array([0, 1, 1], dtype)
  for shift_free in (False, True):
    checked = check(given, shift_free=shift_free)
    chex.assert_type([checked.values, checked.n], jnp.float32)
    np.testing.assert_array_equal(checked.values * checked.unit, [0, 1, 1])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["int64", "bfloat16", "float32", "float64"])
def test_only_float64_stays_wide(dtype):
  expected = jnp.float64 if dtype == "float64" else jnp.float32
  for given in (np.array([0, 1], dtype), jnp.array([0, 1], dtype)):
    checked = check(given)
    chex.assert_type([checked.values, checked.n], expected)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_rewards_must_be_one_group(shape):
  with pytest.raises(ValueError, match=r"^f: rewards must be one group"):
    check(np.ones(shape))


@pytest.mark.parametrize(
  "rewards",
  [
    np.ones(2, complex),
    jnp.ones(2, complex),
    ["1", "0"],
    [1, None],
    [1, "0"],
    np.zeros(2, "m8[ns]"),
  ],
)
def test_rewards_must_be_real(rewards):
  with pytest.raises(ValueError, match=r"^f: rewards must be real"):
    check(rewards)


def test_the_mask_of_a_masked_array_is_not_lost():
  rewards = np.ma.array([1.0, 5.0, 0.0], mask=[0, 1, 0])
  with pytest.raises(ValueError, match=r"^f: .* where=~rewards\.mask"):
    check(rewards)
  checked = check(rewards.data, ~rewards.mask)
  np.testing.assert_array_equal(checked.values * checked.unit, [1, 0, 0])


@pytest.mark.parametrize(
  "where", [np.ones(3, bool), np.ones(4), np.ones((1, 4), bool)]
)
def test_where_must_be_bool_of_the_same_shape(where):
  with pytest.raises(ValueError, match=r"^f: where must be bool of shape \(4"):
    check(np.ones(4), where)


# --- Wide numbers of the host.

CLOSE = (3, 1, 2, 7, 2)
FAR = {
  "int64": np.array(CLOSE) - 2**62,
  "uint64": np.array(CLOSE, np.uint64) + np.uint64(2**63),
  "whole range": np.array([2**63 - 1, -(2**63), 0]),
  "python": [c + 10**30 for c in CLOSE],
  "negative python": [c - 10**30 for c in CLOSE],
  "fractions": [fractions.Fraction(c, 1) + 10**20 for c in CLOSE],
  "decimals": [decimal.Decimal(c) + 10**20 for c in CLOSE],
  "float64": np.array(CLOSE) + 2.0**40,
  "beyond float32": np.array(CLOSE) * 2.0**80 + 2.0**130,
  "longdouble": np.array(CLOSE, np.longdouble) + np.longdouble(2) ** 52,
  "uint8": np.array([250, 3, 128, 3], np.uint8),
  "int8": np.array([-128, 127, 3, 0], np.int8),
  "int32": np.array([2**31 - 1, 2**31 - 2, 2**31 - 3], np.int32),
  "uint32": np.array([2**32 - 1, 2**32 - 2, 0], np.uint32),
}


def differences(rewards):
  """[n] floats: what each reward has beyond the smallest, exactly."""
  values = [
    fractions.Fraction(*v.as_integer_ratio())
    for v in np.asarray(rewards).tolist()
  ]
  return exact.floats([v - min(values) for v in values])


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAR)
@pytest.mark.parametrize("name", SHIFT_FREE)
def test_large_numbers_that_differ_by_little_stay_apart(name, kind):
  function, small = SHIFT_FREE[name], differences(FAR[kind])
  np.testing.assert_allclose(
    function(FAR[kind]), function(small), rtol=3e-6, atol=2e-7 * max(small)
  )


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "uint32"])
def test_close_integers_stay_apart_where_they_are_traced(kind):
  given = jnp.array(FAR[kind])
  where = np.arange(given.size) != 1
  kept = np.array(differences(np.array(given)[where]))
  values, unit = jax.jit(lambda g: check(g, where, shift_free=True)[:2])(given)
  np.testing.assert_array_equal((values * unit)[where], np.float32(kept))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["int64", "uint64", "whole range"])
def test_64_bit_arrays_of_jax_stay_apart(kind):
  for given in (FAR[kind], jnp.array(FAR[kind])):
    values, unit = jax.jit(lambda g: check(g, shift_free=True)[:2])(given)
    expected = np.float32(differences(FAR[kind]))
    np.testing.assert_array_equal(values * unit, expected)


@pytest.mark.slow
def test_64_bit_integers_keep_their_sign():
  """Run times in nanoseconds, as costs."""
  costs = np.array([-2.5e9, -1e9, -1.2e9, -3e9]).astype("int64")
  for name, function in ALL.items():
    wide, narrow = function(costs), function(costs.astype(np.float32))
    np.testing.assert_allclose(wide, narrow, rtol=1e-5, err_msg=name)
  assert np.array_equal(np.sign(pkpo_jax.rloo(costs)), [-1, 1, 1, -1])


def test_a_masked_number_is_no_origin():
  """Neither a known mask nor one that is traced lets it swallow the others."""
  rewards = np.array([2**60, 2**60 + 1, -1, 2**60 + 3])
  where = np.array([True, True, False, True])
  expected = pkpo_jax.rloo([0, 1, 0, 3], where=where)
  traced = jax.jit(lambda where: pkpo_jax.rloo(rewards, where=where))
  for weights in (pkpo_jax.rloo(rewards, where=where), traced(where)):
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


# --- Near the limit of the floats.


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_scales_up_to_the_limit_of_float32(name):
  """No sum or square overflows on the way to a weight that is finite."""
  small = np.array([1.0, -1.0, 0.5, 1.0, 0.25], np.float32)
  for scale in (2.0**64, 2.0**127, 2.0**-100):
    scale = np.float32(scale)
    by = 1 if name in ("grpo", "passk_training") else scale
    expected = np.asarray(ALL[name](small)) * by
    if name == "grpo" and scale < 1:
      expected = np.asarray(pkpo_jax.dr_grpo(small)) * scale / 1e-6
    values = jax.jit(ALL[name])(small * scale)
    np.testing.assert_allclose(values, expected, rtol=2e-6)


def test_grpo_of_huge_rewards():
  for huge in (2e19, 1e30, 3e38):
    weights = pkpo_jax.grpo(np.array([huge, 0, 0, huge], np.float32))
    expected = 0.2165064 * np.array([1, -1, -1, 1])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
  ("rewards", "shown"),
  [
    (np.array([0, 1e39, -1e39, 0]), r"rewards\[1\]=1e\+39"),
    ([0, 1, 10**39, 10**400], r"rewards\[3\]=1000"),
    ([0.0, 1.0, 2.0, -(10**400)], r"rewards\[3\]=-1000"),
  ],
)
def test_overflow_names_the_value(name, rewards, shown):
  with pytest.raises(ValueError, match=f"{shown}.* is not a finite float32"):
    ALL[name](rewards)


# --- Not finite.


@pytest.mark.slow
@pytest.mark.parametrize("array", [np.array, jnp.array, list])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_concrete_reward_that_is_not_finite(bad, array):
  rewards = array([0.5, bad, 2.0, 1.0])
  where = np.array([True, False, True, True])
  for function in ALL.values():
    with pytest.raises(
      ValueError, match=rf"rewards\[1\]={bad} is not .*where="
    ):
      function(rewards)
    masked = function(rewards, where=where)
    assert np.all(np.isfinite(masked))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_traced_reward_that_is_not_finite_gives_nan(name):
  """It neither vanishes nor becomes a number; nor does one under a mask."""
  function = jax.jit(lambda g, where: ALL[name](g, where=where))
  where = np.array([True, True, False, True])
  for bad in (np.inf, -np.inf, np.nan):
    rewards = np.array([0.5, bad, 2.0, 1.0], np.float32)
    values = np.asarray(function(rewards, where))
    assert np.all(
      np.isnan(values) if values.ndim == 0 else np.isnan(values) == where
    )
    values = function(rewards, np.array([True, False, True, True]))
    assert np.all(np.isfinite(values))
  closed = jax.jit(lambda where: ALL[name](rewards, where=where))
  np.testing.assert_array_equal(
    np.isnan(closed(where)), np.isnan(function(rewards, where))
  )


def test_an_ungraded_none_needs_a_mask():
  where = np.array([True, False, True])
  with pytest.raises(ValueError, match=r"hold None; leave out .* where="):
    pkpo_jax.rloo([1, None, 0])
  np.testing.assert_array_equal(
    pkpo_jax.rloo([1, None, 0], where=where), [0.5, 0, -0.5]
  )


@pytest.mark.slow
@pytest.mark.parametrize("rewards", [(1, 0, 2), [True, False, True]])
def test_sequences_of_python_and_of_tracers(rewards):
  expected = pkpo_jax.s(np.array(rewards, np.float32), 2)
  np.testing.assert_array_equal(pkpo_jax.s(rewards, 2), expected)
  traced = jax.jit(lambda *rewards: pkpo_jax.s(rewards, 2))(*rewards)
  np.testing.assert_array_equal(traced, expected)
  narrow = pkpo_jax.s(np.array(rewards, ml_dtypes.bfloat16), 2)
  np.testing.assert_array_equal(narrow, expected)


# --- k.


@pytest.mark.parametrize(
  "k", [2.0, 1.5, True, np.float32(2), np.ones(2, int), "2", [2, 3], None]
)
def test_k_must_be_an_integer_scalar(k):
  message = r"^f: k must be an integer scalar.*n=4, valid k: 1\.\.3"
  with pytest.raises(ValueError, match=message):
    _rewards.check_k("f", 4, k, last=3)


@pytest.mark.parametrize("k", [-1, 0, 4, np.int64(9), jnp.int32(4), 2**70])
def test_a_concrete_k_out_of_range(k):
  message = rf"^f: k={k} is out of range for n=4 .* 1\.\.3\."
  with pytest.raises(ValueError, match=message):
    _rewards.check_k("f", 4, k, last=3)


def test_a_traced_k_where_none_is_valid():
  with pytest.raises(ValueError, match=r"k=\(traced\) .* valid k: none"):
    jax.jit(lambda k: _rewards.check_k("f", 1, k, last=0))(1)
  jax.jit(lambda k: _rewards.check_k("f", 4, k, last=3))(99)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int8"])
def test_a_traced_k_is_clipped_and_that_is_noted(dtype):
  budget = jax.jit(lambda k: _rewards.as_budget("f", 4, k, 3, jnp.float32))
  for k in (0, 1, 3, 4, 127):
    value, in_range = budget(jnp.array(k, dtype))
    assert in_range == (1 <= k <= 3)
    assert value == (k if in_range else 1)
