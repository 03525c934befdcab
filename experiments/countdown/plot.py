"""Draws the Countdown study and prints its table: mean and error over seeds.

Example:
  python -m experiments.countdown.plot --runs=runs/study

For each k the learning rate is the one with the best training pass@k at that
very k: every arm is tuned for its own objective. The table shows all of them.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments import curves, plotting
from experiments.countdown import run
from pkpo_jax.rl import metrics

LAST = 20  # Training numbers are means over this many last steps.


class Arm(NamedTuple):
  """The records of an arm: for each seed, those of training and evaluation."""

  k_opt: int
  learning_rate: float
  train: list[list[dict[str, Any]]]
  evals: list[list[dict[str, Any]]]


def load(runs: pathlib.Path) -> list[Arm]:
  """All arms that have a complete run in `runs`."""
  arms = []
  for k_opt in run.K_OPTS:
    for rate in run.LEARNING_RATES:
      paths = (runs / run.arm_name(k_opt, rate)).glob("*/metrics.jsonl")
      seeds = [metrics.read(path) for path in sorted(paths)]
      last = run.arm_config(k_opt, rate, 0).num_steps
      seeds = [s for s in seeds if s and s[-1]["step"] == last]
      if seeds:
        stages = [
          [[r for r in records if r["stage"] == stage] for records in seeds]
          for stage in ("train", "eval")
        ]
        arms.append(Arm(k_opt, rate, *stages))
  return arms


def summary(arm: Arm) -> dict[str, np.ndarray]:
  """Name -> [seeds] values at the end of training."""
  names = ("pass@1", "pass@8", "pass@16", "entropy")
  values = {
    f"train {name}": [np.mean([r[name] for r in s[-LAST:]]) for s in arm.train]
    for name in names
  }
  values["solve rate"] = [seed[-1]["solve_rate"] for seed in arm.train]
  for name in ("pass@1", "pass@16", "pass@64"):
    values[f"test {name}"] = [seed[-1][name] for seed in arm.evals]
  return {name: np.array(x) for name, x in values.items()}


def tuned(arms: list[Arm]) -> list[Arm]:
  """For each k_opt the arm that is best at its own objective.

  Among those with the most seeds. It is chosen by the numbers that the table
  shows, which flatters every k alike.
  """
  best: dict[int, Arm] = {}
  most = max(len(arm.train) for arm in arms)
  for arm in (arm for arm in arms if len(arm.train) == most):
    goal = f"train pass@{arm.k_opt}"
    rival = best.get(arm.k_opt)
    if not rival or summary(arm)[goal].mean() > summary(rival)[goal].mean():
      best[arm.k_opt] = arm
  return list(best.values())


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Over the first axis, the seeds; the error of one seed is NaN."""
  if len(values) == 1:
    return values[0], np.full_like(values[0], np.nan)
  return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def table(arms: list[Arm]) -> str:
  """A Markdown table of all arms; an asterisk marks the tuned ones."""
  chosen = tuned(arms)
  names = list(summary(arms[0]))
  lines = [
    "| k_opt | learning rate | seeds | " + " | ".join(names) + " |",
    "|---|---|---|" + "---|" * len(names),
  ]
  for arm in arms:
    cells = [
      "{:.3f} ± {:.3f}".format(*mean_and_error(values))
      for values in summary(arm).values()
    ]
    star = "*" if arm in chosen else ""
    head = f"| {arm.k_opt} | {arm.learning_rate:g}{star} | {len(arm.train)} | "
    lines.append(head + " | ".join(cells) + " |")
  return "\n".join(lines)


def draw(arms: list[Arm], out: pathlib.Path) -> None:
  """Draws the tuned arms by step, with bands of one standard error."""
  panels = ("pass@1", "pass@16", "solve_rate", "entropy")
  figure, axes = plotting.subplots(len(panels), width=12.0, height=3.2)
  rows = []
  for arm in tuned(arms):
    style = plotting.k_style(arm.k_opt)
    style["label"] = f"$k_{{opt}}={arm.k_opt}$, rate {arm.learning_rate:g}"
    for axis, name in zip(axes, panels):
      smooth = 1 if name == "solve_rate" else LAST
      by_seed = np.array(
        [curves.rolling([r[name] for r in s], smooth) for s in arm.train]
      )
      mean, error = mean_and_error(by_seed)
      steps = np.arange(len(mean))
      axis.plot(steps, mean, **style)
      low, high = mean - error, mean + error
      axis.fill_between(steps, low, high, color=style["color"], alpha=0.25)
      rows += [
        {"k_opt": arm.k_opt, "metric": name, "step": s, "mean": m, "error": e}
        for s, m, e in zip(steps, mean, error)
      ]
  for axis, name in zip(axes, panels):
    axis.set_title(f"training {name}".replace("_", " "))
    axis.set_xlabel("step")
    axis.set_ylim(bottom=0)
  axes[0].legend()
  plotting.save(figure, rows, out, "study")


def main() -> None:
  """The command."""
  parser = plotting.parser(__doc__)
  parser.add_argument("--runs", type=pathlib.Path, default="runs/study")
  flags = parser.parse_args()
  arms = load(flags.runs)
  if not arms:
    parser.error(f"{flags.runs} has no complete run; experiments.countdown.run")
  print(table(arms))
  draw(arms, flags.out)


if __name__ == "__main__":
  main()
