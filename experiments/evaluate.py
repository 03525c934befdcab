"""Compares a trained policy with its base policy: pass@k on the same problems.

Example:
  python -m experiments.evaluate --workdir=runs/k8 --split=test --n=256

The run's own config is read from --workdir. Errors are standard errors over
the problems; those of the gain are of the paired differences, problem by
problem, and so are smaller. Writes evaluation_SPLIT.json to --workdir.
"""

import argparse
import json
import pathlib
from typing import Any


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

  import ml_collections
  import numpy as np
  import tqdm

  from pkpo_jax.rl import (
    build,
    checkpointing,
    evaluation,
    learner,
    pretraining,
  )

  path = workdir / "config.json"
  if not path.exists():
    raise ValueError(f"{path} is missing: --workdir must be a training run's.")
  config = ml_collections.ConfigDict(json.loads(path.read_text()))
  parts = build.build(config)
  base = pretraining.load_base_policy(config, base_dir)
  like = checkpointing.Progress(
    learner.init_state(base, learner.make_optimizer(config)),
    np.zeros(len(parts.task.problems("train")), bool),
  )
  checkpointer = checkpointing.Checkpointer(
    workdir / "checkpoints", keep=config.checkpoint.keep
  )
  trained = checkpointer.restore(like).state
  checkpointer.close()
  if int(trained.step) == 0:
    raise ValueError(f"{workdir}/checkpoints holds no checkpoint.")
  ks = evaluation.powers_of_two(n)
  roll = functools.partial(
    evaluation.evaluate,
    parts.roller,
    problems=parts.task.problems(split),
    key=evaluation.key(config.eval.seed),
    n=n,
    batch_size=min(config.prompts_per_step, len(parts.task.problems(split))),
    progress=tqdm.tqdm,
  )
  return evaluation.compare(roll(base), roll(trained.params), ks)


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--workdir", type=pathlib.Path, required=True, help="a training run's")
  add("--base_dir", type=pathlib.Path, default="runs/base", help="as it had it")
  add("--split", choices=("train", "test"), default="test", help="problems")
  add("--n", type=int, default=64, help="completions per problem")
  flags = parser.parse_args()
  try:
    rows = evaluate(flags.workdir, flags.base_dir, flags.split, flags.n)
  except ValueError as error:
    parser.error(str(error))
  print(f"{'k':>4}  {'base':>15}  {'trained':>15}  {'gain':>15}")
  for row in rows:
    cells = (f"{x:7.3f} ± {e:5.3f}" for x, e in list(row.values())[1:])
    print(f"{row['k']:>4}  " + "  ".join(cells))
  path = flags.workdir / f"evaluation_{flags.split}.json"
  path.write_text(json.dumps(rows, indent=2) + "\n")
  print(f"Wrote {path}")


if __name__ == "__main__":
  main()
