"""The main arms on mazes once more: another base, other problems.

At the rates that study mazes has chosen, so that nothing is tuned here.

Cost: nine runs of about four minutes on one core.
Command, after study mazes:

  python -m experiments.studies.run --study=mazes_again --processes=2
"""

import dataclasses

from experiments.studies import mazes

MAIN = ("k1", "k8", "annealed")

STUDY = dataclasses.replace(
  mazes.STUDY,
  name="mazes_again",
  changes={**mazes.STUDY.changes, "base.seed": 1, "task.seed": 1},
  arms={arm: mazes.STUDY.arms[arm] for arm in MAIN},
  families={},
  rates_from="mazes",
  seeds=(1, 2, 3),
)
