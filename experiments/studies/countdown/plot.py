"""Draws the Countdown study and prints its table: mean and error over seeds.

Example:
  python -m experiments.studies.countdown.plot --runs=runs/study

Drawn are the tuned learning rates; the table shows all.
"""

import pathlib

import numpy as np

from experiments import curves, plotting
from experiments.studies.countdown import arms as arms_lib

STYLES = {
  "k1": plotting.k_style(1),
  "k8": plotting.k_style(8),
  "annealed": {"color": "#d55e00", "label": "$k=8$, then $k=1$"},
}


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Over the first axis, the seeds; the error of one seed is NaN."""
  if len(values) == 1:
    return values[0], np.full_like(values[0], np.nan)
  return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def table(arms: list[arms_lib.Arm]) -> str:
  """A Markdown table of all arms; an asterisk marks the tuned ones."""
  best = [(arm.name, arm.learning_rate) for arm in arms_lib.tuned(arms)]
  names = list(arms_lib.summary(arms[0]))
  lines = [
    "| arm | learning rate | seeds | " + " | ".join(names) + " |",
    "|---|---|---|" + "---|" * len(names),
  ]
  for arm in arms:
    star = "\\*" if (arm.name, arm.learning_rate) in best else ""
    head = f"| {arm.name} | {arm.learning_rate:g}{star} | {len(arm.train)} | "
    cells = (_cell(values) for values in arms_lib.summary(arm).values())
    lines.append(head + " | ".join(cells) + " |")
  return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
  mean, error = mean_and_error(values)
  return f"{mean:.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


def draw(arms: list[arms_lib.Arm], out: str | pathlib.Path) -> None:
  """Draws the tuned arms by step, with bands of one standard error."""
  panels = ("pass@1", "pass@16", "solve_rate", "entropy")
  figure, axes = plotting.subplots(len(panels), width=12.0, height=3.2)
  rows = []
  for arm in arms_lib.tuned(arms):
    style = STYLES[arm.name]
    for axis, name in zip(axes, panels):
      window = 1 if name == "solve_rate" else arms_lib.LAST
      by_seed = np.array(
        [curves.rolling([r[name] for r in s], window) for s in arm.train]
      )
      mean, error = mean_and_error(by_seed)
      steps = np.arange(len(mean))
      axis.plot(steps, mean, **style)
      low, high = mean - error, mean + error
      axis.fill_between(steps, low, high, color=style["color"], alpha=0.25)
      rows += [
        {"arm": arm.name, "metric": name, "step": s, "mean": m, "error": e}
        for s, m, e in zip(steps, mean, error)
      ]
  titles = ("pass@1", "pass@16", "solved at least once", "entropy (nats/token)")
  for axis, title in zip(axes, titles):
    axis.set_title(title)
    axis.set_xlabel("step")
    axis.set_ylim(bottom=0)
  axes[0].legend()
  plotting.save(figure, rows, out, "study")


def main() -> None:
  """The command."""
  parser = plotting.parser(__doc__)
  parser.add_argument("--runs", type=pathlib.Path, default="runs/study")
  flags = parser.parse_args()
  arms = arms_lib.load(flags.runs)
  if not arms:
    parser.error(
      f"{flags.runs} has no complete run; experiments.studies.countdown.run"
    )
  print(table(arms))
  draw(arms, flags.out)


if __name__ == "__main__":
  main()
