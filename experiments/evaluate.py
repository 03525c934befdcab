"""Compares a trained policy with its base policy: pass@k on the same problems.

Example:
  python -m experiments.evaluate --workdir=runs/k8 --split=test --n=256

The run's own config is read from --workdir. Errors are standard errors over
the problems; those of the gain are of the paired differences, problem by
problem, and so are smaller. Writes evaluation_SPLIT.json to --workdir.
"""

import json
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import command_line

if TYPE_CHECKING:
  import ml_collections

  from pkpo_jax.lm import models
  from pkpo_jax.training import build_run


class Policies(NamedTuple):
  """A run's policy before and after training.

  Attributes:
    config: the run's.
    parts: what it is built from.
    base: all parameters of the base policy.
    trained: all parameters of the newest checkpoint.
  """

  config: "ml_collections.ConfigDict"
  parts: "build_run.Parts"
  base: "models.Params"
  trained: "models.Params"


def load(workdir: pathlib.Path, base_dir: pathlib.Path) -> Policies:
  """Loads both policies of a run.

  Args:
    workdir: the folder of a run of experiments.train.
    base_dir: where its base policy is.

  Raises:
    ValueError: `workdir` holds no run or no checkpoint.
  """
  import numpy as np

  from pkpo_jax.lm import models, sharding
  from pkpo_jax.rl import train_step
  from pkpo_jax.training import build_run, checkpointing, initial_policy
  from pkpo_jax.training import workdir as workdir_lib

  config = workdir_lib.read_config(workdir)
  checkpointer = checkpointing.Checkpointer(
    workdir / "checkpoints", keep=config.checkpoint.keep
  )
  if checkpointer.latest is None:
    raise ValueError(f"{workdir}/checkpoints holds no checkpoint.")
  parts = build_run.build(config)
  initial = initial_policy.initial_params(config, parts, base_dir)
  state = train_step.abstract_state(
    parts.model, build_run.make_optimizer(config)
  )
  like = checkpointing.Progress(
    sharding.with_shardings(state),
    np.zeros(len(parts.problems["train"]), bool),
  )
  trained = checkpointer.restore(like).state.params
  checkpointer.close()
  return Policies(
    config,
    parts,
    models.merge(initial.frozen, initial.trained),
    models.merge(initial.frozen, trained),
  )


def evaluate(policies: Policies, split: str, n: int) -> list[dict[str, Any]]:
  """Samples n answers of both policies to each problem of a split.

  Returns:
    A row for each k: pass@k of both policies, the gain, and their errors, see
    `rl.evaluation.compare`.
  """
  import tqdm

  from pkpo_jax.rl import evaluation

  problems = policies.parts.problems[split]
  before, after = (
    evaluation.evaluate(
      policies.parts.rollout_worker,
      params,
      problems,
      evaluation.key(policies.config.eval.seed),
      n=n,
      batch_size=min(policies.config.prompts_per_step, len(problems)),
      progress=tqdm.tqdm,
    )
    for params in (policies.base, policies.trained)
  )
  return evaluation.compare(before, after, evaluation.powers_of_two(n))


def main() -> None:
  """Evaluates, writes a table as JSON and prints it."""
  parser = command_line.parser(__doc__)
  add = parser.add_argument
  add(
    "--workdir", type=command_line.path, required=True, help="a training run's"
  )
  command_line.add_base_dir(parser)
  add("--split", choices=("train", "test"), default="test", help="problems")
  add("--n", type=int, default=64, help="completions per problem (default: 64)")
  args = command_line.parse(parser)
  with command_line.mistakes(parser):
    policies = load(args.workdir, args.base_dir)
  rows = evaluate(policies, args.split, args.n)
  policies.parts.task.close()
  path = args.workdir / f"evaluation_{args.split}.json"
  path.write_text(json.dumps(rows, indent=2) + "\n")
  print(f"{'k':>4}  {'base':>15}  {'trained':>15}  {'gain':>15}")
  for row in rows:
    cells = (f"{x:7.3f} ± {e:5.3f}" for x, e in list(row.values())[1:])
    print(f"{row['k']:>4}  " + "  ".join(cells))
  print(f"Wrote {path}")


if __name__ == "__main__":
  main()
