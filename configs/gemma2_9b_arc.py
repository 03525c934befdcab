"""Gemma 2 9B on the easy public subset of ARC-AGI-1.

Cost: the paper gives none; docs/hardware.md has the floor of a step.
Expect for 9B, percent (problems solved at least once / pass@1 / pass@16):
  k1 12.0/2.0/8.2, k4 82.3/22.0/38.2, k8 84.1/26.7/44.5, tzsm25 22.0/6.0/10.2,
  entropyreg 24.7/4.0/8.9.
The paper trains until the cumulative solve rate has stood still for 1000 steps
and does not define "easy"; ours is in pkpo_jax/tasks/arc.py.
Command, on every host of a slice (docs/pods.md):

  python -m experiments.train --distributed \
    --config=configs/gemma2_9b_arc.py:k8 --workdir=runs/gemma2_9b_arc_k8

Arms and laptop mode: configs/gemma2.py. Whether it fits a slice:
docs/hardware.md.
"""

import ml_collections

from configs import gemma2


def get_config(options: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = gemma2.get_config("9b")
  config.task.name = "arc"
  config.task.reward = "exact"  # ours
  config.patience = 1000  # the paper's end of a run
  config.num_steps = 10_000  # ours: a bound, if the solve rate keeps rising
  config.max_prompt_tokens = 1024  # ours; prompts have up to 850
  config.max_new_tokens = 256  # ours; answers have up to 160
  return gemma2.finish(config, options)
