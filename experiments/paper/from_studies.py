"""What the figures and tables that are drawn from studies share.

A curve is the mean over the reported seeds at the best rate of an arm, with a
band of one standard error; the rate was chosen on another seed. Where answers
without a grade leave a mean open, the curve has a gap, and what lies between
its bounds is hatched.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments import command_line, plotting
from experiments.studies import study as study_lib
from experiments.studies.study import RESULTS

Rows = list[dict[str, Any]]


class Draw(Protocol):
  """Draws a figure or writes a table from a study."""

  def __call__(
    self,
    out: str | pathlib.Path,
    *,
    study: str,
    results: pathlib.Path = RESULTS,
    arms: Sequence[str] = (),
  ) -> Any:
    """Writes to the folder `out`."""


class Data(NamedTuple):
  """What is reported of a study.

  Attributes:
    study: its arms, and what is drawn of them.
    by_arm: arm -> results of all reported seeds, in the same order for all.
  """

  study: study_lib.Study
  by_arm: dict[str, list[Any]]


def load(study: str, results: pathlib.Path, arms: Sequence[str] = ()) -> Data:
  """The results of a study by its name.

  Raises:
    ValueError: there is no such study or arm, or a result is missing; says
      what to do.
  """
  from experiments.studies import results as results_lib

  found = study_lib.load(study)
  return Data(found, results_lib.reported(found, results, arms))


def metric(data: Data, arm: str, name: str, stage: str = "train") -> np.ndarray:
  """[seeds, steps] of a metric.

  Raises:
    ValueError: the runs did not measure it.
  """
  columns = [getattr(result, stage) for result in data.by_arm[arm]]
  for result, found in zip(data.by_arm[arm], columns):
    if name not in found:
      raise ValueError(
        f"{result.run.name} of study {data.study.name!r} has no {name}; it has"
        f" {', '.join(found)}."
      )
  return np.array([found[name] for found in columns])


def bounds(
  data: Data, arm: str, name: str, stage: str = "train"
) -> tuple[np.ndarray, np.ndarray]:
  """Lower and upper bounds of a metric, [seeds, steps]: itself, if it is."""
  from experiments.studies import results as results_lib

  metric(data, arm, name, stage)
  columns = [getattr(result, stage) for result in data.by_arm[arm]]
  lower, upper = zip(*(results_lib.bounds(x, name) for x in columns))
  return np.array(lower), np.array(upper)


def commits(data: Data) -> str:
  """Commits of the code that trained what is reported."""
  runs = [result for some in data.by_arm.values() for result in some]
  return ", ".join(sorted({x for run in runs for x in run.commit.split(", ")}))


def counted(data: Data, stage: str) -> str:
  """How many problems means are over, and answers of all runs lack a grade."""
  columns = [
    getattr(result, stage) for runs in data.by_arm.values() for result in runs
  ]
  if any("num_problems" not in x for x in columns):
    return "problems not counted"  # by the version that made these results
  numbers = np.unique([x["num_problems"] for x in columns]).astype(int)
  ungraded = sum(int(x["num_ungraded"].sum()) for x in columns)
  per = "a step" if stage == "train" else "an evaluation"
  return (
    f"{', '.join(map(str, numbers))} problems {per}, {ungraded} answers"
    f" ungraded in {len(columns)} runs"
  )


def draw_curves(axes: Any, data: Data, name: str, *, window: int = 1) -> Rows:
  """Draws a training metric of all arms by step, rolling over `window` steps.

  Returns:
    The numbers, one row for each arm and step.
  """
  from experiments.studies import results as results_lib

  rows: Rows = []
  for arm, style in plotting.arm_styles(data.by_arm).items():
    steps = metric(data, arm, "step")[0].astype(int)
    by_seed = metric(data, arm, name)
    smooth = np.array([plotting.rolling(seed, window) for seed in by_seed])
    mean, error = results_lib.mean_and_error(smooth)
    lower, upper = (
      np.mean([plotting.rolling(seed, window) for seed in bound], axis=0)
      for bound in bounds(data, arm, name)
    )
    plotting.band(axes, steps, mean, error, **style)
    plotting.bounds(axes, steps, lower, upper, style["color"])
    columns = ("step", "mean", "error", "lower", "upper")
    rows += [
      {"arm": arm, "metric": name} | dict(zip(columns, numbers))
      for numbers in zip(steps, mean, error, lower, upper)
    ]
  axes.set_ylim(bottom=0)
  return rows


def draw_panels(
  data: Data, titles: dict[str, str], *, rolled: Sequence[str] = ()
) -> tuple[Any, np.ndarray, Rows]:
  """Draws a panel for each metric, with one legend above them.

  Args:
    data: what to draw.
    titles: training metric -> title of its panel.
    rolled: those whose curves are rolling means over `study.last` steps.

  Returns:
    The figure, its panels, and the numbers in it.
  """
  columns = 2 if len(titles) in (2, 4) else min(len(titles), 3)
  lines = -(-len(titles) // columns)
  figure, axes = plotting.subplots(
    columns, rows=lines, width=8.0, height=2.5 * lines + 0.5
  )
  panels, rows = np.atleast_1d(axes), []
  for panel, (name, title) in zip(panels, titles.items()):
    window = data.study.last if name in rolled else 1
    rows += draw_curves(panel, data, name, window=window)
    panel.set_title(title)
    panel.set_xlabel("step")
  for panel in panels[len(titles) :]:
    panel.set_axis_off()
  handles, labels = panels[0].get_legend_handles_labels()
  columns = min(len(labels), 7)
  figure.legend(
    handles,
    labels,
    loc="outside upper center",
    ncols=columns,
    title=counted(data, "train"),
  )
  return figure, panels[: len(titles)], rows


def pass_at_k_titles(data: Data) -> dict[str, str]:
  """Metric -> title of the panels of pass@k at the study's `k_eval`."""
  return {f"pass@{k}": f"training pass@{k}" for k in data.study.k_eval}


def name_of(module: str, data: Data) -> str:
  """The file name of a picture or table: its module's, and its study's."""
  return f"{module}_{data.study.name}"


def command(draw: Draw, description: str | None) -> None:
  """The command line of a figure or table that is drawn from a study."""
  parser = plotting.parser(description)
  known = ", ".join(study_lib.known())
  parser.add_argument(
    "--study", default="countdown", help=f"one of: {known} (default: countdown)"
  )
  parser.add_argument(
    "--results",
    type=command_line.path,
    default=RESULTS,
    help=f"folder of results (default: {RESULTS})",
  )
  parser.add_argument(
    "--arms", nargs="+", default=(), help="which (default: all of the study)"
  )
  flags = parser.parse_args()
  try:
    draw(**vars(flags))
  except ValueError as error:
    parser.error(str(error))
