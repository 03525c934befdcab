"""Steps of a checkout of this project, one for each line of standard input.

Runs on the `pkpo_jax` and the `experiments` that PYTHONPATH names, see
steps_against.py. The first line is a workload as JSON; then every line is
"TRANSFORM SIZE RATE", with SIZE the microbatch's and RATE the fraction of right
answers, or None. Answers the first with a line "ready" and each other with a
line "seconds TOTAL SAMPLING".
"""

import functools
import json
import sys

from experiments.benchmarks import workloads


def main() -> None:
  """Answers until there are no more lines."""
  workload = workloads.Workload(*json.loads(sys.stdin.readline()))

  @functools.cache
  def ours(transform: str, size: int) -> workloads.Ours:
    return workloads.Ours(workload, size, transform)

  print("ready", flush=True)
  for line in sys.stdin:
    transform, size, rate = line.split()
    taken = ours(transform, int(size)).step(
      None if rate == "None" else float(rate)
    )
    print("seconds", taken["seconds"], taken["sample"], flush=True)


if __name__ == "__main__":
  main()
