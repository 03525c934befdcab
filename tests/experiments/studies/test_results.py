"""Results: what is kept, what is counted, and what is reported of it."""

import dataclasses
import json
import math

import numpy as np
import pytest
from helpers import made_up_results, tiny_study

from experiments.studies import results
from experiments.studies.study import Family, Run

STUDY = dataclasses.replace(
  tiny_study.STUDY, rates=(1e-4, 2e-4), seeds=(0, 1, 2), last=2
)
RUN = Run("k1", 1e-4, 0)


def constant(run, name, step):
  return 0.5


def write(folder, runs, value=constant, study=STUDY):
  made_up_results.write(study, folder, runs, value)


def test_what_is_written_is_read(tmp_path):
  write(tmp_path, [RUN], lambda run, name, step: step / 3)
  result = results.load(STUDY, tmp_path).done[RUN]
  assert (result.run, result.commit) == (RUN, "abc1234")
  assert result.seconds == 4 * 30 + 2 * 90
  np.testing.assert_array_equal(result.train["step"], [0, 1, 2, 3])
  np.testing.assert_array_equal(
    result.train["entropy"], [0, 0.3333, 0.6667, 1.0]
  )
  np.testing.assert_array_equal(result.test["pass@4"], [0, 1.333])


def test_nan_is_null_in_the_file(tmp_path):
  write(tmp_path, [RUN], lambda run, name, step: math.nan)
  text = results.path_of(STUDY, tmp_path, RUN).read_text()
  assert json.loads(text)["train"]["pass@1"] == [None] * 4
  assert np.isnan(results.load(STUDY, tmp_path).done[RUN].train["pass@1"]).all()


def test_another_config_is_named_and_not_counted(tmp_path):
  write(tmp_path, [RUN])
  changed = dataclasses.replace(
    STUDY, arms={**STUDY.arms, "k1": {**STUDY.arms["k1"], "n": 8}}
  )
  found = results.load(changed, tmp_path)
  path = results.path_of(STUDY, tmp_path, RUN)
  assert found.done == {}
  assert found.other == {path: "another config: config.n: 4 -> 8"}
  with pytest.raises(ValueError, match="1 of another config are not counted"):
    results.reported(changed, tmp_path)


def test_a_result_of_no_run_is_named(tmp_path):
  write(tmp_path, [RUN])
  fewer = dataclasses.replace(STUDY, rates=(2e-4,))
  path = results.path_of(STUDY, tmp_path, RUN)
  assert results.load(fewer, tmp_path) == ({}, {path: "no run of this study"})


def test_metrics_of_a_run_by_hand(tmp_path):
  """Steps 0..3, the last two count; held-out evaluations at 0 and 4."""
  write(tmp_path, [RUN], lambda run, name, step: step / 10)
  result = results.load(STUDY, tmp_path).done[RUN]
  for metric, value in (
    ("train pass@1", 0.25),
    ("final solve_rate", 0.3),
    ("test pass@8", 0.4),
    ("train pass@1 + pass@4 + pass@8", 0.25),
    ("rise solve_rate", 0.1),  # the last third of 4 steps is 1
  ):
    found = results.summarise(STUDY, result, metric)
    assert found == pytest.approx((value, value, value))
  for metric in ("train pass@3", "pass@1", "end pass@1"):
    with pytest.raises(ValueError, match=f"no metric '{metric}'"):
      results.summarise(STUDY, result, metric)


def with_bounds(lower, upper):
  """pass@1 of 0.5, and bounds in its place in the last step."""

  def value(run, name, step):
    last = step == made_up_results.STEPS - 1 and name == "pass@1"
    return {"": math.nan, "_lower": lower, "_upper": upper} if last else 0.5

  return value


def test_bounds_stand_where_a_step_has_no_number(tmp_path):
  write(tmp_path, [RUN], with_bounds(0.3, 0.7))
  result = results.load(STUDY, tmp_path).done[RUN]
  np.testing.assert_array_equal(
    result.train["pass@1"], [0.5, 0.5, 0.5, math.nan]
  )
  lower, upper = results.bounds(result.train, "pass@1")
  np.testing.assert_array_equal(lower, [0.5, 0.5, 0.5, 0.3])
  np.testing.assert_array_equal(upper, [0.5, 0.5, 0.5, 0.7])
  mean, *ends = results.summarise(STUDY, result, "train pass@1")
  assert math.isnan(mean) and ends == pytest.approx([0.4, 0.6])
  np.testing.assert_array_equal(result.train["num_ungraded"], [2] * 4)


