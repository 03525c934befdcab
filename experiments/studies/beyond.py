"""Objectives of others beside those of the paper, where rewards have parts.

On mazes, at equal compute: GRPO, TailRL, and a k for each problem. What takes
0/1 rewards alone is compared in study beyond_binary. Each arm has the rate that
is best for the mean of training pass@1, 4 and 16.

Cost: thirty runs of about four minutes on one core, less those of k = 1 and 8
that study mazes has done.
Command:

  python -m experiments.studies.run --study=beyond --processes=2
"""

import dataclasses

from configs import arms
from experiments.studies import mazes

ARMS: dict[str, arms.Arm] = {
  "k1": {"k_opt": (1,)},
  "k8": {"k_opt": (8,)},
  "grpo": {"transform": "grpo", "k_opt": (1,)},
  "tailrl": {"transform": "tailrl", "k_opt": (1,)},
  "by_problem": {"k_schedule": "by_problem", "k_opt": (8,)},
}
OBJECTIVE = "train pass@1 + pass@4 + pass@16"

STUDY = dataclasses.replace(
  mazes.STUDY,
  name="beyond",
  arms=ARMS,
  families={},
  objectives=dict.fromkeys(ARMS, OBJECTIVE),
  figures=("fig6_exploration", "fig7_rolling_pass_at_k", "tables"),
)
