"""Gemma 2 9B on MATH (12,000 training problems, MATH-500 held out).

Cost: the paper gives none; docs/hardware.md has the floor of a step.
Expect on held-out problems, percent (standard errors .4 to 1.1):
  k_eval          1      2      4      8     16
  k1            22.24  25.35  30.73  37.08  42.59
  k2            21.46  28.61  32.92  39.59  45.34
  k4            21.25  27.15  34.93  41.71  47.05
  k8            20.69  26.78  33.68  42.62  48.37
  tzsm25        19.48  25.41  31.17  39.34  44.82
  entropyreg    20.85  26.05  32.48  38.21  43.95
Command, on every host of a slice (docs/pods.md):

  python -m experiments.train --distributed \
    --config=configs/gemma2_9b_math.py:k8 --workdir=runs/gemma2_9b_math_k8

Arms and laptop mode: configs/gemma2.py. Whether it fits a slice:
docs/hardware.md.
"""

import ml_collections

from configs import gemma2


def get_config(options: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = gemma2.get_config("9b")
  config.task.name = "math"
  config.task.path = "data/MATH"  # your own copy, see docs/tasks.md
  return gemma2.finish(config, options)
