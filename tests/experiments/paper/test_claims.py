"""Verdicts on the paper's claims, from results with plain numbers."""

import dataclasses

import numpy as np
import pytest
from helpers import drawn_study

from experiments.paper import claims, from_studies
from experiments.studies import results
from experiments.studies.study import Run

STUDY = dataclasses.replace(drawn_study.STUDY, k_eval=(1, 8), last=2)
SEEDS = (0.0, 0.01, 0.02)  # what a seed adds to all that it measures


def data_of(numbers, spread=0.0):
  """Results whose metrics end at the given numbers.

  Args:
    numbers: arm -> metric -> the value at the end. "rise" is what the solve
      rate gains in the last third of six steps.
    spread: times -1, 0, 1 is added to the seeds of the first arm alone.
  """
  by_arm = {}
  for i, (arm, found) in enumerate(numbers.items()):
    by_arm[arm] = []
    for seed, shift in enumerate(SEEDS):
      shift += spread * (seed - 1) * (i == 0)
      train = {
        name: np.full(6, value + shift)
        for name, value in found.items()
        if name != "rise" and not name.startswith("test")
      }
      if "rise" in found:
        train["solve_rate"][:4] -= found["rise"]
      test = {
        name.removeprefix("test "): np.array([0.0, value + shift])
        for name, value in found.items()
        if name.startswith("test")
      }
      run = Run(arm, 1e-4, seed)
      by_arm[arm].append(results.Result(run, "abc", 1.0, train, test, {}))
  return from_studies.Data(STUDY, by_arm)


def held_out(first, last):
  return {"test pass@1": first, "test pass@8": last}


def test_a_difference_has_students_interval():
  """2, 3, 4 less 1: mean 2, deviation 1, quantile 4.303 with two degrees."""
  mean, low, high = claims.difference([2, 3, 4], [1, 1, 1])
  assert (mean, high - mean) == pytest.approx((2, 4.30265 / 3**0.5), rel=1e-5)
  assert mean - low == pytest.approx(high - mean)
  assert np.isnan(claims.difference([2], [1])[1:]).all()


@pytest.mark.parametrize(
  ("bounds", "expected"),
  [
    ([(1, 3)], claims.HOLDS),
    ([(-1, 3)], claims.OPEN),
    ([(-3, -1)], claims.FAILS),
    ([(1, 3), (-1, 3)], claims.OPEN),
    ([(1, 3), (-3, -1)], claims.FAILS),
    ([(np.nan, np.nan)], claims.OPEN),
  ],
)
def test_verdicts_by_intervals(bounds, expected):
  found = [claims.Difference(0, low, high) for low, high in bounds]
  assert claims.judge(*found) == expected


@pytest.mark.parametrize(
  ("annealed", "spread", "expected"),
  [
    (held_out(0.3, 0.6), 0.0, claims.HOLDS),  # the same at 1, more at 8
    (held_out(0.2, 0.6), 0.0, claims.FAILS),  # a loss at 1
    (held_out(0.3, 0.4), 0.0, claims.FAILS),  # less at 8
    (held_out(0.3, 0.6), 0.3, claims.OPEN),
  ],
)
def test_annealing_wins_above_1_and_loses_nothing_at_1(
  annealed, spread, expected
):
  numbers = {"k1": held_out(0.3, 0.5), "annealed": annealed}
  for found in numbers.values():
    found |= {name.removeprefix("test "): x for name, x in found.items()}
  finding = claims.annealing(data_of(numbers, spread))
  assert finding.holds == expected
  if not spread:
    gain = 100 * (annealed["test pass@8"] - 0.5)
    assert f"{gain:.2f} ({gain:.2f} to {gain:.2f}) at 8" in finding.seen


def test_annealing_may_win_in_training_alone():
  k1 = held_out(0.3, 0.5) | {"pass@1": 0.3, "pass@8": 0.5}
  annealed = held_out(0.2, 0.5) | {"pass@1": 0.4, "pass@8": 0.6}
  finding = claims.annealing(data_of({"k1": k1, "annealed": annealed}))
  assert finding.holds == "in training yes; held out no"


def explored(solve_rate, entropy):
  return {"solve_rate": solve_rate, "entropy": entropy}


