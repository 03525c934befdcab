"""One look for every figure, and one way to save it with its numbers.

Curves that differ by k take their colours from one ordered map (viridis, which
the colour-blind can read and which also darkens steadily in grey), and each k
has its own line style and marker besides. Figures are 8 inches wide at most,
so that their text stays readable at the width of a README.
"""

import argparse
import csv
import logging
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import command_line

if TYPE_CHECKING:  # Takes more than a second, which --help need not wait for.
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_LOGGER = logging.getLogger(__name__)

_RC = {
  "axes.grid": True,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "font.size": 9,
  "grid.alpha": 0.3,
  "grid.linewidth": 0.5,
  "legend.columnspacing": 1.2,
  "legend.frameon": False,
  "legend.handlelength": 2.9,
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
# Of arms that are no constant k: far apart in colour, in grey and in dashes.
_OTHERS: tuple[dict[str, Any], ...] = (
  {"color": "#d55e00", "linestyle": (0, (9, 2))},
  {"color": "#000000", "linestyle": (0, (2, 2))},
  {"color": "#cc79a7", "linestyle": (0, (7, 1.5, 1, 1.5, 1, 1.5))},
  {"color": "#0072b2", "linestyle": (0, (4, 2.5))},
  {"color": "#999999", "linestyle": "-"},
  {"color": "#7f4f00", "linestyle": (0, (1, 2.5))},
)


def k_style(k: int) -> dict[str, Any]:
  """Colour, line style and label of the curve of this k, for `axes.plot`."""
  import matplotlib

  position = 0.84 * (1 - np.clip(np.log2(k) / 4, 0, 1))
  return {
    "color": matplotlib.colormaps["viridis"](position),
    "linestyle": _DASHES.get(k, "-"),
    "label": f"$k={k}$",
  }


def k_marker(k: int) -> str:
  """The marker of this k, for curves with few points."""
  return _MARKERS.get(k, "P")


def arm_styles(arms: Iterable[str]) -> dict[str, dict[str, Any]]:
  """Styles of a study's arms: "k8" is drawn as k = 8, others by their place.

  Raises:
    ValueError: more other arms than can be told apart.
  """
  styles, others = {}, iter(_OTHERS)
  for arm in arms:
    if number := re.fullmatch(r"k(\d+)", arm):
      styles[arm] = k_style(int(number[1]))
    elif style := next(others, None):
      styles[arm] = style | {"label": arm}
    else:
      raise ValueError(
        f"Only {len(_OTHERS)} arms besides k1, k2, ... can be told apart in"
        " one picture; choose some with --arms."
      )
  return styles


def subplots(
  columns: int = 1,
  *,
  rows: int = 1,
  width: float = 5.0,
  height: float = 3.4,
) -> tuple["Figure", Any]:
  """(figure, axes) in the common style; sizes are in inches.

  `axes` is one Axes, or a flat array of them where there are several.
  """
  import matplotlib
  from matplotlib.figure import Figure

  matplotlib.rcParams.update(_RC)
  figure = Figure(figsize=(width, height), layout="constrained")
  axes = figure.subplots(rows, columns)
  return figure, axes.ravel() if rows * columns > 1 else axes


def band(
  axes: "Axes",
  x: Sequence[float] | np.ndarray,
  mean: np.ndarray,
  error: np.ndarray,
  **style: Any,
) -> None:
  """A curve, and the band of one error around it; no band where it is NaN."""
  (line,) = axes.plot(x, mean, **style)
  axes.fill_between(
    x, mean - error, mean + error, color=line.get_color(), alpha=0.2, lw=0
  )


def bounds(
  axes: "Axes",
  x: Sequence[float] | np.ndarray,
  lower: np.ndarray,
  upper: np.ndarray,
  color: Any,
) -> None:
  """Hatches what lies between two bounds, where a curve itself has a gap."""
  axes.fill_between(
    x, lower, upper, facecolor="none", edgecolor=color, hatch="//////", lw=0
  )


def rolling(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
  """The mean of the last `window` values at each place; fewer at the start.

  It is NaN where one of them is: a mean over the others would be one of other
  steps.
  """
  end = np.arange(1, len(values) + 1)
  start = np.maximum(end - window, 0)
  total = np.insert(np.nancumsum(values), 0, 0)
  missing = np.insert(np.cumsum(np.isnan(values)), 0, 0)
  mean = (total[end] - total[start]) / (end - start)
  return np.where(missing[end] > missing[start], np.nan, mean)


def save(
  figure: "Figure",
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
  save_rows(rows, out, name)
  path = pathlib.Path(out) / f"{name}.png"
  figure.savefig(path, dpi=200)
  _LOGGER.info("Wrote %s", path)


def save_rows(
  rows: Iterable[Mapping[str, Any]], out: str | pathlib.Path, name: str
) -> None:
  """Writes `out/name.csv`, see `save`."""
  path = pathlib.Path(out) / f"{name}.csv"
  path.parent.mkdir(parents=True, exist_ok=True)
  rows = list(rows)
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  _LOGGER.info("Wrote %s", path)


def parser(description: str | None) -> argparse.ArgumentParser:
  """The command line that all figures share: --help and --out."""
  logging.basicConfig(format="%(message)s")
  _LOGGER.setLevel(logging.INFO)
  result = command_line.parser(description)
  result.add_argument(
    "--out", default="figures", help="folder to write to (default: %(default)s)"
  )
  return result
