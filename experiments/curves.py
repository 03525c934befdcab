"""Draws what a training run has done: pass@k before and after, and by step.

Example:
  python -m experiments.curves --workdir=runs/k8

experiments.train does the same at its end.
"""

import pathlib
from typing import Any

import numpy as np

from experiments import command_line, plotting

Records = list[dict[str, Any]]


def draw_run(workdir: pathlib.Path) -> pathlib.Path:
  """Draws `curves.png`, with `curves.csv` behind it, from a run's metrics.

  Args:
    workdir: of a run of experiments.train.

  Returns:
    The path of the picture.

  Raises:
    ValueError: there are no metrics of a finished evaluation in `workdir`.
  """
  from pkpo_jax.training import metrics_writer

  records = metrics_writer.read(workdir / "metrics.jsonl")
  evals = [r for r in records if r["stage"] == "eval"]
  train = [r for r in records if r["stage"] == "train"]
  if len(evals) < 2 or not train:
    raise ValueError(
      f"{workdir}/metrics.jsonl holds {len(evals)} evaluations and"
      f" {len(train)} steps; run experiments.train to its end first."
    )
  figure, axes = plotting.subplots(3, width=9.0)
  curves = {"base policy": evals[0], f"step {evals[-1]['step']}": evals[-1]}
  _draw_pass_at_k(axes[0], curves)
  _draw_learning(axes[1], train)
  _draw_exploration(axes[2], train)
  rows = [
    {"policy": policy, "k": k, "pass_at_k": mean, "standard_error": error}
    for policy, record in curves.items()
    for k, mean, error in zip(*pass_at_k(record))
  ]
  plotting.save(figure, rows, workdir, "curves")
  return workdir / "curves.png"


def pass_at_k(
  record: dict[str, Any],
) -> tuple[list[int], list[float], list[float]]:
  """The ks of a record, with the means and standard errors at them."""
  ks = [int(x[5:]) for x in record if x.startswith("pass@") and "_" not in x]
  means = [record[f"pass@{k}"] for k in ks]
  return ks, means, [record[f"pass@{k}_stderr"] for k in ks]


def _draw_pass_at_k(axes, curves: dict[str, dict[str, Any]]) -> None:
  for (label, record), style in zip(curves.items(), ("o--", "s-")):
    ks, means, errors = pass_at_k(record)
    axes.errorbar(ks, means, errors, fmt=style, capsize=2, label=label)
  axes.set_xscale("log", base=2)
  axes.set_xticks(ks, [str(k) for k in ks])
  axes.set_xlabel("$k$")
  axes.set_ylabel("pass@$k$ on held-out problems")
  axes.set_ylim(0, 1)
  axes.legend()


def _draw_learning(axes, train: Records) -> None:
  """Rolling training pass@k, and the band of its standard error."""
  steps, window = [r["step"] for r in train], max(1, len(train) // 15)
  ks, *_ = pass_at_k(train[0])
  for k in (k for k in ks if k in (1, 4, 16)):
    mean = plotting.rolling([r[f"pass@{k}"] for r in train], window)
    error = plotting.rolling([r[f"pass@{k}_stderr"] for r in train], window)
    error = error / np.sqrt(np.minimum(np.arange(len(mean)) + 1, window))
    plotting.band(axes, steps, mean, error, **plotting.k_style(k))
  axes.set_xlabel("step")
  axes.set_ylabel(f"training pass@$k$, mean of {window} steps")
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
