"""A study in seconds: two arms of 20 steps, two seeds, nothing to tune."""

from experiments.studies.study import Study

_SHORT = {
  "num_steps": 20,
  "eval.every": 10,
  "checkpoint.every": 10,
  "base.num_steps": 150,  # so that some answers are right
}

STUDY = Study(
  name="tests.helpers.tiny_study",
  config="tests/helpers/tiny_config.py",
  arms={
    "k1": {**_SHORT, "k_opt": (1,)},
    "annealed": {**_SHORT, "k_opt": (2, 1), "k_boundaries": (10,)},
  },
  rates=(1e-3,),
  seeds=(0, 1),
  seconds=10,
  k_eval=(1, 2, 4),
  last=5,
  summary=("train pass@1", "train pass@4", "final solve_rate"),
  figures=(
    "fig3_annealing",
    "fig6_exploration",
    "fig7_rolling_pass_at_k",
    "fig8_stall",
    "tables",
  ),
)
