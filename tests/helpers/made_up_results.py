"""Results of studies that nobody ran, with numbers that one can add by hand."""

import pathlib
from collections.abc import Callable, Iterable

from experiments.studies import results
from experiments.studies.study import Run, Study

STEPS = 4
NUM_PROBLEMS = 3  # whose estimates are kept: all alike
KS = (1, 2, 4, 8, 16)
UNGRADED = 2  # of the answers in each record


def write(
  study: Study,
  folder: pathlib.Path,
  runs: Iterable[Run],
  value: Callable[[Run, str, int], float | dict[str, float]],
) -> None:
  """Writes a result for each run; its metrics are `value(run, name, step)`.

  A dict is of values by the ending of the name: {"": nan, "_lower": .1, ...}.

  Names are "pass@K" and others in training, "test pass@K" for held-out ones.
  """
  for run in runs:
    train = [f"pass@{k}" for k in KS]
    train += ["entropy", "solve_rate", "groups_all_wrong"]
    records = [
      {"step": step, "stage": "train", "seconds_step": 30.0}
      | {"num_problems": 32, "num_ungraded": UNGRADED}
      | _named((name, value(run, name, step)) for name in train)
      for step in range(STEPS)
    ]
    records += [
      {"step": step, "stage": "eval", "seconds_eval": 90.0}
      | {"num_problems": 128, "num_ungraded": UNGRADED}
      | _named((f"pass@{k}", value(run, f"test pass@{k}", step)) for k in KS)
      for step in (0, STEPS)
    ]
    by_problem = {
      f"pass@{k}": [value(run, f"test pass@{k}", STEPS)] * NUM_PROBLEMS
      for k in KS
    }
    results.write(study, folder, run, records, "abc1234", by_problem)


def _named(
  values: Iterable[tuple[str, float | dict[str, float]]],
) -> dict[str, float]:
  """Name with ending -> value."""
  return {
    f"{name}{ending}": x
    for name, found in values
    for ending, x in (
      found.items() if isinstance(found, dict) else [("", found)]
    )
  }


def all_runs(study: Study) -> list[Run]:
  """Every arm at every rate with every seed."""
  return [
    Run(arm, rate, seed)
    for arm in study.arms
    for rate in study.rates
    for seed in study.seeds
  ]
