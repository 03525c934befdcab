"""pkpo_jax.solve_rates: the posterior, the rule, and what stays unbiased."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import bits, exact, transformed
from scipy import optimize, special

import pkpo_jax
from pkpo_jax import solve_rates

_jitted = jax.jit(
  pkpo_jax.k_from_solve_rate, static_argnames=("k_max", "target")
)

_fit = jax.jit(solve_rates.fit_prior)


def k_from_solve_rate(c, n, **options):
  return np.asarray(_jitted(np.array(c), np.array(n), **options))


def pool(size, a, b, n, seed=0):
  """(solve rates, right samples of n) of `size` problems."""
  draw = np.random.default_rng(seed)
  rates = draw.beta(a, b, size=size)
  return rates, draw.binomial(n, rates)


def log_likelihood(a, b, c, n):
  return np.sum(special.betaln(a + c, b + n - c)) - np.size(c) * special.betaln(
    a, b
  )


# --- The posterior.


def test_expected_pass_at_k_is_the_mean_over_the_posterior():
  """In fractions: E[(1-p)^k] is a ratio of rising factorials."""
  a, b = np.array([0.5, 3.0, 17.0]), np.array([2.0, 0.25, 1.0])
  found = solve_rates.expected_pass_at_k(*map(jnp.asarray, (a, b)), 6)
  x = (np.arange(200000) + 0.5) / 200000  # p = x^4 is smooth enough at 0
  for row, (alpha, beta) in enumerate(zip(a, b)):
    miss = Fraction(1)
    for k in range(1, 7):
      miss *= Fraction(beta) + k - 1
      miss /= Fraction(alpha) + Fraction(beta) + k - 1
      assert found[row, k - 1] == pytest.approx(float(1 - miss), rel=1e-6)
  density = x ** (4 * 3.0 - 1) * (1 - x**4) ** (0.25 - 1)
  direct = np.average(1 - (1 - x**4) ** 3, weights=density)
  assert found[1, 2] == pytest.approx(direct, rel=1e-3)


def loss(logs, c, n):
  """Less the logarithm of the prior and of the likelihood."""
  virtual = np.append(c, 1.0), np.append(n, 2.0)
  a, b = np.exp(logs)
  return (a + b) / 1000 - log_likelihood(a, b, *virtual)


def check_prior(c, n):
  """No other optimiser finds a better one, from wherever it starts."""
  starts = [(0, 0), (-1, 3), (3, 3), (-6, 0), (0, -6), (-6, -6)]
  best = min(
    optimize.minimize(
      loss, start, (c, n), method="Nelder-Mead", options={"fatol": 1e-9}
    ).fun
    for start in starts
  )
  for x64 in (False, True):
    with bits.enable_x64(x64):
      prior = _fit(jnp.array(c, float), jnp.array(n, float))
    prior = np.array([float(x) for x in prior])
    assert np.all(np.isfinite(prior) & (prior > 0)), prior
    assert loss(np.log(prior), c, n) <= best + (1e-5 if x64 else 1e-3)


@pytest.mark.parametrize(
  ("a", "b"), [(0.5, 2.0), (0.5, 50.0), (1.0, 1.0), (5.0, 5.0), (0.2, 0.2)]
)
def test_the_prior_is_the_most_likely_one(a, b):
  """Of fractional counts and unvisited problems."""
  _, c = pool(400, a, b, 16)
  decay = np.random.default_rng(1).choice([1.0, 0.5, 0.3, 0.0], size=400)
  check_prior(c * decay, 16 * decay)


def test_a_pool_of_hard_problems():
  """The prior from which it was drawn, and the k of each count of 16."""
  _, c = pool(1000, 0.5, 50.0, 16, seed=1)
  a, b = _fit(jnp.array(c, float), jnp.full(1000, 16.0))
  assert 0.4 < a < 1.2 and 40 < b < 120
  k = k_from_solve_rate(c, np.full(1000, 16), k_max=64)
  assert [k[c == right][0] for right in (1, 2, 3)] == [64, 43, 30]


def test_problems_visited_once_borrow_from_the_pool():
  """Posterior means are nearer to the truth than the counts are."""
  rates, c = pool(1000, 2.0, 6.0, 4)
  a, b = solve_rates.fit_prior(jnp.array(c, float), jnp.full(1000, 4.0))
  posterior = (float(a) + c) / (float(a + b) + 4)
  error, raw = np.mean((posterior - rates) ** 2), np.mean((c / 4 - rates) ** 2)
  assert error < 0.6 * raw


@pytest.mark.slow
@pytest.mark.parametrize(
  ("c", "n"),
  [
    ([0, 0, 0], [0, 0, 0]),
    ([0] * 500, [16] * 500),
    ([16] * 500, [16] * 500),
    ([8] * 500, [16] * 500),
    ([0, 16] * 250, [16] * 500),
    ([0, 1] * 50, [1] * 100),
    ([1e-6, 0], [1e-5, 1e-5]),
    ([5000, 1], [10000, 10000]),
  ],
)
def test_a_prior_exists_for_every_pool(c, n):
  check_prior(np.array(c, float), np.array(n, float))


def test_a_prior_of_which_nothing_tells_counts_as_some_tens_of_samples():
  for c, n in (([0.0], [0.0]), ([0.0, 1.0] * 50, [1.0] * 100)):
    assert 10 < sum(_fit(jnp.array(c), jnp.array(n))) < 100


@pytest.mark.parametrize(("x64", "error"), [(False, 3e-6), (True, 1e-9)])
def test_the_rise_of_digamma(x64, error):
  with bits.enable_x64(x64):
    x, count = jnp.array(np.logspace(-4, 4, 30)), np.array([[0], [0.5], [16]])
    found = np.asarray(solve_rates._rise(x, count), float)
  x = np.asarray(x, float)
  expected = special.digamma(x + count) - special.digamma(x)
  np.testing.assert_allclose(found, expected, rtol=error, atol=1e-14)


# --- The rule.


@pytest.mark.slow
def test_k_is_the_smallest_that_passes_the_target():
  _, c = pool(300, 0.5, 2.0, 16)
  n = np.full(300, 16)
  a, b = (float(x) for x in solve_rates.fit_prior(*map(jnp.float32, (c, n))))
  found = k_from_solve_rate(c, n, k_max=8, target=0.75)
  for k, right in zip(found.tolist(), c.tolist()):
    miss = np.cumprod(
      [(b + 16 - right + j) / (a + b + 16 + j) for j in range(8)]
    )
    passing = [i for i in range(1, 9) if 1 - miss[i - 1] >= 0.75]
    assert k == (min(passing, default=8) if right else 8)
  assert len(set(found.tolist())) >= 6


def test_mastered_and_never_solved():
  k = k_from_solve_rate([0, 16, 2, 0], [16, 16, 16, 1], k_max=8)
  assert k[0] == 8 and k[1] == 1 and k[3] == 8
  assert k_from_solve_rate([0, 3], [1, 4], k_max=1).tolist() == [1, 1]


def test_more_solved_is_a_smaller_k():
  c = np.arange(17)
  k = k_from_solve_rate(c, np.full(17, 16), k_max=16)
  assert np.all(np.diff(k) <= 0) and k[0] == 16 and k[-1] == 1


def test_the_default_target_is_about_one_over_p():
  """Many samples: the posterior is the rate, of which k = -1/log(1-p)."""
  rates = np.array([0.5, 0.2, 0.1, 0.05])
  k = k_from_solve_rate(1e6 * rates, np.full(4, 1e6), k_max=64)
  np.testing.assert_array_equal(k, np.ceil(-1 / np.log1p(-rates)))


def test_unvisited_problems_take_the_k_of_the_pool():
  _, c = pool(200, 4.0, 4.0, 16)
  k = k_from_solve_rate(np.append(c, 0), np.append([16] * 200, 0), k_max=8)
  assert 1 <= k[-1] <= 3
  hard = k_from_solve_rate(
    np.append(c // 8, 0), np.append([16] * 200, 0), k_max=8
  )
  assert hard[-1] == 8


def test_before_anything_was_solved_k_is_the_largest():
  for n in ([0, 0, 0], [16, 0, 0]):
    assert k_from_solve_rate([0, 0, 0], n, k_max=8).tolist() == [8, 8, 8]


def test_older_steps_may_count_less():
  """Two visits, of which the older was all wrong: forgetting lowers k."""
  pool_c, pool_n = [4.0] * 20, [16.0] * 20
  ks = [
    k_from_solve_rate([*pool_c, 12.0], [*pool_n, 16 + 16 * old], k_max=8)[-1]
    for old in (1.0, 0.5, 0.0)
  ]
  assert ks[0] >= ks[1] >= ks[2] and ks[0] > ks[2]


# --- Unbiased, with k fixed by earlier steps.

N, PAST = 4, 3
REWARDS = (0.0, 1.0, 0.0)


def mean_of_estimates(k_of_group):
  """Exact mean over all groups of N, at the k that each is given."""
  actions = transformed.sampled_actions(N)
  groups = np.array(REWARDS)[actions]
  weights = [
    exact.floats(exact.sloo_minus_one(tuple(group), k_of_group(group)))
    for group in groups.tolist()
  ]
  return transformed.expected_estimate(np.array(weights), N)


def by_count():
  """k for each count of right answers among PAST, in a pool of three."""
  return [
    int(k_from_solve_rate([c, 1, 2], [PAST, PAST, PAST], k_max=4)[0])
    for c in range(PAST + 1)
  ]


def test_unbiased_where_earlier_steps_fix_k():
  """Whatever the earlier step drew: given it, the gradient of max@k_b."""
  ks = by_count()
  assert len(set(ks)) > 2
  for past in itertools.product((0, 1), repeat=PAST):
    k = ks[sum(past)]
    true = transformed.gradient(REWARDS, k)
    mean = mean_of_estimates(lambda group, k=k: k)
    np.testing.assert_allclose(mean, true, atol=1e-13)


def test_biased_where_the_group_itself_fixes_k():
  """The mean is no longer that of the objectives with these k."""
  ks = by_count()
  mean = mean_of_estimates(lambda group: ks[int(sum(group[:PAST]))])
  right = float(transformed.PROBS[1])
  chances = [
    math.comb(PAST, c) * right**c * (1 - right) ** (PAST - c)
    for c in range(PAST + 1)
  ]
  true = sum(p * transformed.gradient(REWARDS, k) for p, k in zip(chances, ks))
  assert np.max(np.abs(mean - true)) > 0.01


# --- Arguments.


def test_one_compilation_serves_all_counts():
  traces = []

  @jax.jit
  def ks(c, n):
    traces.append(c)
    return pkpo_jax.k_from_solve_rate(c, n, k_max=8)

  for c in ([0.0, 2.0], [1.0, 4.0]):
    expected = pkpo_jax.k_from_solve_rate(c, [4, 4], k_max=8)
    found = ks(jnp.array(c), jnp.array([4.0, 4.0]))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == jnp.int32
  assert len(traces) == 1


def test_a_pool_that_devices_share():
  """Under jit, and each shard by itself in a shard_map."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("d",))
  spec = jax.sharding.PartitionSpec("d")
  c, n = np.arange(4.0), np.full(4, 8.0)
  shard_map = getattr(jax, "shard_map", None)
  if shard_map is None:
    from jax.experimental.shard_map import shard_map
  ks = shard_map(
    lambda c, n: pkpo_jax.k_from_solve_rate(c, n, k_max=np.int64(8)),
    mesh=mesh,
    in_specs=(spec, spec),
    out_specs=spec,
  )
  expected = k_from_solve_rate(c, n, k_max=8)
  np.testing.assert_array_equal(jax.jit(ks)(c, n), expected)
  sharding = jax.sharding.NamedSharding(mesh, spec)
  shared = [jax.device_put(x, sharding) for x in (c, n)]
  found = pkpo_jax.k_from_solve_rate(*shared, k_max=8)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bad", [(-1, 4), (5, 4), (np.nan, 4), (1, np.inf)])
