"""Draws what a training run has done: pass@k before and after, and by step.

Example:
  python -m experiments.curves --workdir=runs/k8

pass@k counts answers of reward 1 and more; where rewards are not 0/1, max@k is
the expected best reward of k. Where a problem has fewer than k graded answers,
their means do not exist, and bars or hatches show the bounds between which they
lie. experiments.train draws the same at its end.
"""

import pathlib
import re
from typing import Any

import numpy as np

from experiments import command_line, plotting

Records = list[dict[str, Any]]


def draw_run(workdir: pathlib.Path) -> pathlib.Path:
  """Draws `curves.png`, with `curves.csv` behind it, from a run's metrics.

  Args:
    workdir: of a run of experiments.train.

  Returns:
    The path of the picture. It has pass@k of held-out problems once there are
    two evaluations.

  Raises:
    ValueError: there is no step in the metrics of `workdir`.
  """
  from pkpo_jax.training import metrics_writer

  records = metrics_writer.read(workdir / "metrics.jsonl")
  evals = [r for r in records if r["stage"] == "eval"]
  train = [r for r in records if r["stage"] == "train"]
  if not train:
    raise ValueError(
      f"{workdir}/metrics.jsonl holds no step; run experiments.train first."
    )
  if len(evals) < 2:
    figure, axes = plotting.subplots(2, width=6.0)
    curves = {f"training, step {train[-1]['step']}": train[-1]}
  else:
    figure, axes = plotting.subplots(3, width=9.0)
    curves = {"base policy": evals[0], f"step {evals[-1]['step']}": evals[-1]}
    _draw_pass_at_k(axes[0], curves)
  _draw_learning(axes[-2], train)
  _draw_exploration(axes[-1], train)
  rows = [
    {"policy": policy, "metric": f"{name}@{k}"} | numbers
    for policy, record in curves.items()
    for name in ("pass", "max")
    for k, numbers in numbers_by_k(record, name).items()
  ]
  plotting.save(figure, rows, workdir, "curves")
  return workdir / "curves.png"


def numbers_by_k(
  record: dict[str, Any], name: str
) -> dict[int, dict[str, float]]:
  """k -> mean, standard_error, lower and upper of pass@k, or of max@k.

  The bounds are the mean where it exists, see `rl.rollout_metrics.Curve`.
  """
  found = {}
  for metric, mean in record.items():
    if match := re.fullmatch(rf"{name}@(\d+)", metric):
      ends = {end: record.get(f"{metric}_{end}", mean) for end in _ENDS}
      error = record[f"{metric}_stderr"]
      found[int(match[1])] = {"mean": mean, "standard_error": error} | ends
  return found


_ENDS = ("lower", "upper")


def counted(records: Records) -> str:
  """How many problems a record has, and answers without a grade in all."""
  if any("num_problems" not in r for r in records):
    return "problems not counted"  # by a version before this one
  problems = sorted({int(r["num_problems"]) for r in records})
  ungraded = sum(int(r["num_ungraded"]) for r in records)
  return (
    f"{', '.join(map(str, problems))} problems, {ungraded} answers ungraded"
  )


def _draw_pass_at_k(axes, curves: dict[str, dict[str, Any]]) -> None:
  """Both policies: pass@k in filled markers, max@k, if any, in hollow ones."""
  axes.set_xscale("log", base=2)
  styles = (("C0", "o", "--"), ("C1", "s", "-"))
  for (policy, record), (color, marker, line) in zip(curves.items(), styles):
    for name, face, shift in (("pass", color, 1.0), ("max", "none", 1.05)):
      by_k = numbers_by_k(record, name)
      if not by_k:
        continue
      mean, error, lower, upper = _columns(list(by_k.values()))
      ks, gaps = shift * np.array(list(by_k)), np.isnan(mean)
      style = {"color": color, "markerfacecolor": face, "capsize": 2}
      label = f"{policy}, {name}@$k$"
      axes.errorbar(ks, mean, error, fmt=marker + line, label=label, **style)
      middle, half = (lower + upper) / 2, (upper - lower) / 2
      if gaps.any():  # A bar without a marker, from one bound to the other.
        axes.errorbar(
          ks[gaps], middle[gaps], half[gaps], fmt="none", ecolor=color,
          elinewidth=4 if name == "pass" else 1.5, capsize=4,
        )  # fmt: skip
      ticks = [k for k in by_k if k.bit_count() == 1]  # 12 is too near to 16
      axes.set_xticks(ticks, [str(k) for k in ticks])
  axes.set_xlabel("$k$")
  axes.set_title(f"held out: {counted(list(curves.values()))}", fontsize=9)
  axes.set_ylim(0, 1)
  axes.legend(loc="upper left", fontsize=8)


def _columns(numbers: list[dict[str, float]]) -> list[np.ndarray]:
  """Means, standard errors, lower and upper bounds."""
  names = ("mean", "standard_error", *_ENDS)
  return [np.array([x[name] for x in numbers]) for name in names]


def _draw_learning(axes, train: Records) -> None:
  """Rolling training pass@k, or max@k, and the band of its standard error."""
  steps, window = [r["step"] for r in train], max(1, len(train) // 15)
  name = "max" if numbers_by_k(train[0], "max") else "pass"
  by_step = [numbers_by_k(record, name) for record in train]
  for k in (k for k in by_step[0] if k in (1, 4, 16)):
    mean, error, lower, upper = (
      plotting.rolling(column, window)
      for column in _columns([numbers[k] for numbers in by_step])
    )
    error = error / np.sqrt(np.minimum(np.arange(len(mean)) + 1, window))
    style = plotting.k_style(k)
    plotting.band(axes, steps, mean, error, **style)
    plotting.bounds(axes, steps, lower, upper, style["color"])
  axes.set_xlabel("step")
  axes.set_ylabel(f"training {name}@$k$, mean of {window} steps")
  axes.set_title(f"training: {counted(train)}", fontsize=9)
  axes.set_ylim(0, 1)
  axes.legend()


def _draw_exploration(axes, train: Records) -> None:
  steps = [r["step"] for r in train]
  axes.plot(steps, [r["solve_rate"] for r in train], label="solved so far")
  axes.plot(
    steps, [r["entropy"] for r in train], "--", label="entropy (nats/token)"
  )
  skipped = [r["groups_skipped"] for r in train]
  axes.plot(steps, skipped, ":", label="groups without signal")
  axes.set_xlabel("step")
  axes.set_ylim(bottom=0)
  axes.legend()


def main() -> None:
  """The command."""
  parser = command_line.parser(__doc__)
  parser.add_argument(
    "--workdir",
    type=command_line.path,
    default="runs/countdown",
    help="a training run's (default: runs/countdown)",
  )
  try:
    print(f"Wrote {draw_run(parser.parse_args().workdir)}")
  except ValueError as error:
    parser.error(str(error))


if __name__ == "__main__":
  main()
