"""rl.rollout_metrics: curves against closed forms, and what is counted."""

import itertools
import math
import statistics

import jax
import numpy as np
import pytest
from helpers.graded import group, make_answers, make_rollout, pass_at_k

from pkpo_jax import estimators
from pkpo_jax.rl import rollout_metrics
from pkpo_jax.tasks import base

NAN = np.nan


def assert_is_curve_of(curve, estimates):
  """Mean and standard error over the problems, per k, by numpy."""
  for i, values in enumerate(estimates):
    assert curve.mean[i] == pytest.approx(np.mean(values), abs=1e-12)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert curve.standard_error[i] == pytest.approx(error, abs=1e-12)
  np.testing.assert_array_equal(curve.lower, curve.mean)
  np.testing.assert_array_equal(curve.upper, curve.mean)


def test_the_curve_is_pass_at_k_in_closed_form():
  n, counts, ks = 8, (0, 1, 3, 3, 8), (1, 2, 5, 8)
  rewards = np.array([group(n, c) for c in counts], np.float32)
  curve = rollout_metrics.pass_at_k_curve(
    rewards, np.ones_like(rewards, bool), ks
  )
  assert curve.ks == ks
  expected = [[pass_at_k(n, c, k) for c in counts] for k in ks]
  assert_is_curve_of(curve, expected)


def test_max_at_k_is_the_mean_of_the_best_over_all_subsets():
  rng = np.random.default_rng(0)
  rewards = rng.normal(size=(4, 7))
  rewards[1] = np.round(rewards[1])  # ties
  valid = np.ones((4, 7), bool)
  curve = rollout_metrics.max_at_k_curve(rewards, valid, range(1, 8))
  expected = [
    [statistics.mean(map(max, itertools.combinations(g, k))) for g in rewards]
    for k in range(1, 8)
  ]
  assert_is_curve_of(curve, expected)


@pytest.mark.slow
def test_estimates_are_those_of_the_estimators():
  rng = np.random.default_rng(1)
  rewards, valid = rng.random((5, 6)), rng.random((5, 6)) < 0.7
  ours = rollout_metrics.by_problem(rewards, valid, (1, 3, 6))
  for row, g, ok in zip(ours, rewards, valid):
    theirs = [estimators.max_at_k(g, k, where=ok) for k in (1, 3, 6)]
    np.testing.assert_allclose(row, theirs, rtol=1e-5)
  assert np.isnan(ours).any() and np.isfinite(ours[:, 0]).all()


def test_no_problem_is_left_out_of_a_mean():
  """Easy problems are whole, hard ones lack one graded answer each."""
  easy, hard = [1, 1, 0, 0], [0, 0, 0, NAN]
  rewards = np.array([easy] * 5 + [hard] * 5)
  curve = rollout_metrics.pass_at_k_curve(rewards, ~np.isnan(rewards), (1, 4))
  assert curve.mean[0] == pytest.approx((5 * 0.5 + 5 * 0) / 10)
  assert math.isnan(curve.mean[1]) and math.isnan(curve.standard_error[1])
  assert (curve.lower[1], curve.upper[1]) == (0.5, 1.0)
  assert curve.lower[0] == curve.mean[0] == curve.upper[0]


def test_graded_answers_count_as_if_the_others_had_never_been_drawn():
  """Also if those are NaN: right, graded = (1, 3), (2, 4), (0, 2)."""
  rewards = np.array([[1, 0, NAN, 0], [1, 0, 1, 0], [1, NAN, 0, 0]])
  valid = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]], bool)
  curve = rollout_metrics.pass_at_k_curve(rewards, valid, (1, 2, 3))
  graded = [(3, 1), (4, 2), (2, 0)]
  for i, k in enumerate((1, 2)):
    expected = np.mean([pass_at_k(n, c, k) for n, c in graded])
    assert curve.mean[i] == pytest.approx(expected)
  assert math.isnan(curve.mean[2])
  # Ungraded answers wrong: 1, 2 and 0 of 4 right; right: 2, 2 and 2 of 4.
  lower = np.mean([pass_at_k(4, c, 3) for c in (1, 2, 0)])
  upper = np.mean([pass_at_k(4, c, 3) for c in (2, 2, 2)])
  assert curve.lower[2] == pytest.approx(lower)
  assert curve.upper[2] == pytest.approx(upper)


