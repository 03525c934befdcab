"""Objectives of others beside those of the paper, where rewards are 0/1.

On mazes whose goal alone earns something, at equal compute: GRPO, MaxRL (TailRL
is its centred form here), Pass@k Training, and a k for each problem. Each arm
has the rate that is best for the mean of training pass@1, 4 and 16.

Cost: thirty-six runs of about four minutes on one core.
Command:

  python -m experiments.studies.run --study=beyond_binary --processes=2
"""

import dataclasses

from configs import arms
from experiments.studies import beyond, mazes

ARMS: dict[str, arms.Arm] = {
  "k1": {"k_opt": (1,)},
  "k8": {"k_opt": (8,)},
  "grpo": {"transform": "grpo", "k_opt": (1,)},
  "maxrl": {"transform": "maxrl", "k_opt": (1,)},
  "passk_training": {"transform": "passk_training", "k_opt": (8,)},
  "by_problem": {"k_schedule": "by_problem", "k_opt": (8,)},
}

STUDY = dataclasses.replace(
  mazes.STUDY,
  name="beyond_binary",
  changes={**mazes.STUDY.changes, "task.partial": 0.0},
  arms=ARMS,
  families={},
  objectives=dict.fromkeys(ARMS, beyond.OBJECTIVE),
  measure="pass",
  figures=("fig6_exploration", "fig7_rolling_pass_at_k", "tables"),
  summary=(
    "train pass@1",
    "train pass@16",
    "train entropy",
    "final solve_rate",
    "rise solve_rate",
  ),
)
