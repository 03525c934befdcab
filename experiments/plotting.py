"""One look for every figure, and one way to save it with its numbers.

Curves that differ by k take their colours from one ordered map (viridis, which
the colour-blind can read and which also darkens steadily in grey), and each k
has its own line style and marker besides.
"""

import argparse
import csv
import logging
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

_LOGGER = logging.getLogger(__name__)

_RC = {
  "axes.grid": True,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "font.size": 9,
  "grid.alpha": 0.3,
  "grid.linewidth": 0.5,
  "legend.frameon": False,
  "legend.handlelength": 3.2,
  "lines.linewidth": 1.5,
  "lines.markersize": 4.5,
}
_DASHES = {
  1: "-",
  2: (0, (6, 1.5)),
  4: (0, (3, 1.5)),
  8: (0, (5, 1.5, 1, 1.5)),
  16: (0, (1, 1.2)),
}
_MARKERS = {1: "o", 2: "s", 4: "^", 8: "D", 16: "v"}


def k_style(k: int) -> dict[str, Any]:
  """Colour, line style and label of the curve of this k, for `axes.plot`."""
  position = 0.84 * (1 - np.clip(np.log2(k) / 4, 0, 1))
  return {
    "color": matplotlib.colormaps["viridis"](position),
    "linestyle": _DASHES.get(k, "-"),
    "label": f"$k={k}$",
  }


def k_marker(k: int) -> str:
  """The marker of this k, for curves with few points."""
  return _MARKERS.get(k, "P")


def subplots(
  columns: int = 1, *, width: float = 5.0, height: float = 3.4
) -> tuple[Figure, Any]:
  """(figure, axes) in the common style; sizes are in inches.

  `axes` is one Axes, or an array of them where there are several columns.
  """
  matplotlib.rcParams.update(_RC)
  figure = Figure(figsize=(width, height), layout="constrained")
  return figure, figure.subplots(ncols=columns)


def save(
  figure: Figure,
  rows: Iterable[Mapping[str, Any]],
  out: str | pathlib.Path,
  name: str,
) -> None:
  """Writes `out/name.png`, and `out/name.csv` with one line for each row.

  Args:
    figure: what to draw.
    rows: the numbers behind it, all with the same columns.
    out: the folder; made if absent.
    name: the file name without its ending.
  """
  path = pathlib.Path(out) / name
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path.with_suffix(".png"), dpi=200)
  rows = list(rows)
  with path.with_suffix(".csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  for suffix in (".png", ".csv"):
    _LOGGER.info("Wrote %s", path.with_suffix(suffix))


def parser(description: str | None) -> argparse.ArgumentParser:
  """The command line that all figures share: --help and --out."""
  logging.basicConfig(format="%(message)s")
  _LOGGER.setLevel(logging.INFO)
  result = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  result.add_argument(
    "--out", default="figures", help="folder to write to (default: figures)"
  )
  return result
