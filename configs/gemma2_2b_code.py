"""Gemma 2 2B on MBPP, evaluated on HumanEval.

Cost: the paper gives none; docs/hardware.md has the floor of a step.
Expect on HumanEval, percent (standard errors .4 to 1.1):
  k_eval          1      2      4      8     16
  k1            19.82  23.81  29.75  36.33  42.04
  k2            18.70  26.94  33.82  40.95  47.03
  k4            18.69  26.43  36.81  44.81  50.55
  k8            17.94  25.86  35.88  46.45  52.83
  tzsm25        16.81  24.27  33.11  41.98  47.26
  entropyreg    18.05  25.13  34.01  40.88  46.15
The paper trains on the fraction of the unit tests that pass, and does not say
whether its table is of that, max@k here, or of answers that pass all of them,
pass@k; both are logged. We take it for pass@k: the model card has 17.7 for
the pretrained model, close to the row k1, and fractions would be higher.
Command, on every host of a slice (docs/pods.md):

  python -m experiments.train --distributed \
    --config=configs/gemma2_2b_code.py:k8 --workdir=runs/gemma2_2b_code_k8

Arms and laptop mode: configs/gemma2.py. Whether it fits a slice:
docs/hardware.md.
"""

import ml_collections

from configs import gemma2


def get_config(options: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = gemma2.get_config("2b")
  config.task.name = "mbpp"  # HumanEval is held out
  config.task.path = "data/mbpp.jsonl"  # your own copy, see docs/tasks.md
  config.task.train = ("prompt", "test", "validation", "train")  # ours: all 974
  config.task.reward = "fraction"  # of the unit tests that are not shown
  return gemma2.finish(config, options)
