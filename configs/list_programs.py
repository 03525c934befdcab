"""PKPO on list programs: a tiny Gemma 2 writes short programs, on 2 CPU cores.

Cost: 5 minutes on 2 busy cores, 4 of them for the base policy.
Expect: on 128 problems of held-out behaviours the best reward, max@1/8/16, from
  .04/.22/.32 to .08/.28/.36, 62 % of the training problems solved at least
  once. With k = 1, to .11/.21/.25 and 41 %. One seed each.
Command:

  python -m experiments.train --config=configs/list_programs.py \
    --workdir=runs/list_programs_k8

Compare with other arms: --config=configs/list_programs.py:k1, and another
--workdir. All values are ours: the paper has no such task.
"""

import ml_collections

from configs import arms, default

ARMS = arms.of_the_paper(boundary=75)


def get_config(arm: str = "") -> ml_collections.ConfigDict:
  """The config of an arm; k = 8 unless one is named."""
  config = default.get_config()
  config.num_steps = 150
  config.max_prompt_tokens = 24  # BOS, 3 examples of 7 words, 2 times ";"
  config.max_new_tokens = 4  # 3 words and EOS
  config.logits_chunk = 4

  config.task = ml_collections.ConfigDict()
  config.task.name = "list_programs"
  config.task.max_words = 3  # of a program
  config.task.num_shown = 3  # examples in a prompt
  config.task.num_hidden = 8  # lists that an answer is graded on
  config.task.held_out = 0.2  # fraction of behaviours for test problems alone
  config.task.num_train = 1024
  config.task.num_test = 128
  config.task.seed = 0  # another seed, another split and other problems
  return arms.apply(config, ARMS, arm)
