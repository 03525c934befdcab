"""Trains the arms of the Countdown study: k = 1, k = 8, and 8 then 1.

Example:
  python -m experiments.studies.countdown.run --out=runs/study

With seed 0 each of them is trained at every learning rate; then, at the rate
that was best for it, with the other seeds. Complete runs are skipped and others
continue, so that the same command goes on after a stop. Draw what there is
with experiments.studies.countdown.plot.
"""

import argparse
import itertools
import pathlib

from experiments.studies.countdown import arms
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import metrics_writer


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--out", type=pathlib.Path, default="runs/study", help="one folder a run")
  add("--base_dir", type=pathlib.Path, default="runs/base", help="base policy")
  add("--seeds", type=int, default=3, help="how many seeds for each")
  flags = parser.parse_args()
  for rate, name in itertools.product(arms.LEARNING_RATES, arms.K_OPTS):
    _train(flags, name, rate, seed=0)
  best = arms.tuned(arms.load(flags.out))
  for seed, arm in itertools.product(range(1, flags.seeds), best):
    _train(flags, arm.name, arm.learning_rate, seed)


def _train(
  flags: argparse.Namespace, name: str, learning_rate: float, seed: int
) -> None:
  """One run, unless it is complete."""
  config = arms.config(name, learning_rate, seed)
  workdir = arms.folder(flags.out, name, learning_rate, seed)
  config_lib.claim(workdir, config)
  records = metrics_writer.read(workdir / "metrics.jsonl")
  if not records or records[-1]["step"] < config.num_steps:
    from pkpo_jax.training import loop

    print(f"== {workdir}")
    loop.train(config, workdir, flags.base_dir)


if __name__ == "__main__":
  main()
