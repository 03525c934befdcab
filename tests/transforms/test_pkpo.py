"""pkpo_jax.transforms against their definitions, enumerated in fractions."""

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
from helpers import exact

import pkpo_jax

# float32 rank weights at n = 16384 are within 3e-6.
RANK_WEIGHT_ERROR = 3e-6

properties = hypothesis.settings(
  deadline=None, derandomize=True, max_examples=60
)

# Unbiased for the gradient of max@k; the last valid k is n less this.
PKPO = {"s": 0, "sloo": 1, "sloo_minus_one": 0, "scloo": 1}
WITHOUT_K = ("rloo", "grpo", "dr_grpo")
BINARY = ("maxrl", "passk_training")
NAMES = (*PKPO, *WITHOUT_K, *BINARY)
# These need a second sample for their baseline.
BASELINED = ("sloo", "sloo_minus_one", "scloo", *WITHOUT_K)
TAKES_K = (*PKPO, "passk_training")


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def valid_ks(name, n):
  if name in BASELINED and n < 2:
    return range(0)
  return range(1, n + 1 - PKPO.get(name, 0))


def groups_for(name, n):
  return exact.binary_groups(n) if name in BINARY else exact.groups(n)


def references(name, rewards, ks):
  reference = getattr(exact, name)
  return exact.floats([reference(g, int(k)) for g, k in zip(rewards, ks)])


_jitted = {name: jax.jit(pkpo_jax.get_transform(name)) for name in NAMES}


def jitted(name, rewards, k=1, where=None):
  """The weights of one group, with a traced k."""
  return _jitted[name](np.asarray(rewards), np.int32(k), where=where)


@functools.partial(jax.jit, static_argnames="names")
def by_name(names, rewards, ks, where=None):
  """{name: weights [G, n]} of rewards [G, n] at ks [G], in one compilation."""
  if where is None:
    return {
      name: jax.vmap(getattr(pkpo_jax, name))(rewards, ks) for name in names
    }
  weights = {}
  for name in names:
    masked = functools.partial(_masked, getattr(pkpo_jax, name))
    weights[name] = jax.vmap(masked)(rewards, ks, where)
  return weights


def _masked(function, rewards, k, where):
  return function(rewards, k, where=where)


@functools.cache
def evaluated(n):
  """{name: {(rewards, k): weights [n]}} in float64, for every k."""
  shifted = [tuple(g + SHIFT for g in group) for group in exact.groups(n)]
  groups = exact.groups(n) + exact.binary_groups(n) + shifted
  cases = list(itertools.product(groups, range(1, n + 1)))
  names = tuple(f for f in NAMES if n > 1 or f not in BASELINED)
  with jax.enable_x64(True):
    weights = by_name(names, *map(np.array, zip(*cases)))
  return {f: dict(zip(cases, np.asarray(weights[f]))) for f in names}


SHIFT = 10.0

# --- Values, against enumeration.


@pytest.mark.parametrize(
  ("name", "n"),
  [(f, n) for f in NAMES for n in range(1, 8) if valid_ks(f, n)],
)
def test_is_its_definition(name, n):
  for case in itertools.product(groups_for(name, n), valid_ks(name, n)):
    weights = evaluated(n)[name][case]
    (expected,) = references(name, *zip(case))
    np.testing.assert_allclose(
      weights, expected, rtol=1e-13, atol=1e-13, err_msg=str(case)
    )


