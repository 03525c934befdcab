"""Figures drawn from studies: the curves, and never fewer arms in silence."""

import csv
import dataclasses
import importlib
import pathlib
import sys

import numpy as np
import pytest
from helpers import drawn_study, made_up_results

from experiments import plotting
from experiments.paper import __main__ as paper
from experiments.paper import fig3_annealing, from_studies
from experiments.studies import study as study_lib
from experiments.studies.study import Run

STUDY = drawn_study.STUDY
FIGURES = (
  "fig3_annealing",
  "fig6_exploration",
  "fig7_rolling_pass_at_k",
  "fig8_stall",
)
NUM_PANELS = dict(zip(FIGURES, (5, 2, 5, 3)))


def value(run, name, step):
  return run.rate * 100 * (1 + run.seed + step)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Results of all runs of the study, made up."""
  path = tmp_path_factory.mktemp("results")
  runs = made_up_results.all_runs(STUDY)
  made_up_results.write(STUDY, path, runs, value)
  return path


def draw(name, out, **options):
  module = importlib.import_module(f"experiments.paper.{name}")
  module.draw(out, study=STUDY.name, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shows_all_arms(name, folder, tmp_path):
  draw(name, tmp_path, results=folder)
  picture = (tmp_path / f"{name}_{STUDY.name}.png").read_bytes()
  assert picture.startswith(b"\x89PNG")
  with (tmp_path / f"{name}_{STUDY.name}.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  panels = {row["metric"] for row in rows}
  assert len(panels) == NUM_PANELS[name]
  for panel in panels:
    arms = {row["arm"] for row in rows if row["metric"] == panel}
    assert arms == set(STUDY.arms)
  assert len(rows) == len(panels) * len(STUDY.arms) * made_up_results.STEPS


@pytest.mark.parametrize("name", [*FIGURES, "tables"])
def test_a_missing_result_is_an_error_in_two_lines(
  name, tmp_path, monkeypatch, capsys
):
  """All but one seed of one arm are there: nothing is drawn without it."""
  absent = Run("annealed", max(STUDY.rates), STUDY.seeds[-1])
  runs = [r for r in made_up_results.all_runs(STUDY) if r != absent]
  made_up_results.write(STUDY, tmp_path / "results", runs, value)
  out = tmp_path / "figures"
  options = [f"--study={STUDY.name}", f"--out={out}"]
  options.append(f"--results={tmp_path / 'results'}")
  monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
  module = importlib.import_module(f"experiments.paper.{name}")
  with pytest.raises(SystemExit) as error:
    from_studies.command(module.draw, module.__doc__)
  assert error.value.code == 2
  message, _ = capsys.readouterr().err.splitlines()
  assert absent.name in message
  assert f"experiments.studies.run --study={STUDY.name}" in message
  assert not out.exists()


@pytest.mark.slow
def test_arms_are_left_out_only_when_asked(folder, tmp_path):
  draw("fig7_rolling_pass_at_k", tmp_path, results=folder, arms=["k8", "k1"])
  path = tmp_path / f"fig7_rolling_pass_at_k_{STUDY.name}.csv"
  with path.open(newline="") as file:
    assert {row["arm"] for row in csv.DictReader(file)} == {"k1", "k8"}


def test_figure_3_needs_an_arm_whose_k_changes(folder, tmp_path):
  with pytest.raises(ValueError, match="needs an arm whose k changes"):
    draw("fig3_annealing", tmp_path, results=folder, arms=["k1", "k8"])


@pytest.mark.parametrize(
  ("study", "arms"),
  [
    ("mazes", ["k1", "k8", "annealed"]),
    ("tests.helpers.tiny_study", ["k1", "annealed"]),
    ("mazes_far", []),
  ],
)
def test_figure_3_is_of_what_is_annealed_and_of_its_ends(study, arms):
  assert fig3_annealing.compared(study) == arms


def test_figure_3_marks_where_k_changes(folder, tmp_path, monkeypatch):
  saved = []
  monkeypatch.setattr(plotting, "save", lambda figure, *_: saved.append(figure))
  fig3_annealing.draw(tmp_path, study=STUDY.name, results=folder)
  for panel in saved[0].axes[: NUM_PANELS["fig3_annealing"]]:
    assert [100, 100] in [list(line.get_xdata()) for line in panel.lines]


def test_curve_and_band_by_hand(folder):
  """Rate 4e-4 is best: .04 (1 + seed + step), rolling over two steps.

  Seeds 1 and 2 at step 0: .08 and .12; from step 1 on .02 less than at their
  step. The error is half the difference, .02, everywhere.
  """
  study = dataclasses.replace(STUDY, last=2)
  data = from_studies.load(STUDY.name, folder)._replace(study=study)
  _, axes = plotting.subplots()
  rows = from_studies.draw_curves(axes, data, "entropy", window=2)
  of_k1 = [row for row in rows if row["arm"] == "k1"]
  means = [row["mean"] for row in of_k1]
  np.testing.assert_allclose(means, [0.1, 0.12, 0.16, 0.2])
  np.testing.assert_allclose([row["error"] for row in of_k1], 0.02)
  band = axes.collections[0].get_paths()[0].vertices
  assert np.isclose(band[:, 1].max(), 0.22)
  np.testing.assert_allclose(axes.lines[0].get_ydata(), means)


def test_a_gap_in_a_curve_is_hatched_between_its_bounds(folder):
  """Rolling over two steps, one of which lies between .1 and .5."""
  data = from_studies.load(STUDY.name, folder, ["k1"])
  for result in data.by_arm["k1"]:
    ones = np.full(made_up_results.STEPS, 0.3)
    nothing = ones * np.nan
    result.train["pass@2"] = ones.copy()
    result.train["pass@2_lower"] = nothing.copy()
    result.train["pass@2_upper"] = nothing.copy()
  result.train["pass@2"][1] = np.nan  # of one of two seeds
  result.train["pass@2_lower"][1] = 0.1
  result.train["pass@2_upper"][1] = 0.5
  _, axes = plotting.subplots()
  rows = from_studies.draw_curves(axes, data, "pass@2", window=2)
  nan = float("nan")
  for name, values in (
    ("mean", [0.3, nan, nan, 0.3]),
    ("lower", [0.3, 0.25, 0.25, 0.3]),
    ("upper", [0.3, 0.35, 0.35, 0.3]),
  ):
    np.testing.assert_allclose([row[name] for row in rows], values)
  hatched = axes.collections[1]
  assert hatched.get_hatch()
  heights = hatched.get_paths()[0].vertices[:, 1]
  assert (heights.min(), heights.max()) == pytest.approx((0.25, 0.35))


def test_problems_and_ungraded_answers_stand_in_the_pictures(folder):
  """3 arms, 2 seeds each; 2 answers in each of 4 steps have no grade."""
  data = from_studies.load(STUDY.name, folder)
  expected = "32 problems a step, 48 answers ungraded in 6 runs"
  assert from_studies.counted(data, "train") == expected
  titles = from_studies.pass_at_k_titles(data)
  figure, *_ = from_studies.draw_panels(data, titles)
  (legend,) = figure.legends
  assert legend.get_title().get_text() == expected
  del data.by_arm["k8"][0].train["num_problems"]
  assert from_studies.counted(data, "train") == "problems not counted"


def test_a_metric_that_was_not_measured_is_an_error(folder):
  data = from_studies.load(STUDY.name, folder)
  with pytest.raises(
    ValueError, match=r"has no pass@3; it has step, .*pass@1,"
  ):
    from_studies.metric(data, "k1", "pass@3")


@pytest.fixture
def the_only_study(monkeypatch):
  monkeypatch.setattr(study_lib, "known", lambda: [STUDY.name])


@pytest.mark.slow
def test_one_command_draws_all_there_is(
  folder, tmp_path, monkeypatch, capsys, the_only_study
):
  drawn = []
  for name in paper.TOY:
    monkeypatch.setattr(f"experiments.paper.{name}.draw", drawn.append)
  monkeypatch.setattr(
    sys, "argv", ["paper", f"--out={tmp_path}", f"--results={folder}"]
  )
  paper.main()
  assert drawn == [str(tmp_path)] * len(paper.TOY)
  for name in STUDY.figures:
    assert (tmp_path / f"{name}_{STUDY.name}.csv").exists()
  assert "Not drawn" not in capsys.readouterr().out


def test_one_command_lists_what_lacks_results(
  tmp_path, monkeypatch, the_only_study
):
  for name in paper.TOY:
    monkeypatch.setattr(f"experiments.paper.{name}.draw", lambda out: None)
  left = paper.draw_all(tmp_path, tmp_path / "none")
  (line,) = left
  assert line.startswith(f"{STUDY.name} ({', '.join(STUDY.figures)}): ")
  assert f"python -m experiments.studies.run --study={STUDY.name}" in line
  assert not list(tmp_path.iterdir())


def test_arms_are_told_apart_by_colour_and_by_dashes():
  arms = ["k1", "k2", "k4", "k8", "k16", "annealed", "tzsm25", "entropyreg"]
  styles = plotting.arm_styles(arms)
  assert list(styles) == arms
  assert len({str(style["linestyle"]) for style in styles.values()}) == 8
  assert len({str(style["color"]) for style in styles.values()}) == 8
  with pytest.raises(ValueError, match="can be told apart"):
    plotting.arm_styles("abcdefgh")


def test_rolling_means_by_hand():
  """None where one of them is missing."""
  nan = float("nan")
  values = [1.0, 3.0, nan, 7.0, 9.0]
  found = plotting.rolling(values, 2)
  np.testing.assert_allclose(found, [1, 2, nan, nan, 8])
  np.testing.assert_allclose(plotting.rolling(values, 1), values)


MODULES = sorted(
  path.stem
  for path in pathlib.Path(paper.__file__).parent.glob("*.py")
  if path.stem.startswith(("fig", "tables"))
)


@pytest.mark.parametrize("name", MODULES)
def test_the_readme_and_the_help_show_the_command(name):
  command = f"python -m experiments.paper.{name}"
  readme = pathlib.Path(paper.__file__).with_name("README.md").read_text()
  assert f"`{command}" in readme
  module = importlib.import_module(f"experiments.paper.{name}")
  assert f"Example:\n  {command} --" in module.__doc__


def test_every_figure_is_drawn_by_the_one_command():
  studies = map(study_lib.load, study_lib.known())
  of_studies = {name for study in studies for name in study.figures}
  assert {*paper.TOY, *of_studies} == set(MODULES)
