"""Figure 8: where training for pass@1 stalls and larger k learn.

On hard problems (ARC in the paper) most groups hold no right answer, and k = 1
gives up on the rest; larger k learn, measured by pass@1 too.

Example:
  python -m experiments.paper.fig8_stall --study=countdown

Writes fig8_stall_STUDY.png, and .csv with the numbers in it.
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
  """Draws pass@1, pass@k at the largest k, and groups without a reward.

  Where rewards are partial, a group may have some without a right answer.

  Raises:
    ValueError: a result is missing; says how to make it.
  """
  data = from_studies.load(study, results, arms)
  most = max(data.study.k_eval)
  titles = {
    "pass@1": "training pass@1",
    f"pass@{most}": f"training pass@{most}",
    "groups_all_wrong": "groups without a reward",
  }
  figure, _, rows = from_studies.draw_panels(data, titles, rolled=list(titles))
  plotting.save(figure, rows, out, from_studies.name_of("fig8_stall", data))


if __name__ == "__main__":
  from_studies.command(draw, __doc__)
