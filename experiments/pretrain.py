"""Trains the base policy that a config starts from, and only that.

Example:
  python -m experiments.pretrain --config=configs/countdown.py

experiments.train does the same where no base policy for its config is found.
"""

import logging
import pathlib

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/countdown.py", "A training config; see its `base` part."
)
_BASE_DIR = flags.DEFINE_string(
  "base_dir", "runs/base", "Where base policies are kept for many runs."
)


def main(argv: list[str]) -> None:
  """Trains the base policy, unless it is there."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}")
  logging.getLogger("jax").setLevel(logging.WARNING)
  from pkpo_jax.training import config as config_lib

  config = _CONFIG.value
  config_lib.check(config)
  if config.base.source != "demonstrations":
    raise app.UsageError(
      f"config.base.source={config.base.source!r}: nothing to pretrain."
    )
  from pkpo_jax.training import build_run, pretraining

  folder = pathlib.Path(_BASE_DIR.value)
  pretraining.train_or_load(config, build_run.build(config), folder)


if __name__ == "__main__":
  app.run(main)
