"""Figure 6: problems solved at least once, and entropy, by step.

The cumulative solve rate is the fraction of training problems for which a right
answer has been seen so far. In the paper both rise with k.

Example:
  python -m experiments.paper.fig6_exploration --study=countdown

Writes fig6_exploration_STUDY.png, and .csv with the numbers in it.
"""

import pathlib
from collections.abc import Sequence

from experiments import plotting
from experiments.paper import from_studies

TITLES = {
  "solve_rate": "problems solved at least once",
  "entropy": "entropy (nats/token)",
}


def draw(
  out: str | pathlib.Path,
  *,
  study: str,
  results: pathlib.Path = from_studies.RESULTS,
  arms: Sequence[str] = (),
) -> None:
  """Draws solve rate, and entropy as a rolling mean, of the arms of a study.

  Raises:
    ValueError: a result is missing; says how to make it.
  """
  data = from_studies.load(study, results, arms)
  figure, _, rows = from_studies.draw_panels(data, TITLES, rolled=["entropy"])
  name = from_studies.name_of("fig6_exploration", data)
  plotting.save(figure, rows, out, name)


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
