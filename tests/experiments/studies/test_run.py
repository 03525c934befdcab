"""The runner: its plan, and that it trains what is left and nothing else."""

import dataclasses
import json
import re
import sys

import pytest
from helpers import made_up_results, tiny_study

from experiments.studies import results
from experiments.studies import run as runner
from experiments.studies import study as study_lib
from experiments.studies.study import Family, Run
from pkpo_jax.training import lock

STUDY = dataclasses.replace(
  tiny_study.STUDY, rates=(1e-4, 2e-4), seeds=(0, 1), seconds=36
)


@pytest.fixture
def folders(tmp_path):
  return runner.Folders(tmp_path / "results", tmp_path / "runs", tmp_path)


@pytest.fixture
def trained(monkeypatch):
  """In place of training: notes the run, and writes metrics to its end.

  pass@1 is the rate, so that the larger one is the best.
  """
  names = []

  def train(run, config, folder, folders):
    names.append(run.name)
    write_metrics(folder, config.num_steps, run.rate)

  monkeypatch.setattr(runner, "_train", train)
  return names


def write_metrics(folder, num_steps, value=0.5, commit="a" * 40):
  records = [
    {"step": i, "stage": "train", "pass@1": value, "seconds_step": 1}
    for i in range(num_steps)
  ]
  records.append(
    {"step": num_steps, "stage": "eval", "pass@1": value, "seconds_eval": 1}
  )
  folder.mkdir(parents=True, exist_ok=True)
  lines = "".join(json.dumps(record) + "\n" for record in records)
  (folder / "metrics.jsonl").write_text(lines)
  start = {"step": 0, "commit": commit}
  (folder / "starts.jsonl").write_text(json.dumps(start) + "\n")


def test_rates_are_tuned_first_then_the_best_ones_are_repeated(
  folders, trained
):
  assert runner.run_study(STUDY, folders) == 6
  assert trained == [
    "k1_0.0001_seed0",
    "annealed_0.0001_seed0",
    "k1_0.0002_seed0",
    "annealed_0.0002_seed0",
    "k1_0.0002_seed1",
    "annealed_0.0002_seed1",
  ]
  assert runner.run_study(STUDY, folders) == 0
  assert len(trained) == 6
  assert list(results.reported(STUDY, folders.results)) == ["k1", "annealed"]


def test_a_study_that_was_stopped_goes_on(folders, trained, monkeypatch):
  train = runner._train

  def stop_in_the_third(run, config, folder, folders):
    if len(trained) == 2:
      raise SystemExit(130)  # as the loop does, after a checkpoint
    train(run, config, folder, folders)

  monkeypatch.setattr(runner, "_train", stop_in_the_third)
  with pytest.raises(SystemExit):
    runner.run_study(STUDY, folders)
  assert len(results.load(STUDY, folders.results).done) == 2
  monkeypatch.setattr(runner, "_train", train)
  assert runner.run_study(STUDY, folders) == 4
  assert len(trained) == len(set(trained)) == 6


def test_a_finished_run_without_its_result_is_not_trained(folders, trained):
  folder = runner.workdir(STUDY, folders, Run("k1", 1e-4, 0))
  write_metrics(folder, 20, value=0.9, commit="b" * 40)
  runner.run_study(STUDY, folders)
  assert "k1_0.0001_seed0" not in trained
  done = results.load(STUDY, folders.results).done
  assert done[Run("k1", 1e-4, 0)].commit == "b" * 7, "what it was trained with"
  assert done[Run("k1", 1e-4, 1)].commit == "a" * 7


@pytest.mark.slow
def test_a_changed_arm_is_run_again_in_another_folder(folders, trained):
  runner.run_study(STUDY, folders)
  changed = dataclasses.replace(
    STUDY, arms={**STUDY.arms, "k1": {**STUDY.arms["k1"], "n": 8}}
  )
  del trained[:]
  assert "Not counted" in runner.plan(changed, folders)
  assert runner.run_study(changed, folders) == len(trained) == 3
  assert all(name.startswith("k1") for name in trained)
  assert "Not counted" not in runner.plan(changed, folders)


def test_the_plan_of_a_new_study(folders):
  assert runner.plan(STUDY, folders).splitlines() == [
    "tests.helpers.tiny_study (tests/helpers/tiny_config.py): 0 of 6 runs are"
    " done",
    "arm       learning_rate  seed 0  seed 1",
    "k1        0.0001         to do   ?",
    "k1        0.0002         to do   ?",
    "annealed  0.0001         to do   ?",
    "annealed  0.0002         to do   ?",
    "?: if this rate is the arm's best on seed 0",
    "Hours: 0.00 done, 0.06 left (36 s a run, as the study says), by one"
    " process",
  ]
  assert not list(folders.base.iterdir())


