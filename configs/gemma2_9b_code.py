"""Gemma 2 9B on MBPP, evaluated on HumanEval.

Cost: the paper gives none; docs/hardware.md has the floor of a step.
Expect on HumanEval, percent (standard errors .4 to 1.1):
  k_eval          1      2      4      8     16
  k1            37.71  42.03  48.19  55.07  60.98
  k2            36.84  46.56  52.68  59.73  65.86
  k4            36.49  44.95  57.09  63.64  69.51
  k8            35.75  44.41  55.08  65.56  71.91
  tzsm25        34.36  42.81  52.36  61.07  66.41
  entropyreg    35.91  43.75  53.28  60.13  65.29
The paper trains on the fraction of the unit tests that pass, and does not say
whether its table is of that, max@k here, or of answers that pass all of them,
pass@k; both are logged. We take it for pass@k: the model card has 40.2 for
the pretrained model, close to the row k1, and fractions would be higher.
Command, on every host of a slice (docs/pods.md):

  python -m experiments.train --distributed \
    --config=configs/gemma2_9b_code.py:k8 --workdir=runs/gemma2_9b_code_k8

Arms and laptop mode: configs/gemma2.py. Whether it fits a slice:
docs/hardware.md.
"""

import ml_collections

from configs import gemma2


def get_config(options: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = gemma2.get_config("9b")
  config.task.name = "mbpp"  # HumanEval is held out
  config.task.path = "data/mbpp.jsonl"  # your own copy, see docs/tasks.md
  config.task.train = ("prompt", "test", "validation", "train")  # ours: all 974
  config.task.reward = "fraction"  # of the unit tests that are not shown
  return gemma2.finish(config, options)
