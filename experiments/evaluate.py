"""Evaluates policies of a run: pass@k on the same problems, with errors.

Example:
  python -m experiments.evaluate --workdir=runs/k8 --n=256
  python -m experiments.evaluate --workdir=runs/k8 --step=0,100,200 \\
    --split=train --num_problems=500
  python -m experiments.evaluate --workdir=runs/k8 --temperature=0
  python -m experiments.evaluate --workdir=runs/k8 --step=latest \\
    --against=runs/k1/evaluations/step200_test_n64_t1.json
  python -m experiments.evaluate --workdir=runs/2b_math --config.task.name=gsm8k

Samples n answers to each problem from the policies after --step steps, on the
mesh of the run's own config and, with --distributed, in all its processes. What
is sampled at once is no more than in training, whatever n is. Results depend on
neither, but for rounding.

Each policy gets a file in WORKDIR/evaluations, whose name says what was asked
and which says the rest: every problem's rewards and reasons, all metrics, the
config, commit, versions and devices. What such a file holds already is not
sampled again. Then a table is printed: pass@k counts answers of reward 1 and
more; where rewards are not 0/1, max@k is the expected best reward of k. Beside
each mean over problems is its standard error; gains over the first policy, or
over --against, are by pairs of problems, with 95 % intervals. Where a problem
has fewer than k answers that could be graded, "lower..upper" stands in place of
a mean: as if the others were all wrong, and all right.
"""

import argparse
import contextlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments import command_line

if TYPE_CHECKING:
  from pkpo_jax.rl import evaluation
  from pkpo_jax.tasks import base
  from pkpo_jax.training import build_run, evaluation_request

Found = Mapping[str, Any]  # what the file of an evaluation holds


def main() -> None:
  """Evaluates, writes, and prints a table."""
  parser = _parser()
  args = command_line.parse(parser)
  from pkpo_jax import multihost
  from pkpo_jax.training import evaluation_record, provenance

  with command_line.mistakes(parser):
    if args.distributed:
      multihost.initialize()
  with contextlib.ExitStack() as stack:
    with command_line.mistakes(parser), multihost.ending_together():
      against = [evaluation_record.read(path) for path in args.against]
      request, data, problems = _prepare(args)
      contents = provenance.of_problems(problems, prompts=False)
      evaluation_record.check_same_problems(*against, contents=contents)
      stack.enter_context(_mesh(request))
    stack.enter_context(multihost.ending_together())
    paths = _evaluate(args, request, data, problems)
    if multihost.is_first():
      found = [evaluation_record.read(path) for path in paths]
      with command_line.mistakes(parser):
        print(table([*against, *found]))
      print("\n".join(f"In {path}" for path in paths))


def _parser() -> argparse.ArgumentParser:
  from pkpo_jax.training import evaluation_request

  parser = command_line.parser(__doc__)
  add = parser.add_argument
  add(
    "--workdir", type=command_line.path, required=True, help="a training run's"
  )
  command_line.add_base_dir(parser)
  add(
    "--step",
    type=lambda text: text.split(","),
    default=["0", "latest"],
    help="policies, by the steps they have taken: 0 is the base policy, latest"
    " the newest checkpoint (default: 0,latest)",
  )
  add("--split", default="test", help="of the task's problems (default: test)")
  add("--n", type=int, help="answers to each problem (default: config.eval.n)")
  add(
    "--temperature",
    type=float,
    help="of sampling; 0 is greedy, with one answer (default: the run's)",
  )
  add("--top_p", type=float, help="samples from that share (default: from all)")
  add(
    "--num_problems",
    type=int,
    help="how many, drawn by config.eval.seed (default: all)",
  )
  add(
    "--against",
    type=command_line.path,
    default=[],
    action="append",
    metavar="FILE",
    help="an evaluation of the same problems, to compare with",
  )
  command_line.add_distributed(parser)
  command_line.add_changes(parser, evaluation_request.CHANGEABLE)
  return parser


