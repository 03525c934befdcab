"""Is a run best where k_eval is near its k_opt? One number for a whole table.

The held-out pass@k_eval of arms k1, k2, k4, ... is fitted for each seed by

  a + b log2 k_opt + c log2 k_eval + d log2 k_opt log2 k_eval

with least squares. d is what one doubling of both adds beyond what each adds
alone: above 0 where the best k_opt grows with k_eval. It is linear in the
table, so that it is also the mean over problems of a d for each problem.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.paper.from_studies import Data
from pkpo_jax import intervals

CONFIDENCE = 0.95


class Interaction(NamedTuple):
  """d of a study, with two intervals that hold it with 95 %.

  Attributes:
    mean: over the seeds.
    over_seeds: (low, high) by Student's t: problems as they are, other seeds.
      NaN for a single seed.
    over_problems: (low, high) by a bootstrap: runs as they are, other problems.
      NaN where estimates of each problem were not kept.
  """

  mean: float
  over_seeds: tuple[float, float]
  over_problems: tuple[float, float]


def constant_k(arms: Sequence[str]) -> dict[str, int]:
  """Arm -> its k, of those named k1, k2, ..."""
  return {
    arm: int(found[1])
    for arm in arms
    if (found := re.fullmatch(r"k(\d+)", arm))
  }


def coefficient(
  table: np.ndarray, k_opt: Sequence[int], k_eval: Sequence[int]
) -> np.ndarray:
  """d of the fit.

  Args:
    table: [..., len(k_opt), len(k_eval)].
    k_opt: at least two different ones.
    k_eval: the same.

  Returns:
    [...].
  """
  x, z = (np.log2(ks) - np.mean(np.log2(ks)) for ks in (k_opt, k_eval))
  # On a full grid the product is orthogonal to the other terms.
  return np.einsum("...ij,i,j->...", table, x, z) / (x @ x) / (z @ z)


def of_study(data: Data, measure: str = "pass") -> Interaction | None:
  """d of a study's held-out pass@k or max@k; None with fewer than two k.

  A table in which a mean does not exist has none either: then d is NaN.
  """
  from scipy import stats

  ks, k_eval = constant_k(list(data.by_arm)), data.study.k_eval
  if len(ks) < 2 or len(k_eval) < 2:
    return None
  names = [f"{measure}@{k}" for k in k_eval]
  by_seed = np.array(
    [
      [[result.test[name][-1] for name in names] for result in data.by_arm[arm]]
      for arm in ks
    ]
  )  # [arms, seeds, ks]
  d = coefficient(by_seed.swapaxes(0, 1), list(ks.values()), k_eval)
  over_seeds = (np.nan, np.nan)
  if len(d) > 1:
    error = d.std(ddof=1) / np.sqrt(len(d))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(d) - 1) * error
    over_seeds = (d.mean() - half, d.mean() + half)
  return Interaction(
    float(d.mean()),
    (float(over_seeds[0]), float(over_seeds[1])),
    _over_problems(data, names, ks),
  )


def _over_problems(
  data: Data, names: Sequence[str], ks: Mapping[str, int]
) -> tuple[float, float]:
  """Bootstrap of the mean over seeds of each problem's d."""
  runs = [result for arm in ks for result in data.by_arm[arm]]
  if any(name not in result.by_problem for result in runs for name in names):
    return np.nan, np.nan
  by_problem = np.array(
    [
      np.mean(
        [[r.by_problem[name] for name in names] for r in data.by_arm[arm]],
        axis=0,
      )
      for arm in ks
    ]
  )  # [arms, ks, problems]
  d = coefficient(
    np.moveaxis(by_problem, -1, 0), list(ks.values()), data.study.k_eval
  )
  if not np.isfinite(d).all():
    return np.nan, np.nan
  found = intervals.over_problems(d, confidence=CONFIDENCE)
  return found.low, found.high


def best_rows(data: Data, measure: str = "pass") -> dict[int, str]:
  """k_eval -> the arm of constant k with the largest mean over seeds."""
  arms = list(constant_k(list(data.by_arm)))
  best = {}
  for k in data.study.k_eval:
    means = [
      np.mean(
        [result.test[f"{measure}@{k}"][-1] for result in data.by_arm[arm]]
      )
      for arm in arms
    ]
    if np.isfinite(means).all() and arms:
      best[k] = arms[int(np.argmax(means))]
  return best


def nearest_rows(data: Data) -> dict[int, str]:
  """k_eval -> the arm of constant k that is nearest on a scale of log k."""
  ks = constant_k(list(data.by_arm))

  def nearest(k_eval: int) -> str:
    return min(ks, key=lambda arm: abs(np.log2(ks[arm] / k_eval)))

  return {k: nearest(k) for k in data.study.k_eval}


def text(data: Data, measure: str = "pass") -> str:
  """Both, in Markdown; "" for a study that has fewer than two constant k."""
  found = of_study(data, measure)
  if found is None:
    return ""
  rows = ", ".join(
    f"{arm} at {k}" for k, arm in best_rows(data, measure).items()
  )
  return (
    f"Best of constant k by {measure}@k_eval: {rows}. Interaction of log2 k_opt"
    f" and log2 k_eval, percent: {100 * found.mean:.3f}; 95 % interval over"
    f" seeds {_range(found.over_seeds)}, over problems"
    f" {_range(found.over_problems)}."
  )


def _range(ends: tuple[float, float]) -> str:
  if not np.isfinite(ends).all():
    return "unknown"
  return f"{100 * ends[0]:.3f} to {100 * ends[1]:.3f}"
