"""Does k = 8 explore more than k = 1, and does annealing k keep both?

A tiny Gemma 2 on Countdown, see configs/countdown.py. k = 1 is the usual policy
gradient with a leave-one-out baseline; "annealed" is k = 8, then 1. Each arm
has the rate that is best for training pass@k, at the k it ends with.

Cost: fifteen runs of about two minutes each on two cores.
Command:

  python -m experiments.studies.run --study=countdown

Results of an earlier run, and what they say: docs/countdown.md.
"""

from experiments.studies.study import Study

STUDY = Study(
  name="countdown",
  config="configs/countdown.py",
  arms={
    "k1": {"k_opt": (1,)},
    "k8": {"k_opt": (8,)},
    "annealed": {"k_opt": (8, 1), "k_boundaries": (100,)},
  },
  rates=(1e-4, 2e-4, 4e-4),
  seeds=(0, 1, 2),  # tuned on 0, reported on the others
  seconds=120,
  figures=(
    "fig3_annealing",
    "fig6_exploration",
    "fig7_rolling_pass_at_k",
    "fig8_stall",
    "tables",
  ),
)
