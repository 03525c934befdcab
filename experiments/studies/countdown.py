"""The paper's comparison on Countdown: 0/1 rewards, in place of MATH.

A tiny Gemma 2, see configs/countdown.py, trained for one k, for k = 8 and then
1, for k = n (TZSM25), and for k = 1 with an entropy bonus. Each arm has the
rate that is best for training pass@k, at the k it ends with; the bonus has the
rate of k = 1, and the best of five coefficients.

Cost: fifty runs of about one minute on one core.
Command:

  python -m experiments.studies.run --study=countdown --processes=2
"""

from configs import arms
from experiments.studies.study import Family, Study

STUDY = Study(
  name="countdown",
  config="configs/countdown.py",
  changes={"eval.every": 200, "checkpoint.every": 50},
  arms=arms.of_a_study(boundary=100),
  families={
    "entropyreg": Family(tuple(arms.entropy_bonuses()), rate_of="k1"),
  },
  rates=(1e-4, 2e-4, 4e-4, 8e-4),
  seeds=(0, 1, 2, 3),  # tuned on 0, reported on the others
  seconds=60,
  figures=(
    "fig3_annealing",
    "fig6_exploration",
    "fig7_rolling_pass_at_k",
    "fig8_stall",
    "tables",
  ),
)
