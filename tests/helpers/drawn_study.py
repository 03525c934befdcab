"""A study whose results are made up, to be drawn: nobody trains it."""

from experiments.studies.study import Study

STUDY = Study(
  name="tests.helpers.drawn_study",
  config="configs/countdown.py",
  arms={
    "k1": {"k_opt": (1,)},
    "k8": {"k_opt": (8,)},
    "annealed": {"k_opt": (8, 1), "k_boundaries": (100,)},
  },
  rates=(1e-4, 2e-4, 4e-4),
  seeds=(0, 1, 2),
  seconds=120,
  figures=(
    "fig3_annealing",
    "fig6_exploration",
    "fig7_rolling_pass_at_k",
    "fig8_stall",
    "tables",
  ),
)
