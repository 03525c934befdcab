"""Trains a policy with PKPO, from a base policy to a picture of what changed.

Example:
  python -m experiments.train --config=configs/countdown.py --config.k_opt=8 \
    --workdir=runs/k8

Any value of the config can be set: --config.NAME=VALUE, --config.loss.NAME=...
The configs say in comments what each value means. A run that was stopped or
killed goes on with the same command. In --workdir it leaves metrics.jsonl,
TensorBoard files, checkpoints, config.json and curves.png.
"""

import logging
import pathlib

import ml_collections
from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/countdown.py", "What to train: a file with get_config()."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/countdown", "Where this one run keeps all it writes."
)
_BASE_DIR = flags.DEFINE_string(
  "base_dir", "runs/base", "Where base policies are kept for many runs."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "One of several processes, see docs/pods.md."
)


def main(argv: list[str]) -> None:
  """Trains, and draws the picture."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}")
  for name in (None, "absl"):  # the root, which absl opens; and orbax
    logging.getLogger(name).setLevel(logging.WARNING)
  from pkpo_jax import multihost

  if _DISTRIBUTED.value:
    multihost.initialize()
  with multihost.ending_together():
    _train(_CONFIG.value, pathlib.Path(_WORKDIR.value))


def _train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  from pkpo_jax import multihost
  from pkpo_jax.training import config as config_lib

  config_lib.check(config)
  config_lib.claim(workdir, config)
  # Only now: gemma takes seconds to import, and typos need none of it.
  from experiments import curves
  from pkpo_jax.training import loop

  loop.train(config, workdir, pathlib.Path(_BASE_DIR.value))
  if multihost.is_first():
    picture = curves.draw_run(workdir)
    print(f"Done. Picture: {picture}, numbers: {workdir / 'metrics.jsonl'}")


if __name__ == "__main__":
  app.run(main)