@functools.cache
def evaluated_with_masks(binary):
  """(cases, {name: weights [G, n]}) in float32, for every mask and k."""
  n = 5 if binary else 7
  groups = exact.binary_groups(n) if binary else exact.groups(n)
  cases = list(itertools.product(groups, range(1, n), exact.masks(n)))
  names = BINARY if binary else (*PKPO, *WITHOUT_K)
  return cases, by_name(names, *map(np.array, zip(*cases)))


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_drops_samples(name):
  cases, weights = evaluated_with_masks(name in BINARY)
  reference, ignores_k = getattr(exact, name), name not in TAKES_K
  expected = []
  for group, k, mask in cases:
    valid = valid_ks(name, sum(mask))
    defined = bool(valid) and (ignores_k or k in valid)
    values = (
      exact.masked(reference, group, mask, k) if defined else [0] * len(group)
    )
    expected.append(exact.floats(values))
  scale = np.max(np.abs([group for group, _, _ in cases]), axis=1).clip(1)
  error = np.abs(weights[name] - np.array(expected)) / scale[:, None]
  assert np.max(error) < 1e-6
  masked = ~np.array([mask for _, _, mask in cases])
  assert not np.any(np.asarray(weights[name])[masked])


K_MIXTURE = jax.jit(pkpo_jax.k_mixture)
MIXTURES = (
  (1.0, 0.0, 0.0, 0.0),
  (0.0, 1.0, 0.0, 0.0),
  (0.5, 0.25, 0.125, 0.0),
  (0.0, -1.0, 0.0, 3.0),
)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [2, 4, 7])
def test_k_mixture_is_its_definition(n):
  cases = list(itertools.product(exact.groups(n), MIXTURES))
  cases = [(group, mixture[:n]) for group, mixture in cases]
  weights = jax.vmap(K_MIXTURE)(*map(np.array, zip(*cases)))
  expected = exact.floats([exact.k_mixture(*case) for case in cases])
  np.testing.assert_allclose(weights, expected, rtol=1e-13, atol=1e-13)


def test_a_mask_drops_samples_from_k_mixture():
  mixture = (0.5, 0.25, 0.0, 2.0, 0.0, 0.0)
  cases = list(itertools.product(exact.groups(6), exact.masks(6)))
  expected = [
    exact.floats(exact.masked(exact.k_mixture, group, mask, mixture))
    if sum(mask) >= 4
    else [0.0] * 6
    for group, mask in cases
  ]
  rewards, where = map(np.array, zip(*cases))
  function = jax.vmap(lambda g, m: K_MIXTURE(g, np.array(mixture), where=m))
  weights = np.asarray(function(rewards, where))
  np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=1e-5)
  assert not np.any(weights[~where])


# --- Unbiasedness, over every group that a policy can sample.

PROBS = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 6))
ACTION_REWARDS = ((0.0, 1.0, 3.0), (1.0, 1.0, -2.0), (0.0, 0.0, 1.0))


def sampled_actions(n):
  return np.array(list(itertools.product(range(3), repeat=n)))


def expected_estimate(weights, n):
  """Exact mean of `sum_i w_i grad log p(x_i)` over the 3^n groups."""
  probs, actions = np.array(exact.floats(PROBS)), sampled_actions(n)
  scores = np.eye(3)[actions] - probs
  estimates = np.einsum("gi,gia->ga", weights, scores)
  return np.prod(probs[actions], axis=1) @ estimates


@functools.cache
def weights_of_samples(n, action_rewards):
  """{name: weights [K, 3^n, n]} in float64, for k = 1..n."""
  rewards = np.array(action_rewards)[sampled_actions(n)]
  ks = np.repeat(np.arange(1, n + 1), len(rewards))
  names = (*PKPO, "rloo", "dr_grpo") if n > 1 else ("s",)
  with jax.enable_x64(True):
    weights = by_name(names, np.tile(rewards, (n, 1)), ks)
  return {f: np.asarray(w).reshape(n, -1, n) for f, w in weights.items()}


def gradient(action_rewards, k):
  return np.array(exact.floats(exact.policy_gradient(PROBS, action_rewards, k)))


