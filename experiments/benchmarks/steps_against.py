"""Is a step slower than in another checkout of this project?

  git worktree add ../before b645759
  python -m experiments.benchmarks.steps_against --checkout=../before

The steps of experiments.benchmarks.step, here and there in a process each,
which take turns. Both update in microbatches of the size that is fastest for
them, which is tried before. What is reported is the median, over the turns, of
the seconds there by the seconds here: below 1, it is slower here.

Some five minutes a workload, on two cores that do nothing else.
"""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Sequence

from experiments import command_line
from experiments.benchmarks import rivals, step, timing, workloads

HERE = pathlib.Path(__file__).parents[2]
_WORKER = pathlib.Path(__file__).with_name("steps_worker.py")


class Checkout(rivals.Worker):
  """A process that takes steps with the code of a checkout."""

  def __init__(self, folder: pathlib.Path, workload: workloads.Workload):
    """Starts it; compiles nothing yet."""
    super().__init__(sys.executable, _WORKER, PYTHONPATH=str(folder))
    self.send(json.dumps(workload))
    self.answer("ready")

  def step(self, name: str, size: int) -> tuple[float, float]:
    """Seconds of a step in all, and of its sampling."""
    transform = "grpo" if name == step.DENSE else "sloo_minus_one"
    self.send(f"{transform} {size} {step.RATES[name]}")
    total, sampling = map(float, self.answer("seconds"))
    return total, sampling

  def fastest(self, name: str, sizes: Sequence[int]) -> int:
    """The size of microbatch at which the faster of two steps is fastest."""

    def seconds(size: int) -> float:
      self.step(name, size)  # compiles
      return min(self.step(name, size) for _ in range(2))[0]

    return min(sizes, key=seconds)


def compare(
  checkout: pathlib.Path,
  workload: workloads.Workload,
  sizes: Sequence[int],
  repetitions: int,
) -> dict[str, list[float]]:
  """Seconds there by seconds here, turn by turn, of steps and of sampling.

  Args:
    checkout: there.
    workload: what a step is.
    sizes: of microbatches, to choose from there.
    repetitions: how many turns each has.
  """
  here, there = Checkout(HERE, workload), Checkout(checkout, workload)
  try:
    best = {
      (side, name): side.fastest(name, tried)
      for name in (step.DENSE, step.TYPICAL)
      for side, tried in ((here, step.ROWS), (there, sizes))
    }
    ratios: dict[str, list[float]] = {"sampling": []}
    for name in step.RATES:
      tuned = name if name == step.DENSE else step.TYPICAL
      turns = timing.alternate(
        {
          side: functools.partial(side.step, name, best[side, tuned])
          for side in (here, there)
        },
        repetitions,
      )
      pairs = list(zip(turns[here], turns[there]))
      ratios[name] = [theirs[0] / ours[0] for ours, theirs in pairs]
      ratios["sampling"] += [theirs[1] / ours[1] for ours, theirs in pairs]
  finally:
    here.close()
    there.close()
  return ratios


def table(results: dict[str, dict[str, list[float]]]) -> str:
  """Markdown: the median of the ratios, and the middle half of them."""
  names = ("sampling", *step.RATES)
  lines = [
    f"| there / here | {' | '.join(names)} |",
    "|---" * (len(names) + 1) + "|",
  ]
  for workload, ratios in results.items():
    cells = [timing.middle_half(ratios[name]) for name in names]
    lines.append(f"| {workload} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _checkout(text: str) -> pathlib.Path:
  folder = command_line.path(text).absolute()
  if not (folder / "experiments/benchmarks/workloads.py").exists():
    raise argparse.ArgumentTypeError(
      f"{text} has no experiments/benchmarks/workloads.py."
    )
  return folder


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes --out."""
  args = timing.arguments(
    __doc__,
    "runs/benchmarks/steps_against.json",
    argv,
    {
      "--checkout": {"type": _checkout, "required": True},
      "--sizes": {
        "type": int,
        "nargs": "+",
        "default": step.ROWS,
        "help": "microbatches to try there (1 2 4 8 where these are prompts)",
      },
    },
  )
  results: dict[str, dict[str, list[float]]] = {}
  for workload in workloads.STEPS:
    print(f"Measuring {workload.name}", flush=True)
    results[workload.name] = compare(
      args.checkout, workload, args.sizes, args.repetitions
    )
    print(table(results), flush=True)
  timing.write(args.out, results)


if __name__ == "__main__":
  main()
