"""The lower rung of the ladder: mazes in which few first samples succeed.

7 x 7 cells and ways of 7 to 16 moves, where a base policy hardly ever reaches
the goal: does k = 1 stall where k >= 4 learns (Figure 8)? A run stalls if its
solve rate rises by less than .01 in its last third.

Cost: thirty-two runs of about ten minutes on one core.
Command:

  python -m experiments.studies.run --study=mazes_far --processes=2
"""

import dataclasses

from experiments.studies import mazes

ARMS = mazes.STUDY.arms
LADDER = tuple(arm for arm in ARMS if arm not in ("k2", "annealed"))

STUDY = dataclasses.replace(
  mazes.STUDY,
  name="mazes_far",
  changes={
    "task.size": 7,
    "task.walls": 0.35,
    "task.min_path": 7,
    "task.max_path": 16,
    "base.wrong": 0.95,
    "max_prompt_tokens": 56,  # BOS, 49 cells, 6 times "/"
    "max_new_tokens": 17,
    "logits_chunk": 17,
    "num_steps": 400,
    "eval.every": 400,
    "checkpoint.every": 50,
  },
  arms={arm: ARMS[arm] for arm in LADDER},
  seconds=600,
  figures=("fig6_exploration", "fig8_stall", "tables"),
)
