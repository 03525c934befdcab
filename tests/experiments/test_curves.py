"""experiments.curves: what is drawn of a run's metrics, and what is missing."""

import csv
import json
import math

import numpy as np
import pytest

from experiments import curves, plotting

NAN = math.nan


def record(step, stage, **others):
  """pass@1 and pass@2; a name that ends in _lower stands for pass@2_lower."""
  metrics = {"num_problems": 8.0, "num_ungraded": 1.0}
  metrics |= {"pass@1": 0.25, "pass@1_stderr": 0.1}
  metrics |= {"pass@2": 0.5, "pass@2_stderr": 0.1}
  if stage == "train":
    metrics |= {"solve_rate": 0.5, "entropy": 1.0, "groups_skipped": 0.25}
  return {"step": step, "stage": stage} | metrics | others


OPEN = {
  "pass@2": NAN,
  "pass@2_stderr": NAN,
  "pass@2_lower": 0.25,
  "pass@2_upper": 0.75,
}


def write(folder, records):
  def plain(x):
    return None if isinstance(x, float) and math.isnan(x) else x

  lines = (
    json.dumps({k: plain(x) for k, x in r.items()}) + "\n" for r in records
  )
  (folder / "metrics.jsonl").write_text("".join(lines))


def drawn(folder, monkeypatch):
  """The figure of a folder."""
  figures, save = [], plotting.save

  def spy(figure, *args):
    figures.append(figure)
    save(figure, *args)

  monkeypatch.setattr(plotting, "save", spy)
  curves.draw_run(folder)
  return figures[0]


def test_numbers_of_a_record_with_and_without_bounds():
  found = curves.numbers_by_k(record(0, "eval", **OPEN), "pass")
  assert found[1] == {
    "mean": 0.25, "standard_error": 0.1, "lower": 0.25, "upper": 0.25,
  }  # fmt: skip
  assert math.isnan(found[2]["mean"])
  assert (found[2]["lower"], found[2]["upper"]) == (0.25, 0.75)
  assert curves.numbers_by_k(record(0, "eval"), "max") == {}


def test_the_picture_counts_problems_and_shows_bounds(tmp_path, monkeypatch):
  records = [record(0, "eval"), record(2, "eval", **OPEN)]
  records += [record(i, "train") for i in range(3)]
  write(tmp_path, records)
  held_out, training, _ = drawn(tmp_path, monkeypatch).axes
  assert held_out.get_title() == "held out: 8 problems, 2 answers ungraded"
  assert training.get_title() == "training: 8 problems, 3 answers ungraded"
  labels = [text.get_text() for text in held_out.get_legend().get_texts()]
  assert labels == ["base policy, pass@$k$", "step 2, pass@$k$"]
  segments = [
    line.tolist()
    for lines in held_out.collections
    for line in lines.get_segments()
  ]
  assert [[2.0, 0.25], [2.0, 0.75]] in segments
  with (tmp_path / "curves.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 4
  assert rows[3] == {
    "policy": "step 2", "metric": "pass@2", "mean": "nan",
    "standard_error": "nan", "lower": "0.25", "upper": "0.75",
  }  # fmt: skip


def test_fractions_are_drawn_as_pass_and_as_max(tmp_path, monkeypatch):
  """Training is drawn as max@k, its objective."""
  more = {"max@1": 0.4, "max@1_stderr": 0.1, "max@2": 0.6, "max@2_stderr": 0.1}
  records = [record(i, "eval", **more) for i in (0, 2)]
  write(tmp_path, records + [record(i, "train", **more) for i in range(3)])
  held_out, training, _ = drawn(tmp_path, monkeypatch).axes
  assert len(held_out.get_legend().get_texts()) == 4
  assert training.get_ylabel().startswith("training max@$k$")
  np.testing.assert_allclose(training.lines[0].get_ydata(), 0.4)


def test_metrics_of_an_earlier_version_are_marked(tmp_path, monkeypatch):
  records = [record(0, "eval"), record(2, "eval"), record(0, "train")]
  for r in records:
    del r["num_problems"], r["num_ungraded"]
  write(tmp_path, records)
  held_out, *_ = drawn(tmp_path, monkeypatch).axes
  assert held_out.get_title() == "held out: problems not counted"


@pytest.mark.parametrize("before", [[], [record(0, "eval")]])
def test_a_run_without_evaluations_shows_its_training(
  before, tmp_path, monkeypatch
):
  write(tmp_path, [*before, record(0, "train"), record(1, "train")])
  axes = drawn(tmp_path, monkeypatch).axes
  assert [x.get_xlabel() for x in axes] == ["step", "step"]
  with (tmp_path / "curves.csv").open() as file:
    assert {row["policy"] for row in csv.DictReader(file)} == {
      "training, step 1"
    }


def test_a_run_without_a_step_is_an_error(tmp_path):
  write(tmp_path, [record(0, "eval")])
  with pytest.raises(ValueError, match="holds no step"):
    curves.draw_run(tmp_path)
