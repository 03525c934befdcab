"""PKPO on Countdown: a tiny Gemma 2 learns to hit targets, on 2 CPU cores.

Cost: 7 minutes on 2 cores, base policy included.
Expect: on the 128 held-out problems pass@1/8/16 from .04/.25/.40 to
  .09/.36/.48, 70 % of the training problems solved at least once.
Command:

  python -m experiments.train --config=configs/countdown.py --workdir=runs/k8

Compare with other arms: --config=configs/countdown.py:k1, and another
--workdir; k1, k2, k4, k8, annealed, tzsm25 and entropyreg are known. All values
are ours: the paper has no such task.
"""

import ml_collections

from configs import arms, default

ARMS = arms.of_the_paper(boundary=100)


def get_config(arm: str = "") -> ml_collections.ConfigDict:
  """The config of an arm; k = 8 unless one is named."""
  config = default.get_config()
  config.max_prompt_tokens = 8  # BOS, 5 numbers, "=", the target
  config.max_new_tokens = 10  # 2 * 5 - 1 words and EOS
  config.logits_chunk = 10

  config.task = ml_collections.ConfigDict()
  config.task.name = "countdown"
  config.task.numbers = (4, 5)  # how many numbers a problem has
  config.task.num_train = 1024
  config.task.num_test = 128
  config.task.seed = 0  # another seed, other problems

  # Supervised on random expressions and their values.
  config.base.update(num_steps=300, batch_size=256, warmup_steps=30)
  return arms.apply(config, ARMS, arm)
