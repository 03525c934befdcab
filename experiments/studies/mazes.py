"""The paper's comparison on mazes: rewards that deceive, in place of ARC.

Arms as in study countdown, on configs/mazes.py: what is trained for is max@k, a
reward that has parts; pass@k means the goal. Also the upper rung of the ladder
of Figure 8, whose lower one is study mazes_far.

Cost: forty-four runs of about three minutes on one core.
Command:

  python -m experiments.studies.run --study=mazes --processes=2
"""

from configs import arms
from experiments.studies.study import Family, Study

STUDY = Study(
  name="mazes",
  config="configs/mazes.py",
  changes={"eval.every": 300, "checkpoint.every": 50},
  arms=arms.of_a_study(boundary=150),
  families={
    "entropyreg": Family(tuple(arms.entropy_bonuses()), rate_of="k1"),
  },
  rates=(2e-4, 4e-4, 8e-4),
  seeds=(0, 1, 2, 3),  # tuned on 0, reported on the others
  seconds=180,
  measure="max",
  figures=(
    "fig3_annealing",
    "fig6_exploration",
    "fig7_rolling_pass_at_k",
    "fig8_stall",
    "tables",
  ),
  summary=(
    "train max@1",
    "train pass@1",
    "train pass@16",
    "train entropy",
    "final solve_rate",
    "rise solve_rate",
  ),
)
