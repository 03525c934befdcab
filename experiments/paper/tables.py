"""The tables of the paper: held-out pass@k by arm, mean and standard error.

Example:
  python -m experiments.paper.tables --study=countdown

Four tables in Markdown, printed and written to tables_STUDY.md, with a .csv of
the first: pass@k of the trained policies on held-out problems; differences from
the first arm, paired by seed; the end of training; and how rates were chosen.
Percent, mean ± standard error over seeds; the best of a column is bold.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments import plotting
from experiments.paper import from_studies
from experiments.paper.from_studies import Data

BASE = "base policy"
NAN = float("nan")


class Cell(NamedTuple):
  """A mean over seeds with its standard error, NaN for a single seed."""

  mean: float
  error: float


Table = Mapping[str, Sequence[Cell]]  # row -> a cell for each column


def markdown(
  head: Sequence[str],
  table: Table,
  *,
  percent: bool = True,
  bold: bool = True,
) -> str:
  """The table as Markdown; the best of a column is bold.

  What is equal as it is written is bold together.
  """
  scale, digits = (100, 2) if percent else (1, 3)
  texts = {
    row: [f"{scale * c.mean:.{digits}f}" for c in cells]
    for row, cells in table.items()
  }
  best = [
    max(column, key=float) if bold else "" for column in zip(*texts.values())
  ]
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for row, cells in table.items():
    shown = [
      _shown(mean, f"{scale * cell.error:.{digits}f}", mean == winner)
      for mean, cell, winner in zip(texts[row], cells, best)
    ]
    lines.append(f"| {row} | {' | '.join(shown)} |")
  return "\n".join(lines)


def _shown(mean: str, error: str, is_best: bool) -> str:
  whole = mean if error == "nan" else f"{mean} ± {error}"
  return f"**{whole}**" if is_best else whole


def held_out(data: Data) -> Table:
  """pass@k on held-out problems at the end, for the study's `k_eval`.

  The first row is the policy that all runs start from. Its one evaluation has
  no error over seeds.
  """
  names = [f"pass@{k}" for k in data.study.k_eval]
  first = next(iter(data.by_arm))
  base = [
    Cell(float(from_studies.metric(data, first, name, "test")[0, 0]), NAN)
    for name in names
  ]
  return {BASE: base} | {
    arm: [_cell(_last(data, arm, name)) for name in names]
    for arm in data.by_arm
  }


def differences(data: Data) -> Table:
  """Each arm's held-out pass@k less that of the first, paired by seed."""
  from experiments.studies import results

  names = [f"pass@{k}" for k in data.study.k_eval]
  baseline, *others = data.by_arm
  return {
    f"{arm} - {baseline}": [
      Cell(
        *results.paired_difference(
          _last(data, arm, name), _last(data, baseline, name)
        )
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
  from experiments.studies import results
  from experiments.studies.study import Run

  study, done = data.study, results.load(data.study, folder).done
  return {
    f"{arm}: {study.objective(arm)}": [
      Cell(
        results.summarise(
          study, done[Run(arm, rate, study.seeds[0])], study.objective(arm)
        ),
        NAN,
      )
      for rate in study.rates
    ]
    for arm in data.by_arm
  }


def _last(data: Data, arm: str, name: str) -> list[float]:
  return from_studies.metric(data, arm, name, "test")[:, -1].tolist()


def _cell(by_seed: Sequence[float]) -> Cell:
  from experiments.studies import results

  mean, error = results.mean_and_error(by_seed)
  return Cell(float(mean), float(error))


def text(data: Data, folder: pathlib.Path) -> str:
  """All tables of a study with their headings, as Markdown."""
  study = data.study
  seeds = ", ".join(map(str, study.reported_seeds))
  commits = sorted({r.commit for runs in data.by_arm.values() for r in runs})
  ks = [f"pass@{k}" for k in study.k_eval]
  parts = [
    f"# Study {study.name}: seeds {seeds}, commit {', '.join(commits)}",
    "Held-out problems, percent:",
    markdown(["arm", *ks], held_out(data)),
  ]
  if len(data.by_arm) > 1:
    parts += [
      "The same, differences paired by seed:",
      markdown(["arms", *ks], differences(data), bold=False),
    ]
  parts += [
    f"Training, mean of the last {study.last} steps (final: last step):",
    markdown(
      ["arm", *study.summary], training(data), percent=False, bold=False
    ),
  ]
  if len(study.rates) > 1:
    rates = [f"{study.tuned} {rate:g}" for rate in study.rates]
    parts += [
      f"Chosen on seed {study.seeds[0]}, by the largest of a row:",
      markdown(
        ["arm", *rates], tuning(data, folder), percent=False, bold=False
      ),
    ]
  return "\n\n".join(parts) + "\n"


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
    {"arm": arm, "k": k, "mean": cell.mean, "error": cell.error}
    for arm, cells in held_out(data).items()
    for k, cell in zip(data.study.k_eval, cells)
  ]
  plotting.save_rows(rows, out, name)
  written = text(data, results)
  pathlib.Path(out, f"{name}.md").write_text(written)
  print(written)


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