def test_the_policy_gradient_reference():
  """Central differences of max@k, in fractions: the error is of order h^2."""
  h = 1e-4
  for rewards, k in itertools.product(ACTION_REWARDS, (1, 2, 4)):

    def value(logits, rewards=rewards, k=k):
      probs = np.exp(logits) / np.sum(np.exp(logits))
      groups = itertools.product(range(3), repeat=k)
      return sum(
        math.prod(probs[a] for a in group) * max(rewards[a] for a in group)
        for group in groups
      )

    logits = np.log(exact.floats(PROBS))
    numeric = [
      (value(logits + h * e) - value(logits - h * e)) / (2 * h)
      for e in np.eye(3)
    ]
    np.testing.assert_allclose(gradient(rewards, k), numeric, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("name", PKPO)
def test_is_unbiased(name, n):
  for k, rewards in itertools.product(valid_ks(name, n), ACTION_REWARDS):
    mean = expected_estimate(weights_of_samples(n, rewards)[name][k - 1], n)
    np.testing.assert_allclose(mean, gradient(rewards, k), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_k_mixture_is_unbiased():
  mixture = (0.5, 0.0, 2.0, -0.25)
  batched = jax.vmap(K_MIXTURE, (0, None))
  for rewards in ACTION_REWARDS:
    groups = np.array(rewards)[sampled_actions(4)]
    mean = expected_estimate(batched(groups, np.array(mixture)), 4)
    true = sum(w * gradient(rewards, k) for k, w in enumerate(mixture, start=1))
    np.testing.assert_allclose(mean, true, atol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_rloo_is_unbiased_for_the_mean_and_dr_grpo_shrinks_it(n):
  for rewards in ACTION_REWARDS:
    weights, true = weights_of_samples(n, rewards), gradient(rewards, 1)
    mean = expected_estimate(weights["rloo"][0], n)
    np.testing.assert_allclose(mean, true, atol=1e-14)
    mean = expected_estimate(weights["dr_grpo"][0], n)
    np.testing.assert_allclose(mean, (1 - 1 / n) * true, atol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_centring_s_shrinks_the_gradient(k):
  """A bias of public copies, and proof that these tests can see a bias."""
  for rewards in ACTION_REWARDS:
    s = weights_of_samples(4, rewards)["s"][k - 1]
    mean = expected_estimate(s - s.mean(axis=1, keepdims=True), 4)
    true = gradient(rewards, k)
    np.testing.assert_allclose(mean, (1 - k / 4) * true, atol=1e-14)
    assert np.max(np.abs(mean - true)) > 1e-3


# --- Identities.


@pytest.mark.parametrize("n", range(2, 8))
def test_sums(n):
  for case in itertools.product(exact.groups(n), range(1, n + 1)):
    rewards, k = case
    sums = {name: np.sum(evaluated(n)[name][case]) for name in PKPO}
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
@pytest.mark.parametrize("name", PKPO)
def test_a_shift_of_the_rewards(name, n):
  for rewards, k in itertools.product(exact.groups(n), valid_ks(name, n)):
    move = {"s": k / n, "sloo": k / n - k / (n - 1)}.get(name, 0)
    shifted = tuple(g + SHIFT for g in rewards)
    expected = evaluated(n)[name][rewards, k] + SHIFT * move
    weights = evaluated(n)[name][shifted, k]
    np.testing.assert_allclose(weights, expected, atol=1e-12)


@pytest.mark.parametrize("name", [*PKPO, "rloo", "dr_grpo"])
def test_scales_with_the_rewards(name):
  for k, rewards in itertools.product((1, 2, 4), exact.groups(5)):
    weights = jitted(name, rewards, k)
    scaled = jitted(name, 8 * np.array(rewards), k)
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
      weights = evaluated(n)[name][rewards, k]
      np.testing.assert_allclose(weights[n - c :], float(right), atol=1e-14)
      np.testing.assert_allclose(weights[: n - c], float(wrong), atol=1e-14)
      assert name != "sloo_minus_one" or k == 1 or not np.any(weights[: n - c])


@pytest.mark.parametrize("n", range(2, 8))
def test_k_n_pays_the_unique_best_alone(n):
  """The method of Tang et al. (arXiv:2503.19595)."""
  for rewards in exact.groups(n):
    *_, second, best = sorted(rewards)
    np.testing.assert_allclose(evaluated(n)["s"][rewards, n], best)
    expected = np.where(np.array(rewards) == best, best - second, 0)
    weights = evaluated(n)["sloo_minus_one"][rewards, n]
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("n", range(2, 8))
def test_k_1_is_reinforce(n):
  for rewards in exact.groups(n):
    others = (sum(rewards) - np.array(rewards)) / (n - 1)
    rloo = (np.array(rewards) - others) / n
    plain = evaluated(n)["s"][rewards, 1]
    np.testing.assert_allclose(plain, np.array(rewards) / n, atol=1e-13)
    for name in ("scloo", "sloo_minus_one", "rloo"):
      weights = evaluated(n)[name][rewards, 1]
      np.testing.assert_allclose(weights, rloo, atol=1e-13)


@pytest.mark.parametrize("n", range(2, 8))
def test_maxrl_is_a_harmonic_mixture(n):
  for rewards in exact.binary_groups(n):
    blend = np.array(rewards) / n
    for k in range(2, n + 1):
      blend += evaluated(n)["sloo_minus_one"][rewards, k] / k
    maxrl = evaluated(n)["maxrl"][rewards, 1]
    np.testing.assert_allclose(maxrl, blend, atol=1e-14)


@pytest.mark.parametrize("n", range(2, 8))
def test_scloo_is_centred_s_without_its_bias(n):
  for rewards, k in itertools.product(exact.groups(n), range(1, n)):
    s = np.array(exact.floats(exact.s(rewards, k)))
    expected = (s - s.mean()) / (1 - k / n)
    weights = evaluated(n)["scloo"][rewards, k]
    np.testing.assert_allclose(weights, expected, atol=1e-13)


# --- Properties.

quarters = st.integers(-64, 64).map(lambda x: x / 4)


def rewards_of_length(n):
  return st.lists(quarters, min_size=n, max_size=n)


a_group = st.sampled_from([2, 5]).flatmap(rewards_of_length)
a_name = st.sampled_from(sorted(PKPO))


def draw_k(data, name, n):
  return data.draw(st.sampled_from(list(valid_ks(name, n))), label="k")


@properties
@hypothesis.given(a_group, st.integers(2, 5))
def test_sloo_minus_one_is_never_negative(rewards, k):
  hypothesis.assume(k <= len(rewards))
  assert np.all(jitted("sloo_minus_one", np.array(rewards), k) >= 0)


@properties
@hypothesis.given(a_name, a_group, st.data())
def test_weights_follow_the_order_of_the_rewards(name, rewards, data):
  k = draw_k(data, name, len(rewards))
  weights = jitted(name, np.array(rewards), k)
  assert np.all(np.diff(weights[np.argsort(rewards)]) >= 0)


@properties
@hypothesis.given(a_name, a_group, st.data())
def test_ties_get_equal_weights(name, rewards, data):
  rewards = np.round(np.array(rewards) / 8)
  k = draw_k(data, name, len(rewards))
  weights = np.array(jitted(name, rewards, k))
  for value in set(rewards):
    assert len(set(weights[rewards == value])) == 1


@properties
@hypothesis.given(st.sampled_from(NAMES), st.data())
def test_permuting_samples_permutes_weights(name, data):
  group = st.lists(st.sampled_from([0.0, 1.0]), min_size=5, max_size=5)
  group = group if name in BINARY else rewards_of_length(5)
  rewards = np.array(data.draw(group, label="rewards"))
  order = np.array(data.draw(st.permutations(range(5)), label="order"))
  k = draw_k(data, name, 5)
  weights = np.array(jitted(name, rewards, k))
  permuted = np.array(jitted(name, rewards[order], k))
  if name in WITHOUT_K:  # Their means add in the order of the samples.
    np.testing.assert_allclose(permuted, weights[order], rtol=1e-5, atol=1e-6)
  else:
    np.testing.assert_array_equal(permuted, weights[order])


@properties
@hypothesis.given(a_name, rewards_of_length(5), st.data())
def test_what_is_masked_does_not_matter(name, rewards, data):
  where = np.array(data.draw(st.tuples(*[st.booleans()] * 5), label="where"))
  junk = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
  k = draw_k(data, name, 5)
  weights = jitted(name, np.array(rewards), k, where=where)
  other = jitted(name, np.where(where, rewards, junk), k, where=where)
  np.testing.assert_array_equal(other, weights)


@properties
@hypothesis.given(rewards_of_length(5), st.integers(1, 5))
def test_k_mixture_of_one_k_is_that_k(rewards, k):
  mixture = K_MIXTURE(np.array(rewards), np.eye(5)[k - 1])
  weights = jitted("sloo_minus_one", np.array(rewards), k)
  np.testing.assert_allclose(mixture, weights, rtol=1e-6, atol=1e-6)


# --- Transformations of jax, dtypes, sizes.


@functools.cache
def variants(binary):
  """{variant: {name: weights [4, 5]}} of four groups at four k."""
  names = BINARY if binary else (*PKPO, *WITHOUT_K)
  rewards = np.array(groups_for(names[0], 5)[-4:])
  ks = np.array([2, 4, 1, 3], np.int32)
  plain = {f: pkpo_jax.get_transform(f) for f in names}
  rows = list(zip(rewards, ks))
  return {
    "plain": {f: [plain[f](*row) for row in rows] for f in names},
    "jit": {f: [jitted(f, *row) for row in rows] for f in names},
    "vmap": {f: jax.vmap(plain[f])(rewards, ks) for f in names},
    "jit_vmap": by_name(names, rewards, ks),
    "expected": {f: references(f, rewards, ks) for f in names},
  }


@pytest.mark.parametrize("variant", ["plain", "jit", "vmap", "jit_vmap"])
@pytest.mark.parametrize("name", NAMES)
def test_under_jax_transformations(name, variant):
  weights = variants(name in BINARY)
  np.testing.assert_allclose(
    weights[variant][name], weights["expected"][name], rtol=2e-6, atol=2e-6
  )


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


@pytest.mark.parametrize("name", TAKES_K)
def test_static_k_gives_the_same(name):
  rewards = groups_for(name, 5)[3]
  for k in valid_ks(name, 5):
    weights = pkpo_jax.get_transform(name)(np.array(rewards), k)
    (expected,) = references(name, [rewards], [k])
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)


def test_a_vmap_over_k_alone():
  rewards = exact.GROUPS[0][:5]
  by_k = jax.vmap(pkpo_jax.sloo_minus_one, (None, 0))
  weights = jax.jit(by_k)(np.array(rewards), np.arange(1, 6))
  expected = references("sloo_minus_one", [rewards] * 5, range(1, 6))
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
    expected = references("sloo_minus_one", rewards, [k] * len(rewards))
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)
  assert len(traces) == 1


@pytest.mark.parametrize(
  "dtype", ["bool", "int8", "uint8", "int32", "bfloat16", "float16", "float32"]
)
@pytest.mark.parametrize("name", NAMES)
def test_narrow_rewards_are_computed_in_float32(name, dtype):
  rewards = (0, 1, 1, 0, 0)
  weights = pkpo_jax.get_transform(name)(jnp.array(rewards, dtype), 2)
  chex.assert_type(weights, jnp.float32)
  chex.assert_shape(weights, (5,))
  (expected,) = references(name, [rewards], [2])
  np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["int64", "bfloat16", "float32", "float64"])
def test_only_float64_stays_wide(dtype):
  rewards = jnp.array([0, 1, 1, 0, 0], dtype)
  expected = jnp.float64 if dtype == "float64" else jnp.float32
  for name in NAMES:
    out = jax.eval_shape(pkpo_jax.get_transform(name), rewards, 2)
    assert out.dtype == expected, name
  out = jax.eval_shape(pkpo_jax.k_mixture, rewards, np.ones(3))
  assert out.dtype == expected


LARGE = 16384


def test_float32_at_n_16384():
  ks = np.array([1, 2, 8, 128, 4096, LARGE - 1])
  rewards = np.random.default_rng(0).normal(size=LARGE).astype(np.float32)
  rewards[: LARGE // 2] = np.round(rewards[: LARGE // 2])  # Ties.
  groups = np.tile(rewards, (ks.size, 1))
  narrow = by_name(tuple(PKPO), groups, ks)
  with jax.enable_x64(True):
    wide = by_name(tuple(PKPO), groups.astype(np.float64), ks)
  scale = ks[:, None] / LARGE * np.max(np.abs(rewards))
  for name in PKPO:
    chex.assert_type([narrow[name], wide[name]], [jnp.float32, jnp.float64])
    error = np.abs(np.asarray(narrow[name]) - np.asarray(wide[name])) / scale
    # Rank weights add up over the gaps, and sloo subtracts two such sums.
    assert np.max(error) < 4 * RANK_WEIGHT_ERROR, name


def test_small_weights_keep_their_relative_precision_at_n_16384():
  """`sloo_minus_one` adds no terms of opposite signs."""
  for c in (1, 16, 500):
    ks = np.array([2, 8, 128, 1000, 4096, LARGE])
    groups = np.tile(np.arange(LARGE) < c, (ks.size, 1)).astype(np.float32)
    weights = np.asarray(by_name(tuple(PKPO), groups, ks)["sloo_minus_one"])
    for k, row in zip(ks.tolist(), weights):
      share = Fraction(math.comb(LARGE - c, k - 1), math.comb(LARGE - 1, k - 1))
      expected = float(share * Fraction(k, LARGE))
      np.testing.assert_allclose(
        row[:c], expected, rtol=RANK_WEIGHT_ERROR, atol=1e-37
      )
      assert not np.any(row[c:])


@pytest.mark.parametrize("n", [2, LARGE])
def test_neighbours_at_any_size(n):
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
  weights = by_name(tuple(expected), rewards[None], np.array([1]))
  for name, values in expected.items():
    np.testing.assert_allclose(weights[name][0], values, rtol=3e-6)


def test_one_sample():
  np.testing.assert_array_equal(jitted("s", [2.5], 1), [2.5])
  for reward in (0.0, 1.0):
    np.testing.assert_array_equal(jitted("maxrl", [reward]), [reward])
    np.testing.assert_array_equal(jitted("passk_training", [reward]), [0])


# --- Groups for which a transform is not defined.


@pytest.mark.parametrize("name", [*PKPO, *WITHOUT_K])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite(name, bad):
  rewards = np.array([0.5, 1.0, bad, 2.0, 0.25])
  assert np.all(np.isnan(jitted(name, rewards, 2)))
  where = np.array([True, True, False, True, True])
  weights = jitted(name, rewards, 2, where=where)
  (expected,) = references(name, [(0.5, 1.0, 2.0, 0.25)], [2])
  np.testing.assert_allclose(weights[where], expected, rtol=2e-6, atol=1e-6)
  assert weights[2] == 0


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.5, 2.0, -1.0])
def test_a_reward_that_is_not_binary(name, bad):
  rewards = np.array([0.0, 1.0, bad, 0.0, 1.0])
  assert np.all(np.isnan(jitted(name, rewards, 2)))
  where = np.array([True, True, False, True, True])
  weights = jitted(name, rewards, 2, where=where)
  (expected,) = references(name, [(0, 1, 0, 1)], [2])
  np.testing.assert_allclose(weights[where], expected, rtol=2e-6)
  assert weights[2] == 0


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


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_all_masked_gives_zeros(value):
  rewards, nothing = np.full(5, value), np.zeros(5, bool)
  for name in NAMES:
    weights = jitted(name, rewards, 1, where=nothing)
    np.testing.assert_array_equal(weights, np.zeros(5), err_msg=name)
  weights = K_MIXTURE(rewards, np.ones(3), where=nothing)
  np.testing.assert_array_equal(weights, np.zeros(5))


