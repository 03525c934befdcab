"""transforms.pkpo: unbiased, and equal to their definitions."""

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
from helpers import bits, exact, transformed

import pkpo_jax

# --- Values, against enumeration.


@pytest.mark.parametrize(
  ("name", "n"),
  [
    (f, n)
    for f in exact.PKPO
    for n in range(1, 8)
    if transformed.valid_ks(f, n)
  ],
)
def test_is_its_definition(name, n):
  transformed.assert_is_its_definition(name, n)


@pytest.mark.slow
@pytest.mark.parametrize("name", exact.PKPO)
def test_a_mask_drops_samples(name):
  transformed.assert_a_mask_drops_samples(name)


# --- Unbiasedness, over every group that a policy can sample.


def test_the_policy_gradient_reference():
  """Central differences of max@k, in fractions: the error is of order h^2."""
  h = 1e-4
  for rewards, k in itertools.product(transformed.ACTION_REWARDS, (1, 2, 4)):

    def value(logits, rewards=rewards, k=k):
      probs = np.exp(logits) / np.sum(np.exp(logits))
      groups = itertools.product(range(3), repeat=k)
      return sum(
        math.prod(probs[a] for a in group) * max(rewards[a] for a in group)
        for group in groups
      )

    logits = np.log(exact.floats(transformed.PROBS))
    numeric = [
      (value(logits + h * e) - value(logits - h * e)) / (2 * h)
      for e in np.eye(3)
    ]
    np.testing.assert_allclose(
      transformed.gradient(rewards, k), numeric, atol=1e-7
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("name", exact.PKPO)
def test_is_unbiased(name, n):
  for k, rewards in itertools.product(
    transformed.valid_ks(name, n), transformed.ACTION_REWARDS
  ):
    mean = transformed.expected_estimate(
      transformed.weights_of_samples(n, rewards)[name][k - 1], n
    )
    np.testing.assert_allclose(
      mean, transformed.gradient(rewards, k), atol=1e-14
    )


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_centring_s_shrinks_the_gradient(k):
  """A bias of public copies, and proof that these tests can see a bias."""
  for rewards in transformed.ACTION_REWARDS:
    s = transformed.weights_of_samples(4, rewards)["s"][k - 1]
    mean = transformed.expected_estimate(s - s.mean(axis=1, keepdims=True), 4)
    true = transformed.gradient(rewards, k)
    np.testing.assert_allclose(mean, (1 - k / 4) * true, atol=1e-14)
    assert np.max(np.abs(mean - true)) > 1e-3


# --- Identities.


@pytest.mark.parametrize("n", range(2, 8))
def test_sums(n):
  for case in itertools.product(exact.groups(n), range(1, n + 1)):
    rewards, k = case
    sums = {
      name: np.sum(transformed.evaluated(n)[name][case]) for name in exact.PKPO
    }
    rho = float(exact.max_at_k(rewards, k))
    np.testing.assert_allclose(sums["s"], k * rho, rtol=1e-12, atol=1e-12)
    if k < n:
      np.testing.assert_allclose(sums["sloo"], -k * rho / (n - 1), atol=1e-12)
      np.testing.assert_allclose(sums["scloo"], 0, atol=1e-12)
    if k > 1:
      less = float(exact.max_at_k(rewards, k - 1))
      expected = k * (rho - less)
      np.testing.assert_allclose(sums["sloo_minus_one"], expected, atol=1e-12)


@pytest.mark.parametrize("n", range(2, 8))
@pytest.mark.parametrize("name", exact.PKPO)
def test_a_shift_of_the_rewards(name, n):
  for rewards, k in itertools.product(
    exact.groups(n), transformed.valid_ks(name, n)
  ):
    move = {"s": k / n, "sloo": k / n - k / (n - 1)}.get(name, 0)
    shifted = tuple(g + transformed.SHIFT for g in rewards)
    expected = (
      transformed.evaluated(n)[name][rewards, k] + transformed.SHIFT * move
    )
    weights = transformed.evaluated(n)[name][shifted, k]
    np.testing.assert_allclose(weights, expected, atol=1e-12)


@pytest.mark.parametrize("name", exact.PKPO)
def test_scales_with_the_rewards(name):
  for k, rewards in itertools.product((1, 2, 4), exact.groups(5)):
    weights = transformed.jitted(name, rewards, k)
    scaled = transformed.jitted(name, 8 * np.array(rewards), k)
    np.testing.assert_array_equal(scaled, 8 * weights)  # 8: no rounding.


def rho(n, c, k):
  return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def binary_weights(n, c, k):
  """{name: (weight of a right sample, of a wrong one)}, 1 <= c <= n - 1."""
  share, lower = Fraction(k, n), math.comb(n - 1, k - 1)
  right, wrong = share, share * rho(n - 1, c, k - 1)  # eq 8
  weights = {"s": (right, wrong)}
  if k < n:
    weights["sloo"] = (
      right - Fraction(k, n - 1) * rho(n - 1, c - 1, k),
      wrong - Fraction(k, n - 1) * rho(n - 1, c, k),
    )
  if k > 1:
    first = share * Fraction(math.comb(n - c, k - 1), lower)
    weights["sloo_minus_one"] = (first, Fraction(0))
  return weights


@pytest.mark.parametrize("n", range(2, 8))
def test_binary_closed_forms(n):
  for c, k in itertools.product(range(1, n), range(1, n + 1)):
    rewards = (0.0,) * (n - c) + (1.0,) * c
    for name, (right, wrong) in binary_weights(n, c, k).items():
      weights = transformed.evaluated(n)[name][rewards, k]
      np.testing.assert_allclose(weights[n - c :], float(right), atol=1e-14)
      np.testing.assert_allclose(weights[: n - c], float(wrong), atol=1e-14)
      assert name != "sloo_minus_one" or k == 1 or not np.any(weights[: n - c])


@pytest.mark.parametrize("n", range(2, 8))
def test_k_n_pays_the_unique_best_alone(n):
  """The method of Tang et al. (arXiv:2503.19595)."""
  for rewards in exact.groups(n):
    *_, second, best = sorted(rewards)
    np.testing.assert_allclose(transformed.evaluated(n)["s"][rewards, n], best)
    expected = np.where(np.array(rewards) == best, best - second, 0)
    weights = transformed.evaluated(n)["sloo_minus_one"][rewards, n]
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("n", range(2, 8))
def test_k_1_is_reinforce(n):
  for rewards in exact.groups(n):
    others = (sum(rewards) - np.array(rewards)) / (n - 1)
    rloo = (np.array(rewards) - others) / n
    plain = transformed.evaluated(n)["s"][rewards, 1]
    np.testing.assert_allclose(plain, np.array(rewards) / n, atol=1e-13)
    for name in ("scloo", "sloo_minus_one", "rloo"):
      weights = transformed.evaluated(n)[name][rewards, 1]
      np.testing.assert_allclose(weights, rloo, atol=1e-13)


@pytest.mark.parametrize("n", range(2, 8))
def test_scloo_is_centred_s_without_its_bias(n):
  for rewards, k in itertools.product(exact.groups(n), range(1, n)):
    s = np.array(exact.floats(exact.s(rewards, k)))
    expected = (s - s.mean()) / (1 - k / n)
    weights = transformed.evaluated(n)["scloo"][rewards, k]
    np.testing.assert_allclose(weights, expected, atol=1e-13)


# --- Properties.

a_group = st.sampled_from([2, 5]).flatmap(transformed.rewards_of_length)
a_name = st.sampled_from(sorted(exact.PKPO))


def draw_k(data, name, n):
  return data.draw(
    st.sampled_from(list(transformed.valid_ks(name, n))), label="k"
  )


@transformed.properties
@hypothesis.given(a_group, st.integers(2, 5))
def test_sloo_minus_one_is_never_negative(rewards, k):
  hypothesis.assume(k <= len(rewards))
  assert np.all(transformed.jitted("sloo_minus_one", np.array(rewards), k) >= 0)


@pytest.mark.slow
@transformed.properties
@hypothesis.given(a_name, a_group, st.data())
def test_weights_follow_the_order_of_the_rewards(name, rewards, data):
  k = draw_k(data, name, len(rewards))
  weights = transformed.jitted(name, np.array(rewards), k)
  assert np.all(np.diff(weights[np.argsort(rewards)]) >= 0)


@transformed.properties
@hypothesis.given(a_name, a_group, st.data())
def test_ties_get_equal_weights(name, rewards, data):
  rewards = np.round(np.array(rewards) / 8)
  k = draw_k(data, name, len(rewards))
  weights = np.array(transformed.jitted(name, rewards, k))
  for value in set(rewards):
    assert len(set(weights[rewards == value])) == 1


@pytest.mark.slow
@transformed.properties
@hypothesis.given(a_name, transformed.rewards_of_length(5), st.data())
def test_what_is_masked_does_not_matter(name, rewards, data):
  where = np.array(data.draw(st.tuples(*[st.booleans()] * 5), label="where"))
  junk = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
  k = draw_k(data, name, 5)
  weights = transformed.jitted(name, np.array(rewards), k, where=where)
  other = transformed.jitted(
    name, np.where(where, rewards, junk), k, where=where
  )
  np.testing.assert_array_equal(other, weights)


# --- Traced and static k, and sizes.


def test_a_vmap_over_k_alone():
  rewards = exact.GROUPS[0][:5]
  by_k = jax.vmap(pkpo_jax.sloo_minus_one, (None, 0))
  weights = jax.jit(by_k)(np.array(rewards), np.arange(1, 6))
  expected = transformed.references(
    "sloo_minus_one", [rewards] * 5, range(1, 6)
  )
  np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)