def test_the_plan_of_a_study_under_way(folders):
  """300 s a run: one is to do, one at 5 of 20 steps; annealed is unknown."""

  def value(run, name, step):
    return run.rate

  runs = [run for run in STUDY.runs_to_tune if run.rate == 2e-4]
  runs.append(Run("k1", 1e-4, 0))
  made_up_results.write(STUDY, folders.results, runs, value)
  write_metrics(runner.workdir(STUDY, folders, Run("k1", 2e-4, 1)), 5)
  assert runner.plan(STUDY, folders).splitlines()[1:] == [
    "arm       learning_rate  seed 0  seed 1",
    "k1        0.0001         done    -",
    "k1        0.0002         done    step 5",
    "annealed  0.0001         to do   ?",
    "annealed  0.0002         done    ?",
    "?: if this rate is the arm's best on seed 0",
    "Hours: 0.25 done, 0.23 left (300 s a run, measured), by one process",
  ]


def test_a_wrong_arm_is_refused_before_anything_runs(folders):
  study = dataclasses.replace(STUDY, arms={"k1": {"k_optt": (1,)}})
  with pytest.raises(ValueError, match=r"config\.k_optt: unknown"):
    runner.plan(study, folders)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ([], "--study"),
    (["--study=countup"], "known: .*countdown, "),
    (["--study=countdown", "--seeds=3"], "--seeds=3"),
  ],
)
def test_mistakes_end_in_two_lines(options, message, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["run.py", *options])
  with pytest.raises(SystemExit) as error:
    runner.main()
  assert error.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2 and re.search(message, lines[0])


def test_a_dry_run_of_a_known_study(tmp_path, monkeypatch, capsys):
  options = ["--study=countdown", "--dry_run", f"--results={tmp_path}"]
  monkeypatch.setattr(
    sys, "argv", ["run.py", *options, f"--runs={tmp_path / 'runs'}"]
  )
  runner.main()
  study = study_lib.load("countdown")
  assert f"0 of {study.num_runs} runs are done" in capsys.readouterr().out
  assert not list(tmp_path.iterdir())


def test_a_run_that_another_process_is_at_work_on_is_left_to_it(
  folders, trained, monkeypatch
):
  """Until it is done; the others come first."""
  theirs, waited = Run("k1", 1e-4, 0), []

  def acquire(folder):
    if theirs.name in folder.name and not waited:
      raise lock.HeldError("Another run is at work.")

  def wait(seconds):
    waited.append(list(trained))
    made_up_results.write(
      STUDY, folders.results, [theirs], lambda run, name, step: run.rate
    )

  monkeypatch.setattr(lock, "acquire", acquire)
  monkeypatch.setattr(runner.time, "sleep", wait)
  assert runner.run_study(STUDY, folders) == 5
  assert theirs.name not in trained
  assert len(waited) == 1 and len(waited[0]) == 3


def test_a_run_of_another_study_is_not_trained_again(folders, trained):
  runner.run_study(STUDY, folders)
  del trained[:]
  other = dataclasses.replace(STUDY, name="tests.helpers.other")
  assert runner.run_study(other, folders) == 6
  assert not trained
  assert len(results.load(other, folders.results).done) == 6


def test_members_of_a_family_come_after_the_arm_whose_rate_they_take(
  folders, trained
):
  study = dataclasses.replace(
    STUDY,
    arms={
      **STUDY.arms,
      "weak": {**STUDY.arms["k1"], "loss.entropy_coef": 0.001},
      "strong": {**STUDY.arms["k1"], "loss.entropy_coef": 0.01},
    },
    families={"both": Family(("weak", "strong"), rate_of="k1")},
  )
  lines = runner.plan(study, folders).splitlines()
  assert lines[0].endswith("0 of 9 runs are done")
  assert lines[6] == "weak      0.0001         ?       ?"
  assert runner.run_study(study, folders) == 9
  assert trained[4:6] == ["weak_0.0002_seed0", "strong_0.0002_seed0"]
  lines = runner.plan(study, folders).splitlines()
  assert lines[0].endswith("9 of 9 runs are done")
  assert lines[6:10] == [
    "weak      0.0001         -       -",
    "weak      0.0002         done    done",
    "strong    0.0001         -       -",
    "strong    0.0002         done    -",
  ]


def test_rates_of_a_study_that_is_not_done_are_an_error(
  folders, trained, monkeypatch
):
  again = dataclasses.replace(STUDY, name="again", rates_from="first")
  first = dataclasses.replace(STUDY, name="first")
  monkeypatch.setattr(study_lib, "load", {"first": first}.__getitem__)
  with pytest.raises(ValueError, match="first run --study=first"):
    runner.run_study(again, folders)
  assert "?: if this rate is the arm's best on first" in runner.plan(
    again, folders
  )
  runner.run_study(first, folders)
  del trained[:]
  assert runner.run_study(again, folders) == 4
  assert not trained  # these runs are the same as those