def test_bounds_of_max_at_k_take_0_and_1_for_what_has_no_grade():
  curve = rollout_metrics.max_at_k_curve(
    np.array([[0.5, NAN]]), np.array([[True, False]]), (1, 2)
  )
  np.testing.assert_array_equal(curve.mean, [0.5, NAN])
  np.testing.assert_array_equal(curve.lower, [0.5, 0.5])
  np.testing.assert_array_equal(curve.upper, [0.5, 1.0])


def test_what_does_not_exist_is_nan_without_warnings():
  rewards, valid = np.ones((2, 3)), np.array([[1, 1, 0], [0, 0, 0]], bool)
  with np.errstate(all="raise"):
    curve = rollout_metrics.pass_at_k_curve(rewards, valid, (1, 3))
    single = rollout_metrics.pass_at_k_curve(rewards[:1], valid[:1], (1,))
  np.testing.assert_array_equal(curve.mean, [NAN, NAN])
  np.testing.assert_allclose(curve.lower, [(2 / 3) / 2, 0.5])
  np.testing.assert_array_equal(curve.upper, [1, 1])
  np.testing.assert_array_equal(single.mean, [1])
  np.testing.assert_array_equal(single.standard_error, [NAN])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
@pytest.mark.parametrize("shift", [0, 1e6, -1e6])
def test_errors_depend_on_no_zero_and_no_dtype(dtype, shift):
  """k = 2 of n = 16: .129 stays .129 at rewards of a million."""
  counts = (0, 1, 2, 5, 16)
  rewards = np.array([group(16, c) for c in counts]).astype(dtype)
  rewards = rewards + np.asarray(shift, float) if shift else rewards
  curve = rollout_metrics.max_at_k_curve(
    rewards, np.ones_like(rewards, bool), (1, 2, 16)
  )
  for i, k in enumerate((1, 2, 16)):
    values = [pass_at_k(16, c, k) for c in counts]
    error = np.std(values, ddof=1) / math.sqrt(5)
    assert curve.mean[i] - shift == pytest.approx(np.mean(values), abs=1e-8)
    assert curve.standard_error[i] == pytest.approx(error, abs=1e-8)


def test_large_integers_keep_their_sign():
  times = np.array([[-2_500_000_000, -1_000_000_000]], np.int64)
  found = rollout_metrics.by_problem(times, np.ones((1, 2), bool), (1, 2))
  np.testing.assert_array_equal(found, [[-1.75e9, -1e9]])


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize(
  "door",
  [
    lambda *x: rollout_metrics.pass_at_k_curve(*x, (1,)),
    lambda *x: rollout_metrics.max_at_k_curve(*x, (1,)),
    lambda *x: rollout_metrics.by_problem(*x, (1,)),
  ],
)
def test_a_valid_reward_that_is_not_finite_is_an_error(door, value):
  rewards = np.array([[1, 1], [value, 0]])
  with pytest.raises(ValueError, match=r"Sample 0 of problem 1 has reward"):
    door(rewards, np.ones((2, 2), bool))
  door(rewards, np.array([[True, True], [False, True]]))


def test_a_k_above_n_is_an_error():
  with pytest.raises(ValueError, match=r"pass@4 .* n=3"):
    rollout_metrics.pass_at_k_curve(
      np.ones((2, 3)), np.ones((2, 3), bool), (1, 4)
    )


def test_the_ks_are_powers_of_two_and_the_papers_12():
  assert rollout_metrics.k_eval(1) == (1,)
  assert rollout_metrics.k_eval(11) == (1, 2, 4, 8)
  assert rollout_metrics.k_eval(16) == (1, 2, 4, 8, 12, 16)
  assert rollout_metrics.k_eval(64) == (1, 2, 4, 8, 12, 16, 32, 64)