@pytest.mark.parametrize("name", TAKES_K)
def test_traced_k_out_of_range_gives_zeros(name):
  rewards = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
  for k in (-3, 0, 6 - PKPO.get(name, 0), 1000):
    weights = jitted(name, rewards, k)
    np.testing.assert_array_equal(weights, np.zeros(5), err_msg=str(k))


@pytest.mark.parametrize("name", PKPO)
def test_static_k_beyond_the_unmasked_gives_zeros(name):
  where = np.array([True, True, True, False, False])
  weights = pkpo_jax.get_transform(name)(np.arange(5.0), 4, where=where)
  np.testing.assert_array_equal(weights, np.zeros(5))


# --- Errors.


@pytest.mark.parametrize("name", TAKES_K)
def test_static_k_out_of_range(name):
  last = 4 - PKPO.get(name, 0)
  for k in (-1, 0, last + 1):
    message = rf"^{name}: k={k} is out of range for n=4 .* 1\.\.{last}\."
    with pytest.raises(ValueError, match=message):
      pkpo_jax.get_transform(name)(np.ones(4), k)


@pytest.mark.parametrize("name", BASELINED)
def test_a_baseline_needs_two_samples(name):
  function = pkpo_jax.get_transform(name)
  for f in (function, jax.jit(function)):
    with pytest.raises(ValueError, match=rf"^{name}: .*n=1"):
      f(np.ones(1), 1)