def _prepare(
  args: argparse.Namespace,
) -> tuple[
  "evaluation_request.Request", "build_run.Data", "Sequence[base.Problem]"
]:
  """Checks all that a user may get wrong."""
  from pkpo_jax.training import evaluation_request

  request = evaluation_request.make_request(
    args.workdir,
    args.changes or {},
    split=args.split,
    n=args.n,
    temperature=args.temperature,
    top_p=args.top_p,
    num_problems=args.num_problems,
  )
  evaluation_request.choose_steps(args.workdir, args.step)  # or says which
  return request, *evaluation_request.load_problems(request)


def _mesh(request: "evaluation_request.Request") -> Any:
  """A context in which the mesh of the config is set."""
  import jax

  from pkpo_jax.lm import sharding

  return jax.set_mesh(sharding.make_mesh(**request.config.mesh))


def _evaluate(
  args: argparse.Namespace,
  request: "evaluation_request.Request",
  data: "build_run.Data",
  problems: "Sequence[base.Problem]",
) -> list[pathlib.Path]:
  """Evaluates one policy after the other; the paths of their files.

  The latest is chosen when its turn comes: a run at work deletes old ones.
  """
  from pkpo_jax.training import evaluation_request, run_evaluation

  evaluator = run_evaluation.Evaluator(request, data, problems, args.base_dir)
  paths: dict[int, pathlib.Path] = {}
  for name in args.step:
    (step,) = evaluation_request.choose_steps(args.workdir, [name])
    if step not in paths:
      paths[step] = evaluator.evaluate(step, _progress(step))
  evaluator.close()
  return list(paths.values())


def _progress(step: int) -> Callable[[Iterable[int]], Iterable[int]]:
  import tqdm

  from pkpo_jax import multihost

  silent = not multihost.is_first()
  return lambda rows: tqdm.tqdm(rows, desc=f"step {step}", disable=silent)


def table(found: Sequence[Found]) -> str:
  """Evaluations of the same problems side by side, for people.

  Raises:
    ValueError: they are of other problems.
  """
  from pkpo_jax.rl import rollout_metrics
  from pkpo_jax.training import evaluation_record

  first = found[0]
  ks = rollout_metrics.k_eval(min(x["n"] for x in found))
  columns: list[tuple[str, dict[str, str]]] = []
  for x in found:
    estimates = evaluation_record.estimate(x, ks)
    columns.append((_name(x, found), _cells(estimates, _mean)))
    if x is not first:
      gains = evaluation_record.compare(first, x, ks)
      columns.append(("gain", _cells(gains, _gain)))
  lines = [_about(x) for x in found]
  widths = [
    max(len(name), *map(len, cells.values())) for name, cells in columns
  ]
  rows = [("", [name for name, _ in columns])]
  rows += [
    (name, [cells.get(name, "") for _, cells in columns])
    for name in columns[0][1]
  ]
  for name, cells in rows:
    cells = [f"{cell:>{width}}" for cell, width in zip(cells, widths)]
    lines.append("  ".join([f"{name:>8}", *cells]))
  return "\n".join(lines)


def _name(x: Found, found: Sequence[Found]) -> str:
  """The step, and the run if there are several."""
  several = len({y["run"] for y in found}) > 1
  run = f"{pathlib.Path(x['run']).name} " if several else ""
  return f"{run}step {x['step']}"


def _about(x: Found) -> str:
  total = x["num_problems"] * x["n"]
  top_p = "" if x["top_p"] is None else f", top_p {x['top_p']:g}"
  ungraded, dropped = x["num_ungraded"], x["num_dropped"]
  return (
    f"{pathlib.Path(x['run']).name} step {x['step']}: {x['num_problems']}"
    f" {x['split']} problems of {x['task']['name']} ({dropped} dropped as too"
    f" long) x {x['n']} answers at temperature {x['temperature']:g}{top_p};"
    f" {ungraded} of {total} answers ungraded"
  )


def _cells(
  estimates: "Mapping[str, evaluation.Estimate]", cell: Callable[..., str]
) -> dict[str, str]:
  return {
    name: cell(*x) if len(x) > 2 else f"{x[0]:.3f}..{x[1]:.3f}"
    for name, x in estimates.items()
  }


def _mean(mean: float, standard_error: float, low: float, high: float) -> str:
  return f"{mean:.3f} ± {standard_error:.3f}"


def _gain(mean: float, standard_error: float, low: float, high: float) -> str:
  return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
  main()
