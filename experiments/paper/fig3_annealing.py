"""Figure 3: training pass@k when k changes while training.

The arm whose k changes, at the dotted line, beside the arms that keep its first
and its last k. Annealed from a large k to 1, says the paper, a run keeps much
of the exploration and ends with the pass@1 of k = 1.

Example:
  python -m experiments.paper.fig3_annealing --study=countdown

Writes fig3_annealing_STUDY.png, and .csv with the numbers in it.
"""

import pathlib
from collections.abc import Sequence

from experiments import plotting
from experiments.paper import from_studies
from experiments.studies import study as study_lib


def draw(
  out: str | pathlib.Path,
  *,
  study: str,
  results: pathlib.Path = from_studies.RESULTS,
  arms: Sequence[str] = (),
) -> None:
  """Draws rolling pass@k of an annealed arm and of what it goes through.

  Raises:
    ValueError: a result is missing, or no arm changes its k.
  """
  arms = arms or compared(study)
  data = from_studies.load(study, results, arms)
  boundaries = {
    step
    for runs in data.by_arm.values()
    for step in data.study.make_config(runs[0].run).k_boundaries
  }
  if not boundaries:
    raise ValueError(
      f"Figure 3 needs an arm whose k changes (k_boundaries); in {study!r}"
      f" those drawn, {', '.join(data.by_arm)}, keep theirs."
    )
  titles = from_studies.pass_at_k_titles(data)
  figure, panels, rows = from_studies.draw_panels(
    data, titles, rolled=list(titles)
  )
  for panel in panels:
    for step in boundaries:
      panel.axvline(step, color="0.3", linestyle=":", linewidth=1)
  plotting.save(figure, rows, out, from_studies.name_of("fig3_annealing", data))


def compared(study: str) -> list[str]:
  """Arms whose k changes, after those that have one of their k all along."""
  arms = study_lib.load(study).arms
  annealed = {arm: x for arm, x in arms.items() if x.get("k_boundaries")}
  ends = [
    {**x, "k_opt": (k,), "k_boundaries": ()}
    for x in annealed.values()
    for k in x["k_opt"]
  ]
  constant = [
    arm for arm, x in arms.items() if {"k_boundaries": (), **x} in ends
  ]
  return [*constant, *annealed]


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