def best_rates(study, folder):
  best = results.best_runs(study, folder)
  assert all(run.seed == study.seeds[0] for run in best.values())
  return {name: run.rate for name, run in best.items()}


def test_a_rate_is_not_chosen_on_answers_that_have_no_grade(tmp_path):
  """.5 at one rate; at the other .4 to .6, or clearly less."""
  write(tmp_path, STUDY.runs_to_tune)
  other = [Run("k1", 2e-4, 0)]
  write(tmp_path, other, with_bounds(0.1, 0.4))
  assert best_rates(STUDY, tmp_path)["k1"] == 1e-4
  write(tmp_path, other, with_bounds(0.3, 0.7))
  with pytest.raises(ValueError, match=r"seed0 is at least 0.5, .* up to 0.6"):
    best_rates(STUDY, tmp_path)


def better_at(rates):
  """The given rate is best for pass@1 with seed 0; the other with the rest."""

  def value(run, name, step):
    best = (run.rate == rates[run.arm]) == (run.seed == 0)
    return 0.9 if best == (name == "pass@1") else 0.1

  return value


def test_rates_are_chosen_on_the_first_seed_by_the_arms_own_objective(tmp_path):
  rates = {"k1": 2e-4, "annealed": 1e-4}
  write(tmp_path, made_up_results.all_runs(STUDY), better_at(rates))
  assert best_rates(STUDY, tmp_path) == rates
  told = dataclasses.replace(STUDY, objectives={"k1": "train pass@4"})
  assert best_rates(told, tmp_path) == {"k1": 1e-4, "annealed": 1e-4}


def test_an_arm_without_all_its_rates_has_no_best_one(tmp_path):
  write(tmp_path, [r for r in STUDY.runs_to_tune if r != RUN])
  assert best_rates(STUDY, tmp_path) == {"annealed": 1e-4}


def test_a_diverged_rate_is_not_the_best(tmp_path):
  def value(run, name, step):
    return math.nan if run.rate == 1e-4 else 0.1

  write(tmp_path, STUDY.runs_to_tune, value)
  assert best_rates(STUDY, tmp_path) == {"k1": 2e-4, "annealed": 2e-4}


def test_the_seed_that_chose_the_rate_is_not_reported(tmp_path):
  rates = {"k1": 2e-4, "annealed": 1e-4}
  write(tmp_path, made_up_results.all_runs(STUDY), better_at(rates))
  found = results.reported(STUDY, tmp_path)
  assert {arm: [r.run for r in runs] for arm, runs in found.items()} == {
    "k1": [Run("k1", 2e-4, 1), Run("k1", 2e-4, 2)],
    "annealed": [Run("annealed", 1e-4, 1), Run("annealed", 1e-4, 2)],
  }


@pytest.mark.parametrize(
  ("absent", "named"),
  [
    (Run("k1", 1e-4, 0), "lacks k1_0.0001_seed0; make"),
    (Run("annealed", 1e-4, 2), "lacks annealed_0.0001_seed2; make"),
  ],
)
def test_one_missing_result_is_an_error_with_the_command(
  absent, named, tmp_path
):
  runs = [r for r in made_up_results.all_runs(STUDY) if r != absent]
  write(tmp_path, runs)
  with pytest.raises(results.MissingResultsError, match=named) as error:
    results.reported(STUDY, tmp_path)
  assert str(error.value).endswith(
    "make them with: python -m experiments.studies.run"
    f" --study=tests.helpers.tiny_study --results={tmp_path}"
  )
  others = [arm for arm in STUDY.arms if arm != absent.arm]
  assert list(results.reported(STUDY, tmp_path, others)) == others


def test_an_unknown_arm_is_an_error(tmp_path):
  with pytest.raises(ValueError, match=r"k3: not in study .* k1, annealed"):
    results.reported(STUDY, tmp_path, ["k1", "k3"])


