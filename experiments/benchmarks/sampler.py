"""How many tokens a second are sampled, next to gemma's and tunix's samplers?

n completions of each of B prompts with the same widths, vocabulary, lengths and
dtype. In the last workload they end at very different lengths; there the places
of tokens count, to the end of the longest. Ours returns log-probs and
entropies, tunix's log-probs, gemma's neither. Contenders take turns in one run:
in its turn each samples twice, and the second time counts, for which the caches
of the processor are its own again.

Builds an environment for tunix at the first call, in .tunix. 20 minutes on two
cores that do nothing else.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from experiments.benchmarks import rivals, timing, workloads


def measure(workload: workloads.Workload, repetitions: int) -> dict[str, Any]:
  """Tokens a second of all contenders."""
  tunix = rivals.Tunix(workload)
  try:
    seconds = timing.alternate(
      {
        "ours": _second(workloads.Ours(workload).sample),
        "gemma": _second(rivals.GemmaSampler(workload).sample),
        "tunix": _second(tunix.sample),
      },
      repetitions,
    )
  finally:
    tunix.close()
  tokens = workload.B * workload.n * workload.T
  rates = {name: [tokens / x for x in runs] for name, runs in seconds.items()}
  medians = {name: statistics.median(x) for name, x in rates.items()}
  return {
    "workload": workload.name,
    "tunix": tunix.versions,
    "seconds": seconds,
    "tokens_per_second": rates,
    "speedup": medians["ours"] / max(medians["gemma"], medians["tunix"]),
  }


def _second(sample: Callable[[], float]) -> Callable[[], float]:
  """Samples twice, and returns the seconds of the second time."""

  def twice() -> float:
    sample()
    return sample()

  return twice


def table(results: Sequence[dict[str, Any]]) -> str:
  """Markdown."""
  lines = [
    "| B x n x (P + T) | ours | gemma | tunix | ours / the better |",
    "|---|---|---|---|---|",
  ]
  for result in results:
    rates = [timing.spread(x) for x in result["tokens_per_second"].values()]
    cells = (result["workload"], *rates, f"{result['speedup']:.2f}")
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes --out and a picture."""
  args = timing.arguments(__doc__, "runs/benchmarks/sampler.json", argv)
  results = []
  for workload in workloads.STEPS:
    print(f"Measuring {workload.name}", flush=True)
    results.append(measure(workload, args.repetitions))
    print(table(results[-1:]), flush=True)
  timing.write(args.out, results)
  panels = {x["workload"]: x["tokens_per_second"] for x in results}
  timing.bars(args.out.with_suffix(".png"), panels, "tokens a second")


if __name__ == "__main__":
  main()
