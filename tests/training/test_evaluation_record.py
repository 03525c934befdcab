"""training.evaluation_record: the file of an evaluation."""

import json

import numpy as np
import pytest
from helpers import disks

from pkpo_jax import intervals
from pkpo_jax.rl import evaluation
from pkpo_jax.training import evaluation_record as record


def found(rewards, **changes):
  return {
    "what": record.WHAT,
    "run": "runs/k8",
    "step": 3,
    "split": "test",
    "n": len(rewards[0]),
    "task": {"name": "countdown"},
    "num_problems": len(rewards),
    "contents": "abc",
    "binary_rewards": True,
    "commit": "1234",
    "metrics": {"pass@2": float("nan"), "pass@1": 0.25},
    "problems": [
      {"id": str(i), "rewards": row} for i, row in enumerate(rewards)
    ],
  } | changes


OLD = found([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]])
NEW = found([[1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])


def refuse(name):
  raise AssertionError(f"{name} is not JSON")


def test_what_is_written_is_read(tmp_path):
  path = tmp_path / "a.json"
  record.write(path, OLD)
  read = json.loads(path.read_text(), parse_constant=refuse)
  assert read == record.read(path)
  assert read["metrics"] == {"pass@2": None, "pass@1": 0.25}
  assert {**read, "metrics": 0} == {**OLD, "metrics": 0}
  assert [x.name for x in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_is_in_the_error(tmp_path):
  with disks.small(tmp_path / "disk", "64k") as folder:
    path = folder / "a.json"
    record.write(path, OLD)
    large = found([[0.123456789] * 100_000])
    with pytest.raises(OSError, match=r'a\.json cannot .*"pass@1": 0\.25'):
      record.write(path, large)
    assert record.read(path)["problems"] == OLD["problems"]


def test_a_file_of_something_else_is_refused(tmp_path):
  path = tmp_path / "a.json"
  for text in ("{}", "[]", "{", '{"what": "other"}'):
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is no evaluation"):
      record.read(path)


def head(**changes):
  kept = {x: OLD[x] for x in OLD if x not in ("metrics", "problems")}
  return kept | changes


def test_the_same_evaluation_is_on_record(tmp_path, capsys):
  path = tmp_path / "a.json"
  assert not record.is_on_record(path, head())
  record.write(path, OLD)
  assert record.is_on_record(path, head())
  assert record.is_on_record(path, head(run="elsewhere", config={}))
  assert not capsys.readouterr().out


def test_what_replaces_another_is_said(tmp_path, capsys):
  path = tmp_path / "a.json"
  record.write(path, OLD)
  assert not record.is_on_record(path, head(commit="5678"))
  assert "which differs in commit: 1234 -> 5678" in capsys.readouterr().out
  path.write_text("{")
  assert not record.is_on_record(path, head())


def test_code_that_was_not_committed_is_not_known(tmp_path):
  path = tmp_path / "a.json"
  record.write(path, OLD | {"commit": "1234+"})
  assert not record.is_on_record(path, head(commit="1234+"))


def test_gains_are_by_pairs_of_problems_at_the_smaller_n():
  before, after = [1 / 4, 0, 3 / 4], [1 / 2, 1 / 6, 1]
  gains = record.compare(OLD, NEW, (1, 4))
  expected = intervals.paired(after, before)
  assert gains["pass@1"] == pytest.approx(expected)
  estimates = record.estimate(NEW, (1,))
  assert estimates["pass@1"] == pytest.approx(intervals.over_problems(after))


def test_answers_without_a_grade_leave_bounds():
  some = found([[1, None], [0, 0]])
  found_bounds = record.estimate(some, (1, 2))
  assert found_bounds["pass@1"].mean == 0.5
  assert found_bounds["pass@2"] == evaluation.Bounds(0.5, 0.5)


def test_other_problems_are_not_compared():
  other = found([[1, 0]] * 2, contents="xyz", split="train")
  with pytest.raises(
    ValueError, match=r"same problems: 3 test .* and 2 train problems"
  ):
    record.compare(OLD, other, (1,))
  with pytest.raises(ValueError, match="same --split, --num_problems"):
    record.check_same_problems(OLD, contents="xyz")
  record.check_same_problems(OLD, NEW, contents="abc")
  record.check_same_problems(contents="abc")
  assert np.isfinite(record.compare(OLD, OLD, (1,))["pass@1"].mean)