@pytest.mark.parametrize("name", TAKES_K)
@pytest.mark.parametrize("k", [2.0, 1.5, True, np.ones(2, int)])
def test_k_must_be_an_integer_scalar(name, k):
  message = rf"^{name}: k must be an integer scalar.*n=4, valid k: 1\.\."
  with pytest.raises(ValueError, match=message):
    pkpo_jax.get_transform(name)(np.ones(4), k)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_rewards_must_be_one_group(name, shape):
  with pytest.raises(ValueError, match=rf"^{name}: rewards must be one group"):
    pkpo_jax.get_transform(name)(np.ones(shape), 1)


@pytest.mark.parametrize("name", NAMES)
def test_rewards_must_be_real(name):
  with pytest.raises(ValueError, match=rf"^{name}: rewards must be real"):
    pkpo_jax.get_transform(name)(np.ones(4, complex), 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
  "where", [np.ones(3, bool), np.ones(4), np.ones((1, 4), bool)]
)
def test_where_must_be_bool_of_the_same_shape(name, where):
  message = rf"^{name}: where must be bool of shape \(4,\)"
  with pytest.raises(ValueError, match=message):
    pkpo_jax.get_transform(name)(np.ones(4), 1, where=where)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (1, 2)])
def test_k_mixture_needs_1_to_n_weights(shape):
  message = r"k_mixture: k_weights must be \[K\] with K in 1\.\.4.*n=4"
  with pytest.raises(ValueError, match=message):
    pkpo_jax.k_mixture(np.ones(4), np.ones(shape))


def test_k_mixture_needs_two_samples():
  with pytest.raises(ValueError, match=r"k_mixture: .*n=1"):
    pkpo_jax.k_mixture(np.ones(1), np.ones(1))


def test_k_mixture_checks_its_group():
  with pytest.raises(ValueError, match="k_mixture: rewards must be one group"):
    pkpo_jax.k_mixture(np.ones((2, 4)), np.ones(2))
  with pytest.raises(ValueError, match="k_mixture: where must be bool"):
    pkpo_jax.k_mixture(np.ones(4), np.ones(2), where=np.ones(4))


@pytest.mark.parametrize("name", NAMES)
def test_get_transform(name):
  assert pkpo_jax.get_transform(name) is getattr(pkpo_jax, name)


@pytest.mark.parametrize("name", ["", "SLOO", "sloo_minus_2", "k_mixture"])
def test_get_transform_of_an_unknown_name(name):
  with pytest.raises(ValueError, match=f"{name!r}") as error:
    pkpo_jax.get_transform(name)
  assert all(known in str(error.value) for known in NAMES)