def test_mean_and_error_by_hand():
  """1, 2, 6: mean 3, variance (4 + 1 + 9) / 2 = 7, error sqrt(7 / 3)."""
  mean, error = results.mean_and_error([[1, 5], [2, 5], [6, 5]])
  np.testing.assert_allclose(mean, [3, 5])
  np.testing.assert_allclose(error, [math.sqrt(7 / 3), 0])
  mean, error = results.mean_and_error([[0.25, 0.5]])
  np.testing.assert_array_equal(mean, [0.25, 0.5])
  assert np.isnan(error).all()


FAMILY = dataclasses.replace(
  STUDY,
  arms={
    **STUDY.arms,
    "weak": {**STUDY.arms["k1"], "loss.entropy_coef": 0.001},
    "strong": {**STUDY.arms["k1"], "loss.entropy_coef": 0.01},
  },
  families={"bonus": Family(("weak", "strong"), rate_of="k1")},
)


def strong_is_best(run, name, step):
  return {"weak": 0.3, "strong": 0.4}.get(run.arm, run.rate * 1e3)


def test_the_best_of_a_family_is_reported_at_the_rate_of_another_arm(tmp_path):
  write(tmp_path, FAMILY.runs_to_tune, strong_is_best, FAMILY)
  assert "bonus" not in results.best_runs(FAMILY, tmp_path)
  with pytest.raises(
    results.MissingResultsError, match=r"weak_0.*, strong_0.0002_seed0;"
  ):
    results.reported(FAMILY, tmp_path, ["bonus"])
  best = results.best_runs(FAMILY, tmp_path)
  members = FAMILY.runs_of_families(best)
  assert members == [Run("weak", 2e-4, 0), Run("strong", 2e-4, 0)]
  write(tmp_path, members, strong_is_best, FAMILY)
  best = results.best_runs(FAMILY, tmp_path)
  assert best["bonus"] == Run("strong", 2e-4, 0)
  assert list(best) == ["k1", "annealed", "bonus"]
  reported = FAMILY.runs_to_report(best)
  write(tmp_path, reported, strong_is_best, FAMILY)
  found = results.reported(FAMILY, tmp_path)
  runs = [result.run for result in found["bonus"]]
  assert runs == [Run("strong", 2e-4, 1), Run("strong", 2e-4, 2)]
  done = results.load(FAMILY, tmp_path).done
  assert FAMILY.num_runs == len(done) == 2 * 2 + 2 + 3 * 2


def test_rates_may_be_those_of_another_study(tmp_path, monkeypatch):
  again = dataclasses.replace(STUDY, name="again", rates_from=STUDY.name)
  monkeypatch.setattr(
    "experiments.studies.study.load", {STUDY.name: STUDY}.__getitem__
  )
  assert results.best_runs(again, tmp_path) == {}
  with pytest.raises(
    results.MissingResultsError, match=f"best rate of k1 in study {STUDY.name}"
  ):
    results.reported(again, tmp_path)
  rates = {"k1": 2e-4, "annealed": 1e-4}
  write(tmp_path, made_up_results.all_runs(STUDY), better_at(rates))
  assert best_rates(again, tmp_path) == rates
  assert again.runs_to_tune == [] and again.reported_seeds == STUDY.seeds
  runs = again.runs_to_report(results.best_runs(again, tmp_path))
  assert len(runs) == again.num_runs == 6
  write(tmp_path, runs, study=again)
  assert len(results.reported(again, tmp_path)["k1"]) == 3


def test_estimates_of_each_problem_are_kept_at_the_ks_of_the_study(tmp_path):
  found = {"pass@1": [0.5, 1 / 3], "max@4": [math.nan, 1.0], "pass@64": [1, 1]}
  records = [
    {"step": 0, "stage": "train", "pass@1": 0.5, "seconds_step": 1},
    {"step": 1, "stage": "eval", "pass@1": 0.5, "seconds_eval": 1},
  ]
  results.write(STUDY, tmp_path, RUN, records, "abc1234", found)
  result = results.load(STUDY, tmp_path).done[RUN]
  assert result.by_problem.keys() == {"pass@1", "max@4"}
  np.testing.assert_array_equal(result.by_problem["pass@1"], [0.5, 0.3333])
  np.testing.assert_array_equal(result.by_problem["max@4"], [math.nan, 1])
