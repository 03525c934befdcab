"""What the paper claims, asked of our results: what is seen, and if it holds.

Differences between arms are paired by seed. They have intervals of Student's t
that hold them with 95 %: a claim holds if its interval lies on its side of 0,
does not if it lies on the other, and is open if 0 is inside.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.paper import from_studies, interaction
from experiments.paper.from_studies import Data

HOLDS, FAILS, OPEN = "yes", "no", "open: within noise"
STALLED = 0.01  # a solve rate that rises by less in the last third


class Finding(NamedTuple):
  """An answer to one claim.

  Attributes:
    seen: a sentence or two with the numbers.
    holds: `HOLDS`, `FAILS`, or why neither can be said.
  """

  seen: str
  holds: str


class Difference(NamedTuple):
  """A mean over seeds, with its interval; NaN bounds for a single seed."""

  mean: float
  low: float
  high: float


def difference(values: Sequence[float], others: Sequence[float]) -> Difference:
  """Mean of `values - others`, which are paired by seed."""
  from scipy import stats

  gains = np.subtract(values, others)
  mean = float(gains.mean())
  if len(gains) < 2:
    return Difference(mean, np.nan, np.nan)
  error = gains.std(ddof=1) / np.sqrt(len(gains))
  quantile = stats.t.ppf((1 + interaction.CONFIDENCE) / 2, len(gains) - 1)
  half = float(quantile * error)
  return Difference(mean, mean - half, mean + half)


def judge(*found: Difference) -> str:
  """Whether all of several differences are above 0."""
  if any(x.high < 0 for x in found):
    return FAILS
  return HOLDS if all(x.low > 0 for x in found) else OPEN


def near_k_eval(data: Data) -> Finding:
  """The best row of a column is the k_opt nearest to its k_eval.

  Judged by what is trained for: pass@k, or max@k where rewards have parts.
  """
  measure = data.study.measure
  found = interaction.of_study(data, measure)
  if found is None:
    return Finding("Fewer than two constant k were trained.", "not asked")
  seen = " ".join(
    interaction.text(data, name) for name in dict.fromkeys(("pass", measure))
  )
  holds = judge(Difference(found.mean, *found.over_seeds))
  best = interaction.best_rows(data, measure)
  nearest = interaction.nearest_rows(data)
  hits = sum(best.get(k) == arm for k, arm in nearest.items())
  if holds == HOLDS and hits < len(nearest):
    holds = (
      "larger k_opt gain more at larger k_eval; the nearest row is the best at"
      f" {hits} of {len(nearest)} k_eval"
    )
  return Finding(seen, holds)


def annealing(data: Data) -> Finding:
  """Annealed, a run ends above k = 1 for k_eval > 1, without a loss at 1.

  Asked of training problems, as the figure is, and of held-out ones.
  """
  shown, verdicts = [], []
  for where, values in (("training", _at_end), ("held-out", _held_out)):
    gains = {
      k: difference(
        values(data, "annealed", f"pass@{k}"), values(data, "k1", f"pass@{k}")
      )
      for k in data.study.k_eval
    }
    by_k = ", ".join(f"{_percent(x)} at {k}" for k, x in gains.items())
    shown.append(f"{where} pass@k_eval {by_k}")
    lost = gains[1].high < 0
    above = judge(*(x for k, x in gains.items() if k > 1))
    verdicts.append(FAILS if lost else above)
  seen = f"Annealed less k = 1, percent: {'; '.join(shown)}."
  holds = verdicts[0]
  if verdicts[1] != holds:
    holds = f"in training {verdicts[0]}; held out {verdicts[1]}"
  return Finding(seen, holds)


def exploration(data: Data) -> Finding:
  """Cumulative solve rate and entropy rise with k_opt."""
  arms = list(interaction.constant_k(list(data.by_arm)))
  finals = {
    name: {arm: _at_end(data, arm, name) for arm in arms}
    for name in ("solve_rate", "entropy")
  }
  shown = "; ".join(
    f"{name.replace('_', ' ')} "
    + ", ".join(f"{np.mean(x):.3f} ({arm})" for arm, x in by_arm.items())
    for name, by_arm in finals.items()
  )
  gains = [
    difference(by_arm[arms[-1]], by_arm[arms[0]]) for by_arm in finals.values()
  ]
  seen = f"At the end of training: {shown}."
  rises = all(
    np.all(np.diff([np.mean(x) for x in by_arm.values()]) > 0)
    for by_arm in finals.values()
  )
  holds = judge(*gains)
  if holds == HOLDS and not rises:
    holds = f"from {arms[0]} to {arms[-1]}, not at every step between"
  return Finding(seen, holds)


def rolling(data: Data) -> Finding:
  """In training, too, small k_opt are best at small k_eval, large at large."""
  arms = list(interaction.constant_k(list(data.by_arm)))
  ends = {
    k: {arm: _at_end(data, arm, f"pass@{k}") for arm in arms}
    for k in data.study.k_eval
  }
  best = []
  for k, by_arm in ends.items():
    means = [np.mean(values) for values in by_arm.values()]
    best.append(f"{arms[int(np.argmax(means))]} at {k}")
  first, last = min(ends), max(ends)
  small = difference(ends[first][arms[0]], ends[first][arms[-1]])
  large = difference(ends[last][arms[-1]], ends[last][arms[0]])
  seen = (
    f"Best of constant k at the end of training: {', '.join(best)}. In percent,"
    f" {arms[0]} less {arms[-1]} at {first}: {_percent(small)}; {arms[-1]} less"
    f" {arms[0]} at {last}: {_percent(large)}."
  )
  return Finding(seen, judge(small, large))


def stall(data: Data) -> Finding:
  """k = 1 stalls where k >= 4 goes on to solve problems."""
  arms = [arm for arm in ("k1", "k4", "k8") if arm in data.by_arm]
  rises = {arm: _rises(data, arm) for arm in arms}
  shown = ", ".join(
    f"{arm} {' '.join(f'{x:.3f}' for x in values)}"
    for arm, values in rises.items()
  )
  seen = (
    f"The solve rate rose in the last third, seed by seed, by: {shown}. Less"
    f" than {STALLED:g} is a stall."
  )
  stalls = {arm: [x < STALLED for x in values] for arm, values in rises.items()}
  if not all(stalls["k1"]):
    return Finding(seen, FAILS if not any(stalls["k1"]) else "on some seeds")
  others = [x for arm in arms if arm != "k1" for x in stalls[arm]]
  return Finding(seen, FAILS if any(others) else HOLDS)


def best(data: Data) -> Finding:
  """Which arm is best at pass@1, at the largest k_eval, and on average?

  Asked of held-out problems, and of training ones, on which rates were chosen.
  """
  held_out, verdict = _leaders(data, _held_out)
  training, _ = _leaders(data, _at_end)
  seen = (
    f"Best, in percent, on held-out problems: {held_out}; in training:"
    f" {training}."
  )
  return Finding(seen, f"the paper does not ask; held out: {verdict}")


def _leaders(
  data: Data, values: Callable[[Data, str, str], np.ndarray]
) -> tuple[str, str]:
  """Who leads by how much before whom, and whether that is beyond noise."""
  ks = data.study.k_eval
  by_arm = {
    arm: {f"pass@{k}": values(data, arm, f"pass@{k}") for k in ks}
    for arm in data.by_arm
  }
  for of_arm in by_arm.values():
    of_arm["the mean over k_eval"] = np.mean(list(of_arm.values()), axis=0)
  shown, verdicts = [], []
  for name in (f"pass@{min(ks)}", f"pass@{max(ks)}", "the mean over k_eval"):
    means = {arm: float(x[name].mean()) for arm, x in by_arm.items()}
    first, second, *_ = sorted(means, key=means.__getitem__, reverse=True)
    lead = difference(by_arm[first][name], by_arm[second][name])
    shown.append(f"{first} at {name}, before {second} by {_percent(lead)}")
    noise = "" if judge(lead) == HOLDS else " (within noise)"
    verdicts.append(f"{first} at {name}{noise}")
  return "; ".join(shown), ", ".join(verdicts)


def _held_out(data: Data, arm: str, name: str) -> np.ndarray:
  """Seeds' last evaluation."""
  return from_studies.metric(data, arm, name, "test")[:, -1]


def _at_end(data: Data, arm: str, name: str) -> np.ndarray:
  """Seeds' last solve rate; of all else the mean over the last steps."""
  last = 1 if name == "solve_rate" else data.study.last
  return from_studies.metric(data, arm, name)[:, -last:].mean(axis=1)


def _rises(data: Data, arm: str) -> list[float]:
  from experiments.studies import results

  return [
    results.summarise(data.study, result, "rise solve_rate").mean
    for result in data.by_arm[arm]
  ]


def _percent(x: Difference) -> str:
  return f"{100 * x.mean:.2f} ({100 * x.low:.2f} to {100 * x.high:.2f})"
