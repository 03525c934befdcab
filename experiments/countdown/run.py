"""Trains every arm of the Countdown study: k x learning rate x seed.

Example:
  python -m experiments.countdown.run --out=runs/study

Runs that are complete are skipped and runs that were cut off continue, so that
the same command goes on after a stop. Draw the result, at any time, with
experiments.countdown.plot.
"""

import argparse
import itertools
import pathlib

import ml_collections

from configs import countdown

K_OPTS = (1, 8)
LEARNING_RATES = (1e-4, 2e-4, 4e-4)


def arm_config(
  k_opt: int, learning_rate: float, seed: int
) -> ml_collections.ConfigDict:
  """The config of configs/countdown.py with an arm's values."""
  config = countdown.get_config()
  config.update(k_opt=(k_opt,), learning_rate=learning_rate, seed=seed)
  return config


def arm_name(k_opt: int, learning_rate: float) -> str:
  """The folder of an arm, with one folder for each seed in it."""
  return f"k{k_opt}_lr{learning_rate:g}"


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--out", type=pathlib.Path, default="runs/study", help="one folder a run")
  add("--base_dir", type=pathlib.Path, default="runs/base", help="base policy")
  add("--seeds", type=int, default=3, help="how many seeds for each arm")
  flags = parser.parse_args()
  from pkpo_jax.rl import configs, metrics, pretraining, trainer

  base = pretraining.base_policy(countdown.get_config(), flags.base_dir)
  # Seeds outermost: a study that is cut off has whole seeds.
  arms = itertools.product(range(flags.seeds), LEARNING_RATES, K_OPTS)
  for seed, learning_rate, k_opt in arms:
    workdir = flags.out / arm_name(k_opt, learning_rate) / f"seed{seed}"
    config = arm_config(k_opt, learning_rate, seed)
    configs.claim(workdir, config)
    records = metrics.read(workdir / "metrics.jsonl")
    if not records or records[-1]["step"] < config.num_steps:
      print(f"== {workdir}")
      trainer.train(config, workdir, base)


if __name__ == "__main__":
  main()