REWARDS = [[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0.5]]
VALID = [[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]]
LENGTHS = [[1, 2, 3], [4, 4, 4], [1, 1, 1], [2, 2, 2]]


def test_all_metrics_by_hand():
  rollout = make_rollout(REWARDS, VALID, LENGTHS)
  problems = [base.Problem(str(i), "", f"m={i // 2}", None) for i in range(4)]
  reasons = [["right", "right", "no worker: a"], ["right"] * 3]
  reasons += [["timeout"] * 3, ["no worker: b", "wrong", "half: 3"]]
  with jax.transfer_guard("disallow"):  # all of it is numpy
    metrics = rollout_metrics.measure(
      rollout_metrics.answers(rollout, problems, reasons), binary=False
    )
  lengths = np.array(LENGTHS).ravel()
  expected = {
    "num_problems": 4,
    "num_ungraded": 2,
    "invalid": 2 / 12,
    "truncated": 3 / 12,
    "entropy": np.average(np.arange(12), weights=lengths),
    "completion_length": lengths.mean(),
    "groups_all_right": 0.5,
    "groups_all_wrong": 0.25,
    "pass@1": np.mean([1, 1, 0, 0]),
    "max@1": np.mean([1, 1, 0, 0.25]),
    "pass@2": np.mean([1, 1, 0, 0]),
    "max@2": np.mean([1, 1, 0, 0.5]),
    "reason/right": 5 / 12,
    "reason/timeout": 3 / 12,
    "reason/no worker": 2 / 12,
    "reason/wrong": 1 / 12,
    "reason/half": 1 / 12,
    "tier/m=0/pass@1": 1,
    "tier/m=1/pass@1": 0,
    "tier/m=1/num_problems": 2,
    "tier/m=1/num_ungraded": 1,
  }
  for name, value in expected.items():
    assert metrics[name] == pytest.approx(value), name
  assert not {"pass@3", "max@4", "pass@1_lower"} & set(metrics)
  assert all(type(value) is float for value in metrics.values())


def test_bounds_stand_in_the_place_of_a_number():
  some = make_answers([[1, NAN], [0, 0]], [[1, 0], [1, 1]])
  metrics = rollout_metrics.measure(some, binary=True)
  assert metrics["pass@1"] == 0.5
  assert math.isnan(metrics["pass@2"]) and math.isnan(metrics["pass@2_stderr"])
  assert (metrics["pass@2_lower"], metrics["pass@2_upper"]) == (0.5, 0.5)
  assert "pass@1_lower" not in metrics and "max@1" not in metrics
  assert (metrics["num_problems"], metrics["num_ungraded"]) == (2, 1)


def test_a_task_that_is_not_binary_as_it_says_is_an_error():
  some = make_answers([[1, 0.5]], [[1, 1]])
  with pytest.raises(ValueError, match=r"binary_rewards=True .* reward 0.5"):
    rollout_metrics.measure(some, binary=True)
  ungraded = make_answers([[1, 0.5]], [[1, 0]])
  assert rollout_metrics.measure(ungraded, binary=True)["pass@1"] == 1


def test_rare_reasons_are_added_up():
  """A grader that gives every answer a reason of its own; and what has none."""
  reasons = [[f"number {i}" for i in range(18)] + ["timeout"] * 2]
  some = make_answers(np.zeros((1, 20)), np.ones((1, 20)), reasons)
  metrics = rollout_metrics.measure(some, binary=True)
  rates = {x: metrics[x] for x in metrics if x.startswith("reason/")}
  assert len(rates) == 17 and sum(rates.values()) == pytest.approx(1)
  assert rates["reason/timeout"] == 0.1
  assert rates["reason/(others)"] == pytest.approx(3 / 20)


def test_solved_by_one_valid_right_sample():
  some = make_rollout(
    rewards=[[0, 1], [1, 0], [0.5, 0.9], [0, 0]],
    valid=[[1, 1], [0, 1], [1, 1], [1, 1]],
    lengths=np.ones((4, 2)),
  )
  np.testing.assert_array_equal(rollout_metrics.solved(some), [1, 0, 0, 0])
