"""Figure 7: rolling training pass@k of all arms, a panel for each k.

Each run is best where the k of the panel is near the k that it is trained for,
says the paper.

Example:
  python -m experiments.paper.fig7_rolling_pass_at_k --study=countdown

Writes fig7_rolling_pass_at_k_STUDY.png, and .csv with the numbers in it.
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
  """Draws pass@k over the last steps, of the arms of a study.

  Raises:
    ValueError: a result is missing; says how to make it.
  """
  data = from_studies.load(study, results, arms)
  titles = from_studies.pass_at_k_titles(data)
  figure, _, rows = from_studies.draw_panels(data, titles, rolled=list(titles))
  name = from_studies.name_of("fig7_rolling_pass_at_k", data)
  plotting.save(figure, rows, out, name)


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
