"""Trains a policy with PKPO, from a base policy to a picture of what changed.

Example:
  python -m experiments.train --config=configs/countdown.py --config.k_opt=8 \\
    --workdir=runs/k8

A run that was stopped or killed goes on with the same command. In --workdir it
leaves metrics.jsonl, TensorBoard files, checkpoints, config.json and
curves.png. --dry_run tries a config before it costs hours: it builds and
compiles everything, takes two steps, says what a run needs, and writes nothing.
"""

import argparse
import pathlib
from typing import TYPE_CHECKING

from experiments import command_line

if TYPE_CHECKING:
  from pkpo_jax.training import build_run


def main() -> None:
  """Trains, and draws the picture."""
  parser = command_line.parser(__doc__)
  command_line.add_config(parser, "configs/countdown.py")
  parser.add_argument(
    "--workdir",
    type=command_line.path,
    default=pathlib.Path("runs/countdown"),
    help="where this one run keeps all it writes (default: runs/countdown)",
  )
  command_line.add_base_dir(parser)
  command_line.add_distributed(parser)
  parser.add_argument(
    "--dry_run",
    action="store_true",
    help="compile, take two steps, print what a run needs, write nothing",
  )
  parser.add_argument(
    "--change_learning_rate",
    action="store_true",
    help="resume with another config.learning_rate than the run was begun with",
  )
  args = command_line.parse(parser)
  from pkpo_jax import multihost
  from pkpo_jax.training import interrupts

  with interrupts.Interrupts():  # the run has its own, which knows when to save
    with command_line.mistakes(parser):
      if args.distributed:
        multihost.initialize()
    with command_line.mistakes(parser), multihost.ending_together():
      data = _prepare(args)
    with multihost.ending_together():
      _dry_run(args, data) if args.dry_run else _train(args, data)


def _prepare(args: argparse.Namespace) -> "build_run.Data":
  """Checks all that a user may get wrong, most of it without gemma."""
  from pkpo_jax.lm import sharding
  from pkpo_jax.training import build_run, config, initial_policy, workdir

  config.check(args.config)
  data = build_run.load_data(args.config)
  build_run.build_model(args.config, data.tokenizer)
  initial_policy.check_base(args.config, None if args.dry_run else args.workdir)
  if not args.dry_run:
    sharding.make_mesh(**args.config.mesh)  # while the folder is as it was
    allowed = ["learning_rate"] if args.change_learning_rate else []
    workdir.claim(args.workdir, args.config, allowed=allowed)
  return data


def _dry_run(args: argparse.Namespace, data: "build_run.Data") -> None:
  from pkpo_jax import multihost
  from pkpo_jax.training import dry_run

  report = dry_run.dry_run(args.config, args.base_dir, data)
  if multihost.is_first():
    print(report)


def _train(args: argparse.Namespace, data: "build_run.Data") -> None:
  from experiments import curves
  from pkpo_jax import multihost
  from pkpo_jax.training import loop

  loop.train(args.config, args.workdir, args.base_dir, data)
  if multihost.is_first():
    try:
      picture = curves.draw_run(args.workdir)
    except ValueError as error:  # metrics.jsonl was deleted, or edited
      print(f"Done, without a picture: {error}")
    else:
      print(f"Done. Picture: {picture}, numbers: {args.workdir}/metrics.jsonl")


if __name__ == "__main__":
  main()
