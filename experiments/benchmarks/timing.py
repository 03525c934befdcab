"""What the benchmarks share: turns, the machine, and what is kept."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from experiments import command_line

Name = TypeVar("Name")

MIN_REPETITIONS = 7
_LOAD = os.getloadavg()[0]


def machine() -> dict[str, Any]:
  """What the numbers were measured on."""
  return {
    "processor": _processor(),
    "cores": len(os.sched_getaffinity(0)),
    "load before": _LOAD,
    "device": jax.devices()[0].device_kind,
    "python": platform.python_version(),
    **{name: metadata.version(name) for name in ("jax", "numpy", "gemma")},
  }


def _processor() -> str:
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
  names = [line.split(":")[1].strip() for line in lines if "model name" in line]
  return names[0] if names else platform.processor()


def alternate(
  contenders: Mapping[Name, Callable[[], Any]],
  repetitions: int,
  warm_up: int = 1,
) -> dict[Name, list[Any]]:
  """What every contender returns, one after the other, again and again."""
  results: dict[Name, list[Any]] = {name: [] for name in contenders}
  for turn in range(warm_up + repetitions):
    for name, run in contenders.items():
      result = run()
      if turn >= warm_up:
        results[name].append(result)
  return results


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
  """Seconds until the result is there, and the result."""
  start = time.perf_counter()
  result = jax.block_until_ready(run())
  return time.perf_counter() - start, result


def matrix_rate(size: int = 2048) -> float:
  """Floating-point operations a second of a product of two matrices."""
  matrix = jnp.ones((size, size), jnp.float32)
  jax.block_until_ready(matrix @ matrix)
  return 2 * size**3 / timed(lambda: matrix @ matrix)[0]


def spread(values: list[float]) -> str:
  """The median, and from least to most."""
  low, middle, high = (
    f"{f(values):,.0f}" if min(values) >= 100 else f"{f(values):.3g}"
    for f in (min, statistics.median, max)
  )
  return f"{middle} ({low} to {high})"


def middle_half(values: list[float]) -> str:
  """The median, and the quartiles around it."""
  low, middle, high = statistics.quantiles(values, n=4)
  return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def arguments(
  doc: str | None,
  out: str,
  argv: Sequence[str] | None,
  more: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> argparse.Namespace:
  """The command line of a benchmark, parsed.

  Args:
    doc: what the benchmark says of itself.
    out: where its results go by default.
    argv: the arguments, or None for those of the program.
    more: options of its own, each with what `add_argument` takes.
  """
  p = command_line.parser(doc)
  p.add_argument(
    "--repetitions",
    type=int,
    default=MIN_REPETITIONS,
    help=f"turns of each contender, at least {MIN_REPETITIONS}",
  )
  p.add_argument(
    "--out",
    type=command_line.path,
    default=pathlib.Path(out),
    help="the JSON file to write; the picture beside it (default: %(default)s)",
  )
  for option, settings in more.items():
    p.add_argument(option, **settings)
  args = p.parse_args(argv)
  if args.repetitions < MIN_REPETITIONS:
    p.error(f"--repetitions {args.repetitions} is less than {MIN_REPETITIONS}.")
  return args


def write(out: pathlib.Path, results: Any) -> None:
  """Writes results with the machine, as JSON."""
  out.parent.mkdir(parents=True, exist_ok=True)
  record = {"machine": machine(), "results": results}
  out.write_text(json.dumps(record, indent=1) + "\n")
  print(f"Wrote {out}.")


def bars(
  path: pathlib.Path,
  panels: Mapping[str, Mapping[str, list[float]]],
  unit: str,
) -> None:
  """Draws medians, with lines from least to most; rivals in grey.

  Args:
    path: of the picture.
    panels: title -> contender -> values; ours begin with "ours".
    unit: of the values.
  """
  figure, axes = plt.subplots(
    1, len(panels), figsize=(3.4 * len(panels), 3.2), squeeze=False
  )
  for ax, (title, contenders) in zip(axes[0], panels.items()):
    for i, (name, values) in enumerate(contenders.items()):
      color = "C0" if name.startswith("ours") else "C7"
      ax.bar(i, statistics.median(values), color=color)
      ax.plot([i, i], [min(values), max(values)], color="black")
    ax.set_xticks(range(len(contenders)), contenders, rotation=45, ha="right")
    ax.set_title(title, fontsize="medium")
  axes[0][0].set_ylabel(unit)
  figure.tight_layout()
  figure.savefig(path, dpi=150)
  plt.close(figure)
