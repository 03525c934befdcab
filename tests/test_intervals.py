"""pkpo_jax.intervals: values, and how often they hold the truth."""

import doctest
import itertools
import math
import tracemalloc

import numpy as np
import pytest

from pkpo_jax import intervals

Z = 1.959963984540054


def test_examples_run():
  assert doctest.testmod(intervals).failed == 0


@pytest.mark.parametrize(("right", "trials"), [(0, 5), (3, 7), (12, 12)])
def test_wilson_ends_solve_its_equation(right, trials):
  for end in intervals.wilson(right, trials):
    distance = abs(end - right / trials)
    expected = Z * math.sqrt(end * (1 - end) / trials)
    assert distance == pytest.approx(expected, abs=1e-12)


def test_wilson_at_its_ends():
  low, high = intervals.wilson(0, 20)
  assert low == 0 and high == pytest.approx(Z**2 / (20 + Z**2))
  mirrored = intervals.wilson(20, 20)
  assert mirrored[1] == 1 and mirrored[0] == pytest.approx(1 - high)
  assert intervals.wilson(0, 20, confidence=0.5)[1] < high


def test_a_paired_standard_error():
  values, baseline = np.array([0.5, 0.75, 1.0, 0.0]), np.full(4, 0.25)
  found = intervals.paired(values, baseline)
  gains = values - baseline
  assert found.mean == gains.mean()
  assert found.standard_error == pytest.approx(gains.std(ddof=1) / 2)
  one = intervals.paired([0.5], [0.25])
  assert one.mean == 0.25 and all(map(math.isnan, one[1:]))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("size", "least", "most"),
  [(3, 0.66, 0.78), (5, 0.78, 0.88), (10, 0.86, 0.94), (128, 0.91, 0.97)],
)
def test_how_often_a_bootstrap_holds_the_mean(size, least, most):
  """As the docstring says; 600 trials have a standard error of .009 to .018."""
  draws = np.random.default_rng(0).normal(size=(600, size))
  found = [intervals.over_problems(x, num_resamples=500) for x in draws]
  assert least < np.mean([x.low < 0 < x.high for x in found]) < most


def test_one_problem_says_nothing_of_others():
  one = intervals.over_problems([0.5])
  assert one.mean == 0.5 and all(map(math.isnan, one[1:]))
  assert intervals.over_problems([1.0])[2:] == intervals.wilson(1, 1)


def test_a_bootstrap_is_that_of_all_resamples():
  """Three problems have 27 resamples, whose quantiles are known."""
  gains = np.array([0.0, 0.5, 0.25])
  means = [np.mean(r) for r in itertools.product(gains, repeat=3)]
  found = intervals.paired(gains, np.zeros(3), confidence=0.8)
  expected = np.quantile(means, [0.1, 0.9], method="inverted_cdf")
  np.testing.assert_allclose(found[2:], expected, atol=1e-12)


def test_pairs_make_an_interval_narrower():
  draw = np.random.default_rng(0)
  hard = draw.random(200)
  values, baseline = (np.clip(hard + s, 0, 1) for s in (0.05, 0.0))
  found = intervals.paired(values, baseline)
  assert 0 < found.low < found.mean < found.high
  alone = intervals.over_problems(values)
  assert alone.high - alone.low > 5 * (found.high - found.low)


def test_the_seed_decides():
  values = np.random.default_rng(1).random(30)
  first, same, other = (
    intervals.over_problems(values, seed=seed) for seed in (0, 0, 1)
  )
  assert first == same
  assert first.mean == other.mean and first.low != other.low


@pytest.mark.parametrize("rate", [0, 1])
def test_a_rate_of_0_or_1_has_the_interval_of_wilson(rate):
  found = intervals.over_problems(np.full(32, rate))
  assert found == (rate, 0, *intervals.wilson(32 * rate, 32))
  assert found.high > found.low


@pytest.mark.parametrize(
  ("value", "base", "low", "high"),
  [(0, 0, -1, 1), (1, 1, -1, 1), (1, 0, -2, 0), (0, 1, 0, 2)],
)
def test_pairs_that_do_not_differ(value, base, low, high):
  """The ends, in shares of problems that may do otherwise."""
  share = intervals.wilson(0, 16)[1]
  found = intervals.paired(np.full(16, value), np.full(16, base))
  gain = value - base
  expected = (gain + low * share, gain + high * share)
  assert found[2:] == pytest.approx(expected)
  assert -1 <= found.low and found.high <= 1


def test_mixed_rates_without_a_difference():
  outcomes = np.array([0, 1] * 8)
  found = intervals.paired(outcomes, outcomes)
  share = intervals.wilson(0, 16)[1]
  assert found == (0, 0, -share, share)


def test_how_often_an_interval_holds_the_truth():
  """95 % of 300: 12 below that is three standard deviations."""
  draw, held = np.random.default_rng(0), {"bootstrap": 0, "wilson": 0}
  for seed in range(300):
    gains = draw.beta(1, 3, size=100) - draw.beta(1, 4, size=100)
    found = intervals.paired(gains, np.zeros(100), num_resamples=400, seed=seed)
    held["bootstrap"] += found.low <= 1 / 4 - 1 / 5 <= found.high
    low, high = intervals.wilson(draw.binomial(100, 0.02), 100)
    held["wilson"] += low <= 0.02 <= high
  assert all(count >= 300 * 0.95 - 12 for count in held.values()), held


def test_many_problems_in_chunks():
  found = intervals.over_problems(np.arange(1319) % 2, num_resamples=1500)
  half = (found.high - found.low) / 2
  assert half == pytest.approx(Z * found.standard_error, rel=0.1)


def test_chunks_change_nothing_but_the_memory(monkeypatch):
  values = np.random.default_rng(0).random(100_000)
  tracemalloc.start()
  found = intervals.over_problems(values, num_resamples=100)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 64 * 2**20  # all resamples at once take 160 MB
  monkeypatch.setattr(intervals, "_CHUNK", 1)
  assert intervals.over_problems(values, num_resamples=100) == found


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: intervals.paired([1, 2], [1]), "2 values and 1 of the baseline"),
    (lambda: intervals.paired([1, np.nan], [1, 0]), r"values\[1\] is nan"),
    (lambda: intervals.paired([1], [np.inf]), r"baseline\[0\] is inf"),
    (lambda: intervals.over_problems([]), r"\[N\].*shape \(0,\)"),
    (lambda: intervals.over_problems([[1]]), r"shape \(1, 1\)"),
    (lambda: intervals.over_problems([1], confidence=1), "confidence=1"),
    (lambda: intervals.over_problems([3], num_resamples=9), "at least 100"),
    (lambda: intervals.wilson(3, 2), "3 right of 2"),
    (lambda: intervals.wilson(0, 0), "0 right of 0"),
    (lambda: intervals.wilson(1, math.inf), "1 right of inf"),
  ],
)
def test_errors(call, message):
  with pytest.raises(ValueError, match=message):
    call()