def test_exploration_rises_with_k():
  low, middle, high = explored(0.5, 0.1), explored(0.7, 0.2), explored(0.8, 0.4)
  rising = {"k1": low, "k4": middle, "k8": high}
  finding = claims.exploration(data_of(rising))
  assert finding.holds == claims.HOLDS
  assert "solve rate 0.510 (k1), 0.710 (k4), 0.810 (k8)" in finding.seen
  falling = {"k1": high, "k4": middle, "k8": low}
  assert claims.exploration(data_of(falling)).holds == claims.FAILS
  bent = {"k1": low, "k4": explored(0.9, 0.2), "k8": high}
  assert "not at every step" in claims.exploration(data_of(bent)).holds


def test_each_run_is_best_near_its_k_in_training():
  k1, k8 = {"pass@1": 0.4, "pass@8": 0.5}, {"pass@1": 0.3, "pass@8": 0.7}
  finding = claims.rolling(data_of({"k1": k1, "k8": k8}))
  assert finding.holds == claims.HOLDS
  assert "k1 at 1, k8 at 8." in finding.seen
  finding = claims.rolling(data_of({"k1": k8, "k8": k1}))
  assert finding.holds == claims.FAILS


@pytest.mark.parametrize(
  ("rises", "expected"),
  [
    ({"k1": 0.005, "k4": 0.05, "k8": 0.03}, claims.HOLDS),
    ({"k1": 0.02, "k4": 0.05, "k8": 0.03}, claims.FAILS),
    ({"k1": 0.005, "k4": 0.005, "k8": 0.03}, claims.FAILS),
    ({"k1": 0.0, "k8": 0.03}, claims.HOLDS),
  ],
)
def test_a_stall_is_a_solve_rate_that_rises_by_less_than_a_hundredth(
  rises, expected
):
  numbers = {
    arm: {"solve_rate": 0.5, "rise": rise} for arm, rise in rises.items()
  }
  finding = claims.stall(data_of(numbers))
  assert finding.holds == expected
  assert f"k1 {rises['k1']:.3f} {rises['k1']:.3f}" in finding.seen


def test_the_best_at_one_at_most_and_on_average():
  numbers = {
    "k1": held_out(0.30, 0.4) | {"pass@1": 0.5, "pass@8": 0.6},
    "k8": held_out(0.20, 0.6) | {"pass@1": 0.4, "pass@8": 0.7},
    "grpo": held_out(0.25, 0.5) | {"pass@1": 0.6, "pass@8": 0.9},
  }
  seen, verdict = claims.best(data_of(numbers))
  where, trained = seen.split("; in training: ")
  assert "k1 at pass@1, before grpo by 5.00 (5.00 to 5.00)" in where
  assert "k8 at pass@8, before grpo by 10.00 (10.00 to 10.00)" in where
  assert "k8 at the mean over k_eval, before grpo by 2.50" in where
  assert "grpo at pass@1, before k1 by 10.00" in trained
  assert verdict.endswith(
    "k1 at pass@1, k8 at pass@8, k8 at the mean over k_eval"
  )
  noisy = claims.best(data_of(numbers, spread=0.2)).holds
  assert "k1 at pass@1 (within noise), k8 at pass@8, " in noisy


def test_the_interaction_decides_on_the_tables():
  rising = {"k1": held_out(0.3, 0.4), "k8": held_out(0.2, 0.6)}
  assert claims.near_k_eval(data_of(rising)).holds == claims.HOLDS
  falling = {"k1": held_out(0.2, 0.6), "k8": held_out(0.3, 0.4)}
  assert claims.near_k_eval(data_of(falling)).holds == claims.FAILS
  alone = {"k1": held_out(0.2, 0.6)}
  assert claims.near_k_eval(data_of(alone)).holds == "not asked"


def test_a_row_that_is_best_everywhere_is_not_the_nearest():
  """Though it gains more where k_eval is larger."""
  above = {"k1": held_out(0.1, 0.2), "k8": held_out(0.2, 0.6)}
  assert claims.near_k_eval(data_of(above)).holds == (
    "larger k_opt gain more at larger k_eval; the nearest row is the best at 1"
    " of 2 k_eval"
  )


def test_rewards_with_parts_are_judged_by_their_maximum():
  """By pass@k the claim would fail."""
  by_max = {"k1": {"test max@1": 0.3, "test max@8": 0.4}}
  by_max["k8"] = {"test max@1": 0.2, "test max@8": 0.6}
  by_pass = {"k1": held_out(0.2, 0.6), "k8": held_out(0.3, 0.4)}
  data = data_of({arm: by_pass[arm] | by_max[arm] for arm in by_max})
  data = data._replace(study=dataclasses.replace(STUDY, measure="max"))
  found = claims.near_k_eval(data)
  assert found.holds == claims.HOLDS
  assert "by pass@k_eval" in found.seen and "by max@k_eval" in found.seen
