"""How long is a step of RL, next to google-tunix on the same work?

A step samples n completions of each of B prompts, weighs their rewards and
updates the policy: the same widths, vocabulary, lengths, dtype and optimiser.
Contenders take turns in one run. Ours runs with GRPO as tunix does, where every
sample has a weight (dense); and with PKPO and 0/1 rewards at three solve rates,
where microbatches without any weight are skipped. tunix takes as long at any
rate. Each updates in microbatches of the size that is fastest for it (for PKPO:
at 25 %), which is tried before: 1, 2, 4 or 8 prompts for tunix, and 4, 8, 16 or
32 completions for ours.

A product of two matrices runs along, for what the machine can do at all.

Builds an environment for tunix at the first call, in .tunix. Some eight minutes
a workload, on two cores that do nothing else.
"""

import functools
import statistics
from collections.abc import Sequence
from typing import Any

from experiments.benchmarks import rivals, timing, workloads

THEIRS, DENSE, TYPICAL = "tunix", "dense", "25 %"
# Solve rates of our transform; dense is GRPO, as tunix.
RATES: dict[str, float | None] = {
  DENSE: None,
  "100 %": 1.0,
  TYPICAL: 0.25,
  "5 %": 0.05,
}
MICROBATCHES = (1, 2, 4, 8)  # prompts of tunix
ROWS = (4, 8, 16, 32)


def make(name: str, workload: workloads.Workload, microbatch: int) -> Any:
  """A contender, whose `step` takes a solve rate."""
  if name == THEIRS:
    return rivals.Tunix(workload, microbatch)
  transform = "grpo" if name == DENSE else "sloo_minus_one"
  return workloads.Ours(workload, microbatch, transform)


def trials(workload: workloads.Workload) -> dict[str, dict[int, float]]:
  """Seconds, the faster of two, for each size of microbatch."""
  sizes = {THEIRS: MICROBATCHES, DENSE: ROWS, TYPICAL: ROWS}
  made = {
    (x, size): make(x, workload, size) for x in sizes for size in sizes[x]
  }
  try:
    turns = timing.alternate(
      {
        (name, size): functools.partial(x.step, RATES.get(name, RATES[TYPICAL]))
        for (name, size), x in made.items()
      },
      repetitions=2,
    )
  finally:
    for size in sizes[THEIRS]:
      made[THEIRS, size].close()
  return {
    name: {size: min(x["seconds"] for x in turns[name, size]) for size in tried}
    for name, tried in sizes.items()
  }


def measure(workload: workloads.Workload, repetitions: int) -> dict[str, Any]:
  """Seconds of all contenders, and the fraction of the peak that ours reach."""
  tried = trials(workload)
  best = {name: min(x, key=x.__getitem__) for name, x in tried.items()}
  made = {name: make(name, workload, size) for name, size in best.items()}
  try:
    turns = timing.alternate(
      {THEIRS: functools.partial(made[THEIRS].step, RATES[TYPICAL])}
      | {
        name: functools.partial(made.get(name, made[TYPICAL]).step, rate)
        for name, rate in RATES.items()
      }
      | {"peak": timing.matrix_rate},
      repetitions,
    )
  finally:
    made[THEIRS].close()
  peak = statistics.median(turns.pop("peak"))
  seconds = {name: [x["seconds"] for x in xs] for name, xs in turns.items()}
  return {
    "workload": workload.name,
    "tunix": made[THEIRS].versions,
    "microbatches": tried,
    "microbatch": best,
    "seconds": seconds,
    "speedup": {name: _ratio(seconds, name) for name in RATES},
    "fraction_updated": {
      name: statistics.mean(x["fraction_updated"] for x in turns[name])
      for name in RATES
    },
    "peak": peak,
    # How much an uneven step computes is not known beforehand.
    "of_peak": None
    if workload.stop_tokens
    else _of_peak(made[DENSE].flops(), turns[DENSE], peak),
  }


def _ratio(seconds: dict[str, list[float]], name: str) -> float:
  return statistics.median(seconds[THEIRS]) / statistics.median(seconds[name])


def _of_peak(
  flops: dict[str, float], turns: list[dict[str, float]], peak: float
) -> dict[str, float]:
  """The share of the peak rate that sampling and the dense update reach."""
  sample = statistics.median(x["sample"] for x in turns)
  update = statistics.median(x["seconds"] - x["sample"] for x in turns)
  return {
    "sample": flops["sample"] / sample / peak,
    "update": flops["update"] / update / peak,
  }


def label(name: str) -> str:
  """What a contender is called in the table and in the picture."""
  return name if name == THEIRS else f"ours, {name}"


def table(results: Sequence[dict[str, Any]]) -> str:
  """Markdown."""
  lines = [
    "| B x n x (P + T) | contender | seconds | tunix / ours | updated |",
    "|---|---|---|---|---|",
  ]
  for result in results:
    for name, seconds in result["seconds"].items():
      ratio = result["speedup"].get(name)
      share = result["fraction_updated"].get(name)
      ours = ("", "") if ratio is None else (f"{ratio:.2f}", f"{share:.2f}")
      cells = (result["workload"], label(name), timing.spread(seconds), *ours)
      lines.append("| " + " | ".join(cells) + " |")
  for result in results:
    tried = "; ".join(
      f"{name} " + ", ".join(f"{size}: {x:.3g}" for size, x in sizes.items())
      for name, sizes in result["microbatches"].items()
    )
    lines.append(
      f"\n{result['workload']}: seconds by microbatch: {tried}."
      f" A matrix product runs at {result['peak'] / 1e9:.0f} GFLOP/s."
    )
    if reached := result["of_peak"]:
      lines.append(
        f"Sampling reaches {reached['sample']:.0%} of that, the dense update"
        f" {reached['update']:.0%}."
      )
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes --out and a picture."""
  args = timing.arguments(__doc__, "runs/benchmarks/step.json", argv)
  results = []
  for workload in workloads.STEPS:
    print(f"Measuring {workload.name}", flush=True)
    results.append(measure(workload, args.repetitions))
    print(table(results[-1:]), flush=True)
  timing.write(args.out, results)
  panels = {
    x["workload"]: {label(name): y for name, y in x["seconds"].items()}
    for x in results
  }
  timing.bars(args.out.with_suffix(".png"), panels, "seconds a step")


if __name__ == "__main__":
  main()
