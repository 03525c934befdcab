"""What the terms of an update do on Countdown, each where it acts.

Clipping, skipped updates and the float32 logits of attention at k = 1 and 8; an
entropy bonus; computing in bfloat16; and a KL penalty with four minibatches a
rollout. One rate and three seeds, so that two versions of the code can be
compared: run it in a checkout of each, with --results apart.

Coefficients are in nats per completion. Before format 2 they were per token: an
answer has about 9, so give nine times as much there.

Cost: fifteen runs of about two minutes each on two cores.
Command:

  python -m experiments.studies.run --study=update_terms
"""

from experiments.studies.study import Study

STUDY = Study(
  name="update_terms",
  config="configs/countdown.py",
  arms={
    "k1": {"k_opt": (1,)},
    "k8": {"k_opt": (8,)},
    "entropyreg": {"k_opt": (1,), "loss.entropy_coef": 0.001},
    "bfloat16": {"k_opt": (8,), "model.dtype": "bfloat16"},
    "kl": {"k_opt": (8,), "loss.kl_coef": 0.01, "minibatches": 4},
  },
  rates=(4e-4,),
  seeds=(0, 1, 2),
  seconds=120,
  figures=("tables",),
  summary=(
    "train pass@1",
    "train pass@8",
    "train pass@16",
    "train entropy",
    "train grad_norm",
    "final solve_rate",
  ),
)
