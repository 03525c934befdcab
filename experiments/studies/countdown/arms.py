"""The arms of the Countdown study: k, learning rate, and what came of them."""

import pathlib
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from configs import countdown
from pkpo_jax.training import metrics_writer

# What each arm changes in configs/countdown.py, besides its learning rate.
K_OPTS: dict[str, dict[str, tuple[int, ...]]] = {
  "k1": {"k_opt": (1,)},
  "k8": {"k_opt": (8,)},
  "annealed": {"k_opt": (8, 1), "k_boundaries": (100,)},
}
LEARNING_RATES = (1e-4, 2e-4, 4e-4)
LAST = 20  # Training numbers are means over this many last steps.


class Arm(NamedTuple):
  """An arm with its complete runs.

  Attributes:
    name: of `K_OPTS`.
    learning_rate: of the optimiser.
    train: for each seed, the records of all training steps.
    evals: for each seed, the records of all evaluations.
  """

  name: str
  learning_rate: float
  train: list[list[dict[str, Any]]]
  evals: list[list[dict[str, Any]]]


def config(
  name: str, learning_rate: float, seed: int
) -> ml_collections.ConfigDict:
  """The config of configs/countdown.py with an arm's values."""
  changed = countdown.get_config()
  changed.update(learning_rate=learning_rate, seed=seed, **K_OPTS[name])
  return changed


def folder(
  runs: pathlib.Path, name: str, learning_rate: float, seed: int
) -> pathlib.Path:
  """Where the run of an arm with a seed is kept."""
  return runs / f"{name}_lr{learning_rate:g}" / f"seed{seed}"


def load(runs: pathlib.Path) -> list[Arm]:
  """All arms that have a complete run in `runs`."""
  arms = []
  for name in K_OPTS:
    for rate in LEARNING_RATES:
      last = config(name, rate, 0).num_steps
      paths = folder(runs, name, rate, 0).parent.glob("*/metrics.jsonl")
      seeds = [metrics_writer.read(path) for path in sorted(paths)]
      seeds = [s for s in seeds if s and s[-1]["step"] == last]
      if seeds:
        stages = [
          [[r for r in records if r["stage"] == stage] for records in seeds]
          for stage in ("train", "eval")
        ]
        arms.append(Arm(name, rate, *stages))
  return arms


def summary(arm: Arm) -> dict[str, np.ndarray]:
  """Name -> [seeds] values at the end of training."""
  names = ("pass@1", "pass@8", "pass@16", "entropy")
  values = {
    f"train {name}": [np.mean([r[name] for r in s[-LAST:]]) for s in arm.train]
    for name in names
  }
  values["solve rate"] = [seed[-1]["solve_rate"] for seed in arm.train]
  for name in ("pass@1", "pass@8", "pass@16", "pass@64"):
    values[f"test {name}"] = [seed[-1][name] for seed in arm.evals]
  return {name: np.array(x) for name, x in values.items()}


def tuned(arms: list[Arm]) -> list[Arm]:
  """For each name the learning rate whose first seed is best at its goal.

  Everything is tuned for its own objective: training pass@k at the end, for
  the k that it ends with.
  """
  best: dict[str, Arm] = {}
  for arm in arms:
    goal = f"train pass@{K_OPTS[arm.name]['k_opt'][-1]}"
    rival = best.get(arm.name)
    if not rival or summary(arm)[goal][0] > summary(rival)[goal][0]:
      best[arm.name] = arm
  return list(best.values())
