"""Reads the grid of an answer, in any of the ways in which models write one."""

import re
from collections.abc import Iterator

# One string of digits a row, all of the same length.
Grid = tuple[str, ...]

_LONGEST_LINE = 500  # Thirty cells need less, however they are written.
_NESTED = re.compile(r"\](?:\s*+,)?+\s*+\[")
# A list of lists, what may stand before it in its line, and what behind it.
_LISTS = re.compile(
  r"\[\s*+\[[0-9\s,]++\](?:\s*+,?\s*+\[[0-9\s,]++\])*+\s*+,?\s*+\]"
)
_INTRODUCTION = re.compile(
  r"(?:^|(?<![a-z])(?<!input[ _])(?:output|answer|grid|result|solution)"
  r"(?:[ _]grid)?\W{0,3}(?:is)?\W{0,6})(?:(?:np\.|numpy\.)?array\()?$",
  re.IGNORECASE,
)
_NEARBY = 80  # characters
_LIST = re.compile(r"\[([0-9\s,]+)\]")
_CLOSING = " \t\r.,;!*`'\")}"
_MARKS = r"(?:<[^<>\s]{1,20}>|\[/?[A-Z]{1,9}\])+"
_START_MARKS, _END_MARKS = re.compile(_MARKS), re.compile(f"{_MARKS}$")
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
  what is said before or after is ignored. A list of lists that ends its line
  may also stand behind words such as `So the answer is` or `output =`.

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
  text = _LISTS.sub(_on_lines, text)
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


def _on_lines(lists: re.Match) -> str:
  """A list of lists with a line for each, if it is said to be the grid."""
  text, start, end = lists.string, lists.start(), lists.end()
  before = text[max(0, start - _NEARBY) : start].rpartition("\n")[2]
  after = text[end : end + _NEARBY].partition("\n")[0]
  if _END_MARKS.sub("", after).strip(_CLOSING):
    return lists[0]
  if not _INTRODUCTION.search(before.lstrip()):
    return lists[0]
  rows = (" ".join(row.split()) for row in _LIST.findall(lists[0]))
  return "\n".join(("", *(f"[{row}]" for row in rows), ""))


def _row(line: str) -> tuple[str, bool]:
  """The digits of a row, "" if it is none; whether it says that it is first."""
  if not _DIGITS.search(line):
    return "", False
  line = _END_MARKS.sub("", line).translate(_QUOTES)
  mark = _START_MARKS.match(line)
  line = line[mark.end() :] if mark else line
  label = _GRID_LABEL.match(line)
  line = line[label.end() :] if label else line
  if row_label := _ROW_LABEL.match(line):
    line = line[row_label.end() :]
  cells = _BETWEEN_CELLS.split(line.strip(_BRACKETS))
  if not all(map(_DIGITS.fullmatch, cells)):
    return "", False
  is_row = len(cells) == 1 or all(len(cell) == 1 for cell in cells)
  return "".join(cells) if is_row else "", bool(mark or label)
