"""The tables of the paper: held-out pass@k by arm, mean and standard error.

Example:
  python -m experiments.paper.tables --study=countdown

Tables in Markdown, printed and written to tables_STUDY.md, with a .csv of the
first: pass@k of the trained policies on held-out problems, and max@k where
rewards are not 0/1; differences from the first arm, paired by seed; the end of
training; and how rates were chosen. Percent, mean ± standard error over seeds;
the best of a column is bold. Below stands which constant k is best at each
k_eval, and one number for how that moves, see interaction.py. Where answers
without a grade leave a mean open, "low..high" stands in its place.
"""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import plotting
from experiments.paper import from_studies, interaction
from experiments.paper.from_studies import Data
from experiments.studies.study import Run

if TYPE_CHECKING:  # It imports jax, which --help need not wait for.
  from experiments.studies import results

BASE = "base policy"


class Cell(NamedTuple):
  """A mean over seeds with its standard error, NaN for a single seed.

  The bounds are the mean where it exists, see `studies.results.Value`.
  """

  mean: float
  error: float
  lower: float
  upper: float


Table = Mapping[str, Sequence[Cell]]  # row -> a cell for each column


def markdown(
  head: Sequence[str],
  table: Table,
  *,
  percent: bool = True,
  bold: bool = True,
) -> str:
  """The table as Markdown; the best of a column is bold.

  What is equal as it is written is bold together; nothing is where the upper
  bound of another row is larger.
  """
  scale, digits = (100, 2) if percent else (1, 3)

  def number(x: float) -> str:
    return f"{scale * x:.{digits}f}"

  best = [
    max((number(cell.upper) for cell in column), key=float) if bold else ""
    for column in zip(*table.values())
  ]
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for row, cells in table.items():
    shown = [
      f"**{_shown(cell, number)}**"
      if number(cell.mean) == winner
      else _shown(cell, number)
      for cell, winner in zip(cells, best)
    ]
    lines.append(f"| {row} | {' | '.join(shown)} |")
  return "\n".join(lines)


def _shown(cell: Cell, number: Callable[[float], str]) -> str:
  if math.isnan(cell.mean):
    return f"{number(cell.lower)}..{number(cell.upper)}"
  if math.isnan(cell.error):
    return number(cell.mean)
  return f"{number(cell.mean)} ± {number(cell.error)}"


def measures(data: Data) -> tuple[str, ...]:
  """What is tabled: pass@k, and max@k where rewards are not 0/1."""
  results = [result for runs in data.by_arm.values() for result in runs]
  name = f"max@{data.study.k_eval[0]}"
  both = all(name in result.test for result in results)
  return ("pass", "max") if both else ("pass",)


def held_out(data: Data, measure: str = "pass") -> Table:
  """pass@k on held-out problems at the end, for the study's `k_eval`.

  The first row is the policy that all runs start from. Its one evaluation has
  no error over seeds.
  """
  names = [f"{measure}@{k}" for k in data.study.k_eval]
  first = next(iter(data.by_arm))
  base = [_cell([_of_test(data, first, name, 0)[0]]) for name in names]
  return {BASE: base} | {
    arm: [_cell(_of_test(data, arm, name)) for name in names]
    for arm in data.by_arm
  }


def differences(data: Data, measure: str = "pass") -> Table:
  """Each arm's held-out pass@k less that of the first, paired by seed."""
  from experiments.studies import results

  names = [f"{measure}@{k}" for k in data.study.k_eval]
  baseline, *others = data.by_arm
  return {
    f"{arm} - {baseline}": [
      _cell(
        [
          results.Value(x.mean - y.mean, x.lower - y.upper, x.upper - y.lower)
          for x, y in zip(
            _of_test(data, arm, name), _of_test(data, baseline, name)
          )
        ]
      )
      for name in names
    ]
    for arm in others
  }


def training(data: Data) -> Table:
  """The study's `summary` of its training, not in percent."""
  from experiments.studies import results

  return {
    arm: [
      _cell([results.summarise(data.study, run, name) for run in runs])
      for name in data.study.summary
    ]
    for arm, runs in data.by_arm.items()
  }


def tuning(data: Data, folder: pathlib.Path) -> Table:
  """Each arm's own objective at every rate, on the seed that chose the rate."""
  study = data.study
  return {
    f"{arm}: {study.objective(arm)}": _objectives(
      data, folder, [run for run in study.runs_to_tune if run.arm == arm]
    )
    for arm in data.by_arm
    if arm in study.tuned_arms
  }


