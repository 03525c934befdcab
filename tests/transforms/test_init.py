"""What all transforms promise, and how one is got by its name."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import exact, transformed

import pkpo_jax


def draw_k(data, name, n):
  return data.draw(
    st.sampled_from(list(transformed.valid_ks(name, n))), label="k"
  )


@pytest.mark.slow
@transformed.properties
@hypothesis.given(st.sampled_from(exact.NAMES), st.data())
def test_permuting_samples_permutes_weights(name, data):
  group = transformed.rewards_of_length(5)
  rewards = np.array(data.draw(group, label="rewards"))
  order = np.array(data.draw(st.permutations(range(5)), label="order"))
  k = draw_k(data, name, 5)
  weights = np.array(transformed.jitted(name, rewards, k))
  permuted = np.array(transformed.jitted(name, rewards[order], k))
  if name in exact.WITHOUT_K:
    # Their means add in the order of the samples.
    np.testing.assert_allclose(permuted, weights[order], rtol=1e-5, atol=1e-6)
  else:
    np.testing.assert_array_equal(permuted, weights[order])


@pytest.mark.slow
@pytest.mark.parametrize("name", exact.NAMES)
def test_under_jax_transformations(name):
  """Four groups at four k: plain, jitted, and vmapped without and with jit."""
  plain, rewards = pkpo_jax.get_transform(name), four_groups(name)
  ks = np.array([2, 4, 1, 3], np.int32)
  expected = transformed.references(name, rewards, ks)
  rows, vmapped = list(zip(rewards, ks)), jax.vmap(plain)
  for weights in (
    [plain(*row) for row in rows],
    [transformed.jitted(name, *row) for row in rows],
    vmapped(rewards, ks),
    jax.jit(vmapped)(rewards, ks),
  ):
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)


def four_groups(name):
  return np.array(transformed.groups_for(name, 5)[-4:])


@pytest.mark.parametrize("name", exact.TAKES_K)
def test_static_k_gives_the_same(name):
  rewards = transformed.groups_for(name, 5)[3]
  for k in transformed.valid_ks(name, 5):
    weights = pkpo_jax.get_transform(name)(np.array(rewards), k)
    (expected,) = transformed.references(name, [rewards], [k])
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", exact.NAMES)
def test_narrow_rewards_are_computed_in_float32(name):
  """All promote them at one door, where every dtype is tried."""
  rewards = (0, 1, 1, 0, 0)
  weights = pkpo_jax.get_transform(name)(jnp.array(rewards, bool), 2)
  chex.assert_type(weights, jnp.float32)
  chex.assert_shape(weights, (5,))
  (expected,) = transformed.references(name, [rewards], [2])
  np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_float64_stays_wide():
  rewards = jnp.array([0, 1, 1, 0, 0], "float64")
  for name in exact.NAMES:
    out = jax.eval_shape(pkpo_jax.get_transform(name), rewards, 2)
    assert out.dtype == jnp.float64, name


def test_one_sample():
  np.testing.assert_array_equal(transformed.jitted("s", [2.5], 1), [2.5])
  for reward in (0.0, 1.0):
    np.testing.assert_array_equal(
      transformed.jitted("maxrl", [reward]), [reward]
    )
    np.testing.assert_array_equal(
      transformed.jitted("passk_training", [reward]), [0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_all_masked_gives_zeros(value):
  rewards, nothing = np.full(5, value), np.zeros(5, bool)
  for name in exact.NAMES:
    weights = transformed.jitted(name, rewards, 1, where=nothing)
    np.testing.assert_array_equal(weights, np.zeros(5), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", exact.TAKES_K)
def test_traced_k_out_of_range_gives_nan(name):
  """For every sample: no group of this size has such weights."""
  rewards = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
  function = pkpo_jax.get_transform(name)
  ks = [-(2**31), -3, 0, 6 - exact.PKPO.get(name, 0), 1000, 2**31 - 1]
  for where in (None, np.array([True, True, False, True, True])):
    weights = jax.jit(
      jax.vmap(lambda k, where=where: function(rewards, k, where=where))
    )(np.array(ks, np.int32))
    assert np.all(np.isnan(weights))


@pytest.mark.slow
@pytest.mark.parametrize("name", exact.TAKES_K)
def test_groups_that_a_mask_made_too_small_get_zeros(name):
  """One group of five, and one of two: k = 3 is in range for n = 5."""
  where = np.array([[True] * 5, [True, True, False, False, False]])
  function = pkpo_jax.get_transform(name)
  weights = jax.jit(
    jax.vmap(
      lambda k, where: function(np.arange(5.0), k, where=where), (None, 0)
    )
  )(3, where)
  assert np.all(np.isfinite(weights)) and np.any(weights[0])
  np.testing.assert_array_equal(weights[1], np.zeros(5))


def test_an_annealed_schedule_beyond_n_is_not_a_silent_zero():
  schedule = pkpo_jax.piecewise_k([8, 1], [10])
  weights = jax.jit(
    lambda g, step: jax.vmap(pkpo_jax.sloo_minus_one, (0, None))(
      g, schedule(step)
    )
  )
  assert np.all(np.isnan(weights(np.ones((2, 4)), 0)))
  np.testing.assert_array_equal(weights(np.ones((2, 4)), 10), np.zeros((2, 4)))


@pytest.mark.parametrize("name", exact.TAKES_K)
def test_static_k_out_of_range(name):
  last = 4 - exact.PKPO.get(name, 0)
  for k in (-1, 0, last + 1):
    message = rf"^{name}: k={k} is out of range for n=4 .* 1\.\.{last}\."
    with pytest.raises(ValueError, match=message):
      pkpo_jax.get_transform(name)(np.ones(4), k)


@pytest.mark.parametrize("name", exact.BASELINED)
def test_a_baseline_needs_two_samples(name):
  function = pkpo_jax.get_transform(name)
  for f in (function, jax.jit(function)):
    with pytest.raises(ValueError, match=rf"^{name}: .*n=1"):
      f(np.ones(1), 1)


@pytest.mark.parametrize("name", exact.TAKES_K)
def test_k_must_be_an_integer_scalar(name):
  message = rf"^{name}: k must be an integer scalar.*n=4, valid k: 1\.\."
  with pytest.raises(ValueError, match=message):
    pkpo_jax.get_transform(name)(np.ones(4), 2.0)


@pytest.mark.parametrize("name", exact.NAMES)
def test_checks_its_group(name):
  """By `check_rewards`, where every mistake is tried."""
  transform = pkpo_jax.get_transform(name)
  with pytest.raises(ValueError, match=rf"^{name}: rewards must be one group"):
    transform(np.ones((2, 4)), 1)
  with pytest.raises(ValueError, match=rf"^{name}: where must be bool"):
    transform(np.ones(4), 1, where=np.ones(4))


@pytest.mark.slow
@pytest.mark.parametrize("name", exact.NAMES)
def test_weights_are_constants_to_the_gradient(name):
  """Rewards that are differentiable do not add a gradient of their own."""
  function = pkpo_jax.get_transform(name)
  slope = jax.grad(lambda g: jnp.sum(function(g, 2) * jnp.arange(4.0)))
  np.testing.assert_array_equal(slope(jnp.array([1.0, 0, 0.5, 0])), np.zeros(4))


@pytest.mark.slow
def test_estimators_stay_differentiable():
  slope = jax.grad(lambda g: pkpo_jax.max_at_k(g, 2))(jnp.array([1.0, 0, 3.0]))
  np.testing.assert_allclose(slope, [1 / 3, 0, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("name", exact.NAMES)
def test_get_transform(name):
  assert pkpo_jax.get_transform(name) is getattr(pkpo_jax, name)


@pytest.mark.parametrize("name", ["", "SLOO", "sloo_minus_2", "k_mixture"])
def test_get_transform_of_an_unknown_name(name):
  with pytest.raises(ValueError, match=f"{name!r}") as error:
    pkpo_jax.get_transform(name)
  assert all(known in str(error.value) for known in exact.NAMES)
