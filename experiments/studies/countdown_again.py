"""The main arms on Countdown once more: another base, other problems.

At the rates that study countdown has chosen, so that nothing is tuned here.

Cost: nine runs of about two minutes on one core.
Command, after study countdown:

  python -m experiments.studies.run --study=countdown_again --processes=2
"""

import dataclasses

from experiments.studies import countdown

MAIN = ("k1", "k8", "annealed")

STUDY = dataclasses.replace(
  countdown.STUDY,
  name="countdown_again",
  changes={**countdown.STUDY.changes, "base.seed": 1, "task.seed": 1},
  arms={arm: countdown.STUDY.arms[arm] for arm in MAIN},
  families={},
  rates_from="countdown",
  seeds=(1, 2, 3),
)
