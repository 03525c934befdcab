"""PKPO on mazes: a tiny Gemma 2 finds ways around walls, on 2 CPU cores.

Cost: 10 minutes on 2 cores, 4 of them for the base policy.
Expect: a base policy with a held-out pass@1/16/64 of .017/.21/.55; after 60
  steps four in five of the training problems solved at least once.
Command:

  python -m experiments.train --config=configs/mazes.py --workdir=runs/mazes_k8

Compare with other arms: --config=configs/mazes.py:k1, and another --workdir.
All values are ours: the paper has no such task.
"""

import ml_collections

from configs import arms, default

ARMS = arms.of_the_paper(boundary=150)


def get_config(arm: str = "") -> ml_collections.ConfigDict:
  """The config of an arm; k = 8 unless one is named."""
  config = default.get_config()
  config.num_steps = 300
  config.max_prompt_tokens = 30  # BOS, 25 cells, 4 times "/"
  config.max_new_tokens = 13  # 12 moves and EOS
  config.logits_chunk = 13

  config.task = ml_collections.ConfigDict()
  config.task.name = "mazes"
  config.task.size = 5  # cells in a row, and rows
  config.task.walls = 0.4  # chance of each cell to be one
  config.task.min_path = 2  # moves of a shortest way
  config.task.max_path = 12
  config.task.detours = True  # no way is straight
  config.task.partial = 0.5  # reward of the cells around the goal, about
  config.task.num_train = 256  # few, so that each is met every 8 steps
  config.task.num_test = 128
  config.task.seed = 0  # another seed, other problems

  # 3 % of the demonstrations show a way. More would help less than shorter
  # ways: what a base policy finds is mostly chance.
  config.base.wrong = 0.97
  return arms.apply(config, ARMS, arm)