def test_counts_out_of_range(bad):
  counts = [np.array([1.0, x]) for x in bad]
  counts[1][0] = 4
  with pytest.raises(ValueError, match=r"num_correct\[1\]=.* of num_samples"):
    pkpo_jax.k_from_solve_rate(*counts, k_max=4)
  k = k_from_solve_rate(*counts, k_max=4)
  assert k[1] == 0 and k[0] > 0
  weights = jax.jit(pkpo_jax.sloo_minus_one)(np.arange(4.0), k[1])
  assert np.all(np.isnan(weights))


@pytest.mark.parametrize(
  ("c", "n", "options", "message"),
  [
    (1, 2, {}, r"\[P\]"),
    ([1], [2, 2], {}, r"shapes \(1,\) and \(2,\)"),
    ([], [], {}, "P >= 1"),
    ([1], [2], {"k_max": 0}, "k_max=0"),
    ([1], [2], {"k_max": True}, "k_max=True"),
    ([1], [2], {"k_max": 2.0}, "k_max=2.0"),
    ([1], [2], {"target": 1.0}, "target=1.0"),
  ],
)
def test_wrong_arguments(c, n, options, message):
  with pytest.raises(ValueError, match=message):
    pkpo_jax.k_from_solve_rate(c, n, **{"k_max": 8, **options})
