"""Writes docs/paper.md: the paper's figures and tables, with ours beside them.

Example:
  python -m experiments.paper.report

All numbers of ours are computed from the results of studies; what has none
says so, with the command that makes them. Pictures go to docs/paper/.
"""

import importlib
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from experiments import command_line, plotting
from experiments.paper import claims, from_studies, published, tables
from experiments.paper.from_studies import Data
from experiments.paper.interaction import coefficient, constant_k
from experiments.studies import study as study_lib

_NONE = "no results yet"
_DOCS = pathlib.Path("docs")

# Figures without a policy to train: what the paper shows, and what is seen.
_TOY = {
  "1a": (
    "fig1a_objective",
    "the best mean of the toy policy moves towards the cliff as k grows",
    "0.8624 for k = 1, 0.9856 for k = 16",
  ),
  "1b": (
    "fig1b_gradient",
    "the gradient grows steep at the cliff with k",
    "from about 1.6 before it to -7.2 behind it, k = 16",
  ),
  "2": (
    "fig2_rank_weights",
    "the best samples get the weight as k grows",
    "flat at k = 1, all on the best at k = n",
  ),
  "4": (
    "fig4_variance",
    "`sloo_minus_one` has the least variance",
    "58 to 78 times less than `s` at every n from 8 to 256",
  ),
  "5": (
    "fig5_effective_rewards",
    "the baselined weights are near centred, `s` has an offset",
    "up to 0.22 at k = 16 for `s`",
  ),
}


class Section(NamedTuple):
  """A figure or table of the paper that is drawn from studies.

  Attributes:
    title: of the section.
    module: of experiments.paper, that draws it.
    claim: of the paper, in a sentence.
    find: asks our results.
    studies: in which.
  """

  title: str
  module: str
  claim: str
  find: Callable[[Data], claims.Finding]
  studies: tuple[str, ...]


_CORE = ("countdown", "mazes")
_AGAIN = ("countdown_again", "mazes_again")
_LADDER = ("mazes", "mazes_far")
SECTIONS = (
  Section(
    "Tables: held-out pass@k_eval",
    "tables",
    "The best entry of a column k_eval is the row whose k_opt is nearest.",
    claims.near_k_eval,
    (*_CORE, *_AGAIN),
  ),
  Section(
    "Figure 3: annealing k",
    "fig3_annealing",
    "k = 8, then 1, ends above k = 1 for every k_eval > 1, and loses nothing at"
    " 1.",
    claims.annealing,
    (*_CORE, *_AGAIN),
  ),
  Section(
    "Figure 6: exploration",
    "fig6_exploration",
    "Cumulative solve rate and entropy rise with k_opt.",
    claims.exploration,
    _CORE,
  ),
  Section(
    "Figure 7: rolling pass@k",
    "fig7_rolling_pass_at_k",
    "In training, too, each run is best where k_eval is near its k_opt.",
    claims.rolling,
    _CORE,
  ),
  Section(
    "Figure 8: the ladder",
    "fig8_stall",
    "On hard problems k = 1 stalls, and k >= 4 learns.",
    claims.stall,
    _LADDER,
  ),
  Section(
    "Beyond the paper: other objectives",
    "tables",
    "It compares with TZSM25 and an entropy bonus alone; here GRPO, MaxRL,"
    " TailRL, Pass@k Training and a k for each problem are beside it.",
    claims.best,
    ("beyond", "beyond_binary"),
  ),
)


def write(
  folder: pathlib.Path,
  results: pathlib.Path = from_studies.RESULTS,
  *,
  pictures: bool = True,
) -> None:
  """Writes paper.md to a folder, and the pictures to its folder paper.

  Raises:
    ValueError: a study is not as it should be.
  """
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "paper.md").write_text(text(results))
  if not pictures:
    return
  for section in SECTIONS:
    for name, data in _data(section, results).items():
      if isinstance(data, Data) and section.module != "tables":
        _draw(section.module, name, results, folder / "paper")


def text(results: pathlib.Path = from_studies.RESULTS) -> str:
  """The page as Markdown."""
  found = {section: _data(section, results) for section in SECTIONS}
  parts = [
    "# The paper's figures and tables, and ours",
    "Written by `python -m experiments.paper.report` from the results of"
    " studies; nothing of them is typed by hand. The paper (arXiv:2505.15201)"
    " trains Gemma 2 with 2 and 9 billion parameters on MATH, code and"
    " ARC-AGI-1; we train one with 0.4 million on [Countdown and"
    " mazes](tasks.md), on two CPU cores. So claims are compared, not numbers."
    " Means are over seeds that chose nothing, with standard errors; intervals"
    " hold what they are of with 95 %.",
    _overview(found),
    "Figures 1, 2, 4 and 5 train nothing; more on each, and what differs, in"
    " [experiments/paper](../experiments/paper/README.md).",
    *(_section(section, data) for section, data in found.items()),
    _published(),
    _costs(results),
  ]
  return "\n\n".join(parts) + "\n"


def _data(
  section: Section, results: pathlib.Path
) -> dict[str, Data | ValueError]:
  """Study -> its results, or the error that says what is missing."""
  from experiments.studies import results as results_lib

  found: dict[str, Data | ValueError] = {}
  for study in section.studies:
    try:
      found[study] = from_studies.load(study, results)
    except results_lib.MissingResultsError as error:
      found[study] = error
  return found


