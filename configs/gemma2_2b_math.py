"""Gemma 2 2B on MATH (12,000 training problems, MATH-500 held out).

Cost: about 4 h per 1000 steps on a v5litepod-128, says the paper.
Expect on held-out problems, percent (standard errors .4 to 1.1):
  k_eval          1      2      4      8     16
  k1            15.91  18.12  23.37  29.58  35.02
  k2            15.15  20.73  25.81  31.96  37.75
  k4            14.86  19.86  27.59  34.27  38.91
  k8            14.19  19.33  26.45  35.49  40.73
  tzsm25        13.11  18.09  24.58  31.81  37.24
  entropyreg    14.51  18.95  25.33  30.95  36.18
Command, on every host of a slice (docs/pods.md):

  python -m experiments.train --distributed \
    --config=configs/gemma2_2b_math.py:k8 --workdir=runs/gemma2_2b_math_k8

Arms and laptop mode: configs/gemma2.py. Whether it fits a slice:
docs/hardware.md.
"""

import ml_collections

from configs import gemma2


def get_config(options: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = gemma2.get_config("2b")
  config.task.name = "math"
  config.task.path = "data/MATH"  # your own copy, see docs/tasks.md
  return gemma2.finish(config, options)
