"""Draws all figures and tables of the paper that there are data for.

Example:
  python -m experiments.paper --out=figures

The toy figures need no data. Those of studies are drawn for every study in
experiments/studies, and what lacks results is listed at the end, with the
command that makes them.
"""

import importlib
import pathlib

from experiments import command_line, plotting
from experiments.studies import study as study_lib

TOY = (
  "fig1a_objective",
  "fig1b_gradient",
  "fig2_rank_weights",
  "fig4_variance",
  "fig5_effective_rewards",
)


def draw_all(out: str, results: pathlib.Path) -> list[str]:
  """Draws what can be drawn.

  Returns:
    For everything else a line that says why, and what to do: one a study,
    unless reasons differ.
  """
  for name in TOY:
    importlib.import_module(f"experiments.paper.{name}").draw(out)
  left: dict[tuple[str, str], list[str]] = {}
  for study in study_lib.known():
    for name in study_lib.load(study).figures:
      module = importlib.import_module(f"experiments.paper.{name}")
      try:
        module.draw(out, study=study, results=results)
      except ValueError as error:
        left.setdefault((study, str(error)), []).append(name)
  return [
    f"{study} ({', '.join(names)}): {reason}"
    for (study, reason), names in left.items()
  ]


def main() -> None:
  """The command."""
  parser = plotting.parser(__doc__)
  parser.add_argument(
    "--results",
    type=command_line.path,
    default=study_lib.RESULTS,
    help=f"of studies (default: {study_lib.RESULTS})",
  )
  left = draw_all(**vars(parser.parse_args()))
  if left:
    print("Not drawn:", *left, sep="\n  ")


if __name__ == "__main__":
  main()
