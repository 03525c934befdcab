"""experiments.evaluate: its table, and what it says before and after."""

import functools

import pytest
from helpers import saved_run

from experiments import evaluate
from pkpo_jax.training import evaluation_record, run_evaluation

ROOT = saved_run.FIXTURES.parents[2]


def found(rewards, **changes):
  flat = [x for row in rewards for x in row]
  return {
    "what": evaluation_record.WHAT,
    "run": "/runs/k8",
    "step": 0,
    "split": "test",
    "n": len(rewards[0]),
    "temperature": 1.0,
    "top_p": None,
    "task": {"name": "countdown"},
    "num_problems": len(rewards),
    "num_dropped": 3,
    "num_ungraded": flat.count(None),
    "contents": "abc",
    "binary_rewards": False,
    "metrics": {},
    "problems": [{"rewards": row} for row in rewards],
  } | changes


BASE = found([[0, 1], [0, None]])
TRAINED = found([[1, 1], [0, 0.5]], step=40)


def test_the_table_has_policies_gains_and_bounds():
  lines = evaluate.table([BASE, TRAINED]).splitlines()
  assert lines[0] == (
    "k8 step 0: 2 test problems of countdown (3 dropped as too long) x 2"
    " answers at temperature 1; 1 of 4 answers ungraded"
  )
  assert lines[1].startswith("k8 step 40: ") and "0 of 4" in lines[1]
  assert lines[2].split() == ["step", "0", "step", "40", "gain"]
  rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
  assert list(rows) == ["pass@1", "pass@2", "max@1", "max@2"]
  assert rows["pass@1"][:7] == [
    "0.250", "±", "0.250", "0.500", "±", "0.500", "+0.250",
  ]  # fmt: skip
  assert rows["pass@2"] == [
    "0.500..1.000", "0.500", "±", "0.500", "-0.500..0.000",
  ]  # fmt: skip
  assert len({len(line) for line in lines[2:]}) == 1


def test_runs_are_named_where_there_are_several():
  """And compared at the ks that all have."""
  other = found([[1, 0, 1, 1], [0, 1, 0, 0]], run="/runs/k1", top_p=0.9)
  lines = evaluate.table([TRAINED, other]).splitlines()
  assert "k8 step 40" in lines[2] and "k1 step 0" in lines[2]
  assert "temperature 1, top_p 0.9;" in lines[1]
  assert [x.split()[0] for x in lines[3:]] == [
    "pass@1", "pass@2", "max@1", "max@2",
  ]  # fmt: skip


def test_one_policy_has_no_gain():
  lines = evaluate.table([TRAINED]).splitlines()
  assert lines[1].split() == ["step", "40"]


@pytest.fixture
def run(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  return saved_run.copy(tmp_path / "run")


@pytest.fixture
def command(run_here):
  return functools.partial(run_here, "evaluate")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--step=2"], "--step=2: "),
    (["--step=0,7"], "has 0, 3, where 0 is the base policy"),
    (["--n=0"], "--n=0 must be at least 1"),
    (["--n=4", "--temperature=0"], "leave --n out"),
    (["--top_p=2"], "--top_p=2.0 must"),
    (["--split=valid"], "known: train, test"),
    (["--num_problems=9"], "there are 4 test problems"),
    (["--config.n=9"], "config.n is the run's"),
    (["--config.stop=a", "--config.stop=b"], "given 2 times"),
    (["--confg.n=9"], "unknown arguments: --confg.n=9"),
    (["--config.mesh.fsdp=16"], "does not cover"),
    (["--config.task.path=/no"], "unexpected keyword argument 'path'"),
    (["--against=configs/default.py"], "default.py is no evaluation"),
    (["--against=none.json"], "none.json"),
  ],
)
def test_mistakes_end_in_two_lines_before_anything_is_sampled(
  run, command, options, message, monkeypatch
):
  monkeypatch.setattr(run_evaluation, "Evaluator", lambda *_: 1 / 0)
  code, output = command(f"--workdir={run}", *options)
  assert code == 2 and message in output and "Traceback" not in output
  assert not (run / "evaluations").exists()


def test_an_evaluation_of_other_problems_is_refused_before(
  run, command, tmp_path, monkeypatch
):
  monkeypatch.setattr(run_evaluation, "Evaluator", lambda *_: 1 / 0)
  evaluation_record.write(tmp_path / "other.json", TRAINED)
  against = f"--against={tmp_path / 'other.json'}"
  code, output = command(f"--workdir={run}", against)
  assert code == 2 and "Not of the same problems: 2 test problems" in output


def test_the_latest_is_chosen_in_its_turn(run, command, monkeypatch):
  """A run at work has gone on meanwhile, and deleted what was the latest."""
  evaluated = []

  class Evaluator:
    def __init__(self, *_):
      pass

    def evaluate(self, step, progress):
      evaluated.append(step)
      (run / f"checkpoints/{5 + len(evaluated)}").mkdir()
      return run

    def close(self):
      raise SystemExit(0)

  monkeypatch.setattr(run_evaluation, "Evaluator", Evaluator)
  command(f"--workdir={run}", "--step=0,latest,0")
  assert evaluated == [0, 6]


@pytest.mark.slow
def test_a_policy_is_evaluated_written_and_compared(run, command):
  options = f"--workdir={run}", "--step=3", "--num_problems=2"
  code, output = command(*options, "--n=4")
  assert code == 0, output
  first, second = (
    run / "evaluations" / f"step3_test_n{n}_t1_2problems.json" for n in (4, 8)
  )
  assert f"In {first}" in output and "pass@4" in output
  code, output = command(*options, "--n=8", f"--against={first}")
  assert code == 0 and "gain" in output
  problems = [
    evaluation_record.read(path)["problems"] for path in (first, second)
  ]
  assert [x["rewards"] for x in problems[0]] == [
    x["rewards"][:4] for x in problems[1]
  ]
