"""rl.rollout_metrics: curves against closed forms, and what is counted."""

import math

import numpy as np
import pytest
from helpers.graded import group, make_rollout, pass_at_k

from pkpo_jax.rl import rollout_metrics


def assert_is_curve_of(curve, estimates):
  """Mean and standard error over the problems, per k, by numpy."""
  for i, values in enumerate(estimates):
    assert curve.mean[i] == pytest.approx(np.mean(values), abs=1e-6)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert curve.standard_error[i] == pytest.approx(error, abs=1e-6)
    assert curve.num_problems[i] == len(values)


def test_the_curve_is_pass_at_k_in_closed_form():
  n, counts, ks = 8, (0, 1, 3, 3, 8), (1, 2, 5, 8)
  rewards = np.array([group(n, c) for c in counts], np.float32)
  curve = rollout_metrics.pass_at_k_curve(
    rewards, np.ones_like(rewards, bool), ks
  )
  assert curve.ks == ks
  expected = [[pass_at_k(n, c, k) for c in counts] for k in ks]
  assert_is_curve_of(curve, expected)


def test_ungraded_samples_are_left_out():
  """As if never drawn, also if NaN: right, graded = (1, 3), (2, 4), (0, 2)."""
  nan = np.nan
  rewards = np.array([[1, 0, nan, 0], [1, 0, 1, 0], [1, nan, 0, 0]])
  valid = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]], bool)
  curve = rollout_metrics.pass_at_k_curve(rewards, valid, (1, 2, 3))
  graded = [(3, 1), (4, 2), (2, 0)]
  expected = [
    [pass_at_k(n, c, k) for n, c in graded if n >= k] for k in (1, 2, 3)
  ]
  assert_is_curve_of(curve, expected)
  assert curve.num_problems.tolist() == [3, 3, 2]


def test_what_does_not_exist_is_nan_without_warnings():
  rewards, valid = np.ones((2, 3)), np.array([[1, 1, 0], [0, 0, 0]], bool)
  with np.errstate(all="raise"):
    curve = rollout_metrics.pass_at_k_curve(rewards, valid, (1, 3))
  np.testing.assert_array_equal(curve.num_problems, [1, 0])
  np.testing.assert_array_equal(curve.mean, [1, np.nan])
  np.testing.assert_array_equal(curve.standard_error, [np.nan, np.nan])


def test_continuous_rewards_give_the_expected_best():
  rewards, valid = np.array([[0.0, 1.0, 4.0]]), np.ones((1, 3), bool)
  curve = rollout_metrics.pass_at_k_curve(rewards, valid, (1, 2, 3))
  np.testing.assert_allclose(curve.mean, [5 / 3, 3, 4], rtol=1e-6)


def test_a_k_above_n_is_an_error():
  with pytest.raises(ValueError, match=r"pass@4 .* n=3"):
    rollout_metrics.pass_at_k_curve(
      np.ones((2, 3)), np.ones((2, 3), bool), (1, 4)
    )


def test_rollout_metrics():
  metrics = rollout_metrics.rollout_metrics(
    make_rollout(
      rewards=[[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0.5]],
      valid=[[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]],
      lengths=[[1, 2, 3], [4, 4, 4], [1, 1, 1], [2, 2, 2]],
    )
  )
  lengths = np.array([1, 2, 3, 4, 4, 4, 1, 1, 1, 2, 2, 2])
  assert metrics["entropy"] == pytest.approx(
    np.average(np.arange(12), weights=lengths)
  )
  assert metrics["completion_length"] == pytest.approx(lengths.mean())
  assert metrics["groups_all_right"] == 0.5
  assert metrics["groups_all_wrong"] == 0.25
  assert metrics["invalid"] == pytest.approx(2 / 12)
  assert metrics["pass@1"] == pytest.approx(np.mean([1, 1, 0, 0.25]))
  assert metrics["pass@2"] == pytest.approx(np.mean([1, 1, 0, 0.5]))
  assert "pass@4" not in metrics
  assert all(isinstance(value, float) for value in metrics.values())


def test_solved_by_one_valid_right_sample():
  some = make_rollout(
    rewards=[[0, 1], [1, 0], [0.5, 0.9], [0, 0]],
    valid=[[1, 1], [0, 1], [1, 1], [1, 1]],
    lengths=np.ones((4, 2)),
  )
  np.testing.assert_array_equal(rollout_metrics.solved(some), [1, 0, 0, 0])


def test_curves_have_names():
  curve = rollout_metrics.Curve(
    (1, 8), np.array([0.5, 1]), np.array([0.1, 0]), None
  )
  assert rollout_metrics.named(curve) == {
    "pass@1": 0.5,
    "pass@8": 1.0,
    "pass@1_stderr": 0.1,
    "pass@8_stderr": 0.0,
  }