def _overview(
  found: Mapping[Section, Mapping[str, Data | ValueError]],
) -> str:
  """A line for each figure and table: its claim, and where it holds."""
  lines = ["| paper | claim | does it hold here |", "|---|---|---|"]
  lines += [
    f"| [Figure {number}](../experiments/paper/{module}.py) | {claim} | yes:"
    f" {seen} |"
    for number, (module, claim, seen) in _TOY.items()
  ]
  for section, by_study in found.items():
    verdicts = [
      f"{study}: {_NONE}"
      if isinstance(data, ValueError)
      else f"{study}: {section.find(data).holds}"
      for study, data in by_study.items()
    ]
    name = section.title.partition(":")[0]
    lines.append(f"| {name} | {section.claim} | {'; '.join(verdicts)} |")
  return "\n".join(lines)


def _section(
  section: Section, by_study: Mapping[str, Data | ValueError]
) -> str:
  """The claim of a figure or table, and what each study says of it."""
  draw = f"python -m experiments.paper.{section.module} --study=STUDY"
  parts = [
    f"## {section.title}",
    f"*The paper:* {section.claim} *Drawn by* `{draw}`.",
  ]
  for study, data in by_study.items():
    if isinstance(data, ValueError):
      train = f"python -m experiments.studies.run --study={study} --processes=2"
      parts.append(f"**{study}**: {_NONE}. `{train}` makes them.")
      continue
    finding = section.find(data)
    parts.append(
      f"**{study}** ({_source(data)}): {finding.seen} *Does it hold?*"
      f" {finding.holds}."
    )
    if section.module == "tables":
      for measure in dict.fromkeys(("pass", data.study.measure)):
        parts += tables.of_held_out(data, measure)[1:2]
    else:
      picture = f"paper/{from_studies.name_of(section.module, data)}.png"
      parts.append(f"![{section.title}, {study}]({picture})")
  return "\n\n".join(parts)


def _source(data: Data) -> str:
  """Seeds, commits, and hours of what is reported."""
  runs = [result for some in data.by_arm.values() for result in some]
  seeds = ", ".join(map(str, data.study.reported_seeds))
  hours = sum(result.seconds for result in runs) / 3600
  return (
    f"seeds {seeds}, commit {from_studies.commits(data)}, {hours:.1f} hours"
  )


def _published() -> str:
  """The paper's tables, and the number that sums up ours for each."""
  parts = [
    "## The paper's own numbers",
    "Held-out pass@k_eval in percent. The interaction is the same number as"
    " above, of rows k = 1 to 8.",
  ]
  for name, rows in published.TABLES.items():
    ks = constant_k(list(rows))
    d = coefficient(
      np.array([rows[arm] for arm in ks]), list(ks.values()), published.K_EVAL
    )
    table = {
      arm: [tables.Cell(x / 100, np.nan, x / 100, x / 100) for x in row]
      for arm, row in rows.items()
    }
    heads = ["k_opt", *(f"pass@{k}" for k in published.K_EVAL)]
    parts += [f"**{name}**: {d:.3f}", tables.markdown(heads, table)]
  heads = ["k_opt", "solved at least once", "pass@1", "pass@16"]
  table = {
    arm: [tables.Cell(x / 100, np.nan, x / 100, x / 100) for x in row]
    for arm, row in published.ARC.items()
  }
  parts += ["**Gemma 2 9B, ARC-AGI-1**", tables.markdown(heads, table)]
  return "\n\n".join(parts)


def _costs(results: pathlib.Path) -> str:
  """What each study takes, measured where it has results."""
  from experiments.studies import results as results_lib

  lines = ["| study | runs done | hours of one core |", "|---|---|---|"]
  for name in study_lib.known():
    study = study_lib.load(name)
    done = results_lib.load(study, results).done
    best = results_lib.best_runs(study, results, done)
    count = len(study.runs_needed(best).intersection(done))
    spent = [result.seconds for result in done.values()]
    seconds = np.mean(spent) if spent else study.seconds
    source = "measured" if spent else "as the study says"
    hours = study.num_runs * seconds / 3600
    lines.append(
      f"| [{name}](../experiments/studies/{name}.py) | {count} of"
      f" {study.num_runs} | {hours:.1f}, {source} |"
    )
  return "\n\n".join(
    [
      "## What it costs",
      "\n".join(lines),
      "Runs that two studies share count in both, and are trained once.",
    ]
  )


def _draw(
  module: str, study: str, results: pathlib.Path, folder: pathlib.Path
) -> None:
  """Draws a picture; its numbers are in the results already."""
  folder.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as scratch:
    draw = importlib.import_module(f"experiments.paper.{module}").draw
    draw(scratch, study=study, results=results)
    for picture in pathlib.Path(scratch).glob("*.png"):
      shutil.copy(picture, folder)


def main() -> None:
  """The command."""
  parser = plotting.parser(__doc__)
  parser.set_defaults(out=str(_DOCS))
  parser.add_argument(
    "--results",
    type=command_line.path,
    default=from_studies.RESULTS,
    help=f"of studies (default: {from_studies.RESULTS})",
  )
  flags = parser.parse_args()
  write(pathlib.Path(flags.out), flags.results)
  print(f"Wrote {flags.out}/paper.md")


if __name__ == "__main__":
  main()
