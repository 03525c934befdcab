"""Figure 3: training pass@k when k changes while training.

A dotted line marks where k changes. Annealed from a large k to 1, a run keeps
much of the exploration and ends with the pass@1 of k = 1.

Example:
  python -m experiments.paper.fig3_annealing --study=countdown

Writes fig3_annealing_STUDY.png, and .csv with the numbers in it.
"""

import pathlib
from collections.abc import Sequence

from experiments import plotting
from experiments.paper import from_studies


def draw(
  out: str | pathlib.Path,
  *,
  study: str,
  results: pathlib.Path = from_studies.RESULTS,
  arms: Sequence[str] = (),
) -> None:
  """Draws rolling pass@k of the arms of a study, one of them annealed.

  Raises:
    ValueError: a result is missing, or no arm changes its k.
  """
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


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
