"""What a run's last evaluation found for each held-out problem."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # It imports gemma, which readers need not wait for.
  from pkpo_jax.rl import rollout_metrics

_FILE = "held_out.json"


def write(
  workdir: pathlib.Path,
  step: int,
  ids: Sequence[str],
  curves: "Mapping[str, rollout_metrics.Curve]",
) -> None:
  """Writes the estimates of each problem, in place of those of earlier steps.

  Args:
    workdir: the run's.
    step: the one that was evaluated.
    ids: of N problems.
    curves: "pass" or "max" -> the curve over these problems.
  """
  found = {
    f"{name}@{k}": [None if np.isnan(x) else float(x) for x in estimates]
    for name, curve in curves.items()
    for k, estimates in zip(curve.ks, curve.by_problem.T)
  }
  path = workdir / _FILE
  new = path.with_suffix(".tmp")
  new.write_text(
    json.dumps({"step": step, "ids": list(ids), "by_problem": found}) + "\n"
  )
  new.replace(path)


def read(workdir: pathlib.Path) -> dict[str, list[float]]:
  """Metric, as "pass@4" -> [N] estimates of the last evaluation, NaN for none.

  Empty if the run was made by a version that kept none.
  """
  path = workdir / _FILE
  if not path.exists():
    return {}
  found = json.loads(path.read_text())["by_problem"]
  return {name: np.array(x, float).tolist() for name, x in found.items()}
