"""Reads the grid of an answer, in any of the ways in which models write one."""

import re
from collections.abc import Iterator

# One string of digits a row, all of the same length.
Grid = tuple[str, ...]

_LONGEST_LINE = 500  # Thirty cells need less, however they are written.
_NESTED = re.compile(r"\](?:\s*+,)?+\s*+\[")
_END_MARKS = re.compile(r"(?:<[^<>\s]{1,20}>|\[/?[A-Z]{1,9}\])+$")
# What may stand before the first row of a grid, and before each row.
_GRID_LABEL = re.compile(
  r"\W{0,3}(?:the )?(?:test |final |predicted )?"
  r"(?:output|answer|grid|result|solution)(?: grid)?(?: is)?\W{0,3}:\W{0,3}\s*",
  re.IGNORECASE,
)
_ROW_LABEL = re.compile(
  r"(?:(?:row|line|r)\s*[0-9]{1,2}\s*[:.)|-]|[0-9]{1,2}\s*[:)])\s*",
  re.IGNORECASE,
)
_TABLE_RULE = re.compile(r"[|+][-+|: ]*-[-+|: ]*")
_BRACKETS = " \t,[](){}|`*"
_QUOTES = str.maketrans("", "", "\"'")
_BETWEEN_CELLS = re.compile(r"[ \t,|;]+")
_DIGITS = re.compile(r"[0-9]+")


def last_grid(text: str, num_rows: int) -> Grid:
  """The last grid of an answer, () if it has none.

  A grid is a run of lines that hold a row each and nothing else: `012`,
  `0 1 2`, `[0, 1, 2],` or `| 0 | 1 | 2 |`, perhaps behind `Row 1:`, the first
  perhaps behind `Output:`. Any other line ends it, a fence or an empty one too;
  what is said before or after is ignored.

  Args:
    text: the answer.
    num_rows: of the right grid. If it has several, a single line of digits
      behind a grid is not another one.
  """
  grids = list(_grids(text))
  if num_rows > 1:
    grids = [grid for grid in grids if len(grid) > 1] or grids
  return grids[-1] if grids else ()


def _grids(text: str) -> Iterator[Grid]:
  rows: list[str] = []
  for line in _NESTED.sub("]\n[", text).split("\n"):
    line = line.strip()
    if _DIGITS.fullmatch(line):
      rows.append(line)
      continue
    row, is_first = _row(line) if len(line) <= _LONGEST_LINE else ("", False)
    if rows and (is_first or not row) and not _TABLE_RULE.fullmatch(line):
      yield tuple(rows)
      rows = []
    if row:
      rows.append(row)
  if rows:
    yield tuple(rows)


def _row(line: str) -> tuple[str, bool]:
  """The digits of a row, "" if it is none; whether it says that it is first."""
  if not _DIGITS.search(line):
    return "", False
  line = _END_MARKS.sub("", line).translate(_QUOTES)
  label = _GRID_LABEL.match(line)
  line = line[label.end() :] if label else line
  if row_label := _ROW_LABEL.match(line):
    line = line[row_label.end() :]
  cells = _BETWEEN_CELLS.split(line.strip(_BRACKETS))
  if not all(map(_DIGITS.fullmatch, cells)):
    return "", False
  is_row = len(cells) == 1 or all(len(cell) == 1 for cell in cells)
  return "".join(cells) if is_row else "", bool(label)
