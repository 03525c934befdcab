"""Compares a trained policy with its base policy: pass@k on the same problems.

Example:
  python -m experiments.evaluate --workdir=runs/k8 --split=test --n=256

The run's own config is read from --workdir. pass@k counts answers of reward 1
and more; where rewards are not 0/1, max@k is the expected best reward of k.
Errors are standard errors over the problems; those of the gain are of the
paired differences, problem by problem, and so are smaller. Where a problem has
fewer than k answers that could be graded, "low..high" stands in place of a
mean: as if the others were all wrong, and all right. Writes
evaluation_SPLIT.json to --workdir.
"""

import json
import math
import pathlib
from collections.abc import Mapping
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
    step: that of the checkpoint.
  """

  config: "ml_collections.ConfigDict"
  parts: "build_run.Parts"
  base: "models.Params"
  trained: "models.Params"
  step: int


def load(workdir: pathlib.Path, base_dir: pathlib.Path) -> Policies:
  """Loads both policies of a run.

  Args:
    workdir: the folder of a run of experiments.train.
    base_dir: where its base policy is.

  Raises:
    ValueError: `workdir` holds no run or no checkpoint.
  """
  from pkpo_jax.lm import models
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
  like = initial_policy.abstract_progress(config, parts)
  state = checkpointer.restore(like).state
  checkpointer.close()
  return Policies(
    config,
    parts,
    models.merge(initial.frozen, initial.trained),
    models.merge(initial.frozen, state.params),
    int(state.step),
  )


def evaluate(policies: Policies, split: str, n: int) -> dict[str, Any]:
  """Samples n answers of both policies to each problem of a split.

  Returns:
    What was evaluated, all metrics of both policies, and "compared": pass@k of
    both, the gain, and their errors, see `rl.evaluation.compare`.
  """
  import tqdm

  from pkpo_jax.rl import evaluation, rollout_metrics
  from pkpo_jax.tasks import base

  problems = policies.parts.problems[split]
  by_name = {
    name: evaluation.evaluate(
      policies.parts.rollout_worker,
      params,
      problems,
      evaluation.key(policies.config.eval.seed),
      n=n,
      batch_size=min(policies.config.prompts_per_step, len(problems)),
      progress=tqdm.tqdm,
    )
    for name, params in (("base", policies.base), ("trained", policies.trained))
  }
  binary = base.has_binary_rewards(policies.parts.task)
  before, after = ((x.rewards, x.valid) for x in by_name.values())
  compared = evaluation.compare(
    before, after, rollout_metrics.k_eval(n), binary=binary
  )
  return {
    "split": split,
    "step": policies.step,
    "n": n,
    "temperature": policies.config.temperature,
    "seed": policies.config.eval.seed,
    "num_problems": len(problems),
    "num_dropped": policies.parts.dropped[split],
    "metrics": {
      name: rollout_metrics.measure(x, binary=binary)
      for name, x in by_name.items()
    },
    "compared": {
      name: {who: number._asdict() for who, number in row.items()}
      for name, row in compared.items()
    },
  }


def table(found: Mapping[str, Any]) -> str:
  """What `evaluate` found, for people."""
  n, metrics = found["n"], found["metrics"]
  total = found["num_problems"] * n
  lines = [
    f"{found['num_problems']} {found['split']} problems x {n} answers at step"
    f" {found['step']}; {found['num_dropped']} problems dropped as too long",
    *(
      f"{who}: {metrics[who]['num_ungraded']:.0f} of {total} answers ungraded"
      for who in metrics
    ),
    f"{'':>8}  {'base':>16}  {'trained':>16}  {'gain':>16}",
  ]
  for name, row in found["compared"].items():
    cells = (f"{_cell(**number):>16}" for number in row.values())
    lines.append(f"{name:>8}  " + "  ".join(cells))
  return "\n".join(lines)


def _cell(
  mean: float, standard_error: float, lower: float, upper: float
) -> str:
  if math.isnan(mean):
    return f"{lower:.3f}..{upper:.3f}"
  return f"{mean:.3f} ± {standard_error:.3f}"


def as_json(found: Mapping[str, Any]) -> str:
  """JSON in which null stands for what does not exist."""

  def plain(x: Any) -> Any:
    if isinstance(x, Mapping):
      return {name: plain(value) for name, value in x.items()}
    return None if isinstance(x, float) and math.isnan(x) else x

  return json.dumps(plain(found), indent=2, allow_nan=False) + "\n"


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
  found = evaluate(policies, args.split, args.n)
  policies.parts.task.close()
  path = args.workdir / f"evaluation_{args.split}.json"
  path.write_text(as_json(found))
  print(table(found))
  print(f"Wrote {path}")


if __name__ == "__main__":
  main()