def members(data: Data, folder: pathlib.Path, family: str) -> Table:
  """The objective of each arm of a family, on the seed that chose one."""
  from experiments.studies import results

  study = data.study
  runs = study.runs_of_families(results.best_runs(study, folder))
  runs = [run for run in runs if run.arm in study.families[family].arms]
  name = f"{family}: {study.objective(runs[0].arm)}"
  return {name: _objectives(data, folder, runs)}


def _objectives(
  data: Data, folder: pathlib.Path, runs: Sequence[Run]
) -> list[Cell]:
  from experiments.studies import results

  study, done = data.study, results.load(data.study, folder).done
  return [
    _cell([results.summarise(study, done[run], study.objective(run.arm))])
    for run in runs
  ]


def _of_test(
  data: Data, arm: str, name: str, evaluation: int = -1
) -> "list[results.Value]":
  """A held-out metric of each seed in an evaluation, the last by default."""
  from experiments.studies import results

  by_seed = from_studies.metric(data, arm, name, "test")
  bounds = from_studies.bounds(data, arm, name, "test")
  columns = (x[:, evaluation].tolist() for x in (by_seed, *bounds))
  return [results.Value(*values) for values in zip(*columns)]


def _cell(by_seed: "Sequence[results.Value]") -> Cell:
  from experiments.studies import results

  mean, error = results.mean_and_error([value.mean for value in by_seed])
  ends = (float(np.mean(x)) for x in list(zip(*by_seed))[1:])
  return Cell(float(mean), float(error), *ends)


def of_held_out(data: Data, measure: str) -> list[str]:
  """Tables of one measure, and the number that sums the first one up."""
  ks = [f"{measure}@{k}" for k in data.study.k_eval]
  parts = [
    f"Held-out problems, percent; {from_studies.counted(data, 'test')}:",
    markdown(["arm", *ks], held_out(data, measure)),
    interaction.text(data, measure),
  ]
  if len(data.by_arm) > 1:
    parts += [
      "The same, differences paired by seed:",
      markdown(["arms", *ks], differences(data, measure), bold=False),
    ]
  return [part for part in parts if part]


def text(data: Data, folder: pathlib.Path) -> str:
  """All tables of a study with their headings, as Markdown."""
  study = data.study
  seeds = ", ".join(map(str, study.reported_seeds))
  commits = from_studies.commits(data)
  parts = [f"# Study {study.name}: seeds {seeds}, commit {commits}"]
  for measure in measures(data):
    parts += of_held_out(data, measure)
  parts += [
    f"Training, mean of the last {study.last} steps (final: last step);"
    f" {from_studies.counted(data, 'train')}:",
    markdown(
      ["arm", *study.summary], training(data), percent=False, bold=False
    ),
  ]
  return "\n\n".join([*parts, *_of_tuning(data, folder)]) + "\n"


def _of_tuning(data: Data, folder: pathlib.Path) -> list[str]:
  """Tables of what was chosen from."""
  study = data.study
  if study.rates_from:
    return [f"Rates are those that study {study.rates_from} has chosen."]
  parts = []
  if len(study.rates) > 1:
    heads = ["arm", *(f"{study.tuned} {rate:g}" for rate in study.rates)]
    parts.append((heads, tuning(data, folder)))
  for family, (arms, _) in study.families.items():
    if family in data.by_arm:
      parts.append((["family", *arms], members(data, folder, family)))
  return [
    text
    for heads, table in parts
    if table
    for text in (
      f"Chosen on seed {study.seeds[0]}, by the largest of a row:",
      markdown(heads, table, percent=False, bold=False),
    )
  ]


def draw(
  out: str | pathlib.Path,
  *,
  study: str,
  results: pathlib.Path = from_studies.RESULTS,
  arms: Sequence[str] = (),
) -> None:
  """Writes the tables of a study, and prints them.

  Raises:
    ValueError: a result is missing; says how to make it.
  """
  data = from_studies.load(study, results, arms)
  name = from_studies.name_of("tables", data)
  rows = [
    {"arm": arm, "measure": measure, "k": k} | cell._asdict()
    for measure in measures(data)
    for arm, cells in held_out(data, measure).items()
    for k, cell in zip(data.study.k_eval, cells)
  ]
  plotting.save_rows(rows, out, name)
  written = text(data, results)
  pathlib.Path(out, f"{name}.md").write_text(written)
  print(written)


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