def test_one_trace_serves_an_annealed_run():
  traces = []
  schedule = pkpo_jax.piecewise_k([6, 2, 1], [4, 8])

  @jax.jit
  def train_step(rewards, step):
    traces.append(step)
    k = schedule(step)
    return jax.vmap(pkpo_jax.sloo_minus_one, (0, None))(rewards, k)

  rewards = exact.groups(7)
  for step in range(12):
    k = 6 if step < 4 else 2 if step < 8 else 1
    weights = train_step(np.array(rewards), step)
    expected = transformed.references(
      "sloo_minus_one", rewards, [k] * len(rewards)
    )
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)
  assert len(traces) == 1


LARGE = 16384


@pytest.mark.slow
def test_float32_at_n_16384():
  ks = np.array([1, 2, 8, 128, 4096, LARGE - 1])
  rewards = np.random.default_rng(0).normal(size=LARGE).astype(np.float32)
  rewards[: LARGE // 2] = np.round(rewards[: LARGE // 2])  # Ties.
  groups = np.tile(rewards, (ks.size, 1))
  narrow = transformed.by_name(tuple(exact.PKPO), groups, ks)
  with bits.enable_x64(True):
    wide = transformed.by_name(tuple(exact.PKPO), groups.astype(np.float64), ks)
  scale = ks[:, None] / LARGE * np.max(np.abs(rewards))
  for name in exact.PKPO:
    chex.assert_type([narrow[name], wide[name]], [jnp.float32, jnp.float64])
    error = np.abs(np.asarray(narrow[name]) - np.asarray(wide[name])) / scale
    # Rank weights add up over the gaps, and sloo subtracts two such sums.
    assert np.max(error) < 4 * transformed.RANK_WEIGHT_ERROR, name


@pytest.mark.slow
def test_small_weights_keep_their_relative_precision_at_n_16384():
  """`sloo_minus_one` adds no terms of opposite signs."""
  for c in (1, 16, 500):
    ks = np.array([2, 8, 128, 1000, 4096, LARGE])
    groups = np.tile(np.arange(LARGE) < c, (ks.size, 1)).astype(np.float32)
    weights = np.asarray(
      transformed.by_name(tuple(exact.PKPO), groups, ks)["sloo_minus_one"]
    )
    for k, row in zip(ks.tolist(), weights):
      share = Fraction(math.comb(LARGE - c, k - 1), math.comb(LARGE - 1, k - 1))
      expected = float(share * Fraction(k, LARGE))
      np.testing.assert_allclose(
        row[:c], expected, rtol=transformed.RANK_WEIGHT_ERROR, atol=1e-37
      )
      assert not np.any(row[c:])


@pytest.mark.parametrize("name", exact.PKPO)
def test_static_k_beyond_the_unmasked_gives_zeros(name):
  where = np.array([True, True, True, False, False])
  weights = pkpo_jax.get_transform(name)(np.arange(5.0), 4, where=where)
  np.testing.assert_array_equal(weights, np.zeros(5))
