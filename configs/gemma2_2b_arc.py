"""Gemma 2 2B on the easy public subset of ARC-AGI-1.

Cost: the paper gives none; docs/hardware.md has the floor of a step.
Expect: the paper reports ARC for 9B alone, see gemma2_9b_arc.py.
The paper trains until the cumulative solve rate has stood still for 1000 steps
and does not define "easy"; ours is in pkpo_jax/tasks/arc.py.
Command, on every host of a slice (docs/pods.md):

  python -m experiments.train --distributed \
    --config=configs/gemma2_2b_arc.py:k8 --workdir=runs/gemma2_2b_arc_k8

Arms and laptop mode: configs/gemma2.py. Whether it fits a slice:
docs/hardware.md.
"""

import ml_collections

from configs import gemma2


def get_config(options: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = gemma2.get_config("2b")
  config.task.name = "arc"
  config.task.reward = "exact"  # ours
  config.patience = 1000  # the paper's end of a run
  config.num_steps = 10_000  # ours: a bound, if the solve rate keeps rising
  config.max_prompt_tokens = 1024  # ours; prompts have up to 850
  config.max_new_tokens = 256  # ours; answers have up to 160
  return gemma2.finish(config, options)
