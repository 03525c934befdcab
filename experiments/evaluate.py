"""Compares a trained policy with its base policy: pass@k on the same problems.

Example:
  python -m experiments.evaluate --workdir=runs/k8 --split=test --n=256

The run's own config is read from --workdir. Errors are standard errors over
the problems; those of the gain are of the paired differences, problem by
problem, and so are smaller. Writes evaluation_SPLIT.json to --workdir.
"""

import json
import pathlib
from typing import Any

from experiments import command_line


def evaluate(
  workdir: pathlib.Path, base_dir: pathlib.Path, split: str, n: int
) -> list[dict[str, Any]]:
  """One row for each k: pass@k of both policies, the gain, and their errors.

  Args:
    workdir: of a run of experiments.train.
    base_dir: where its base policy is.
    split: "train" or "test".
    n: completions per problem.

  Raises:
    ValueError: `workdir` holds no checkpoint.
  """
  import functools

  import numpy as np
  import tqdm

  from pkpo_jax.lm import models, sharding
  from pkpo_jax.rl import evaluation, train_step
  from pkpo_jax.training import build_run, checkpointing, initial_policy
  from pkpo_jax.training import workdir as workdir_lib

  config = workdir_lib.read_config(workdir)
  checkpointer = checkpointing.Checkpointer(
    workdir / "checkpoints", keep=config.checkpoint.keep
  )
  if checkpointer.latest is None:
    raise ValueError(f"{workdir}/checkpoints holds no checkpoint.")
  parts = build_run.build(config)
  problems = parts.problems[split]
  start = initial_policy.initial_params(config, parts, base_dir)
  state = train_step.abstract_state(
    parts.model, build_run.make_optimizer(config)
  )
  like = checkpointing.Progress(
    sharding.with_shardings(state),
    np.zeros(len(parts.problems["train"]), bool),
  )
  trained = checkpointer.restore(like).state.params
  checkpointer.close()
  ks = evaluation.powers_of_two(n)
  roll = functools.partial(
    evaluation.evaluate,
    parts.rollout_worker,
    problems=problems,
    key=evaluation.key(config.eval.seed),
    n=n,
    batch_size=min(config.prompts_per_step, len(problems)),
    progress=tqdm.tqdm,
  )
  before = roll(models.merge(start.frozen, start.trained))
  after = roll(models.merge(start.frozen, trained))
  return evaluation.compare(before, after, ks)


def main() -> None:
  """Evaluates, prints a table and writes it as JSON."""
  parser = command_line.parser(__doc__)
  add = parser.add_argument
  add("--workdir", type=pathlib.Path, required=True, help="a training run's")
  command_line.add_base_dir(parser)
  add("--split", choices=("train", "test"), default="test", help="problems")
  add("--n", type=int, default=64, help="completions per problem (default: 64)")
  args = command_line.parse(parser)
  with command_line.mistakes(parser):
    rows = evaluate(args.workdir, args.base_dir, args.split, args.n)
  path = args.workdir / f"evaluation_{args.split}.json"
  path.write_text(json.dumps(rows, indent=2) + "\n")
  print(f"{'k':>4}  {'base':>15}  {'trained':>15}  {'gain':>15}")
  for row in rows:
    cells = (f"{x:7.3f} ± {e:5.3f}" for x, e in list(row.values())[1:])
    print(f"{row['k']:>4}  " + "  ".join(cells))
  print(f"Wrote {path}")


if __name__ == "__main__":
  main()
