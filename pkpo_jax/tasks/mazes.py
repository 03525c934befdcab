"""Mazes: find the way around the walls, where going straight deceives.

A prompt `S . # / # . # / G . .` is a grid, row by row, with walls `#`. The
answer is a walk from S to G in moves U D L R: `R D D L`. It ends at its last
move, at the goal, or before the first step into a wall or across the border.
At the goal it earns 1; elsewhere a part of that, the more the closer by
Manhattan distance: so a policy learns to walk straight at the goal long before
it finds a way, which must lead away first where a detour is needed.

After the text mazes of TailRL (github.com/Zanette-Labs/TailRL); sizes, walls
and rewards are ours, and any way to the goal is right, not the shortest alone.
"""

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pkpo_jax.tasks import base

MOVES = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}  # row, column

RIGHT = base.Grade(1.0, True, "right")

_SIZES = range(3, 10)
_ATTEMPTS = 10_000  # until options that no maze meets are called so


class Maze(NamedTuple):
  """A square grid; cells are numbered row by row.

  Attributes:
    size: cells in a row, and rows.
    walls: for each cell, whether it is one.
    start: the cell where a walk begins.
    goal: the cell that it seeks.
  """

  size: int
  walls: tuple[bool, ...]
  start: int
  goal: int


class Mazes(base.BaseTask):
  """Mazes, fixed by their seed; all of them have a way to the goal.

  A tier is the length of the shortest way.

  Attributes:
    words: all words of prompts and answers, for a tokenizer.
    max_answer_words: the longest demonstrated answer, in words.
    binary_rewards: whether only the goal earns something.
  """

  def __init__(
    self,
    *,
    size: int = 5,
    walls: float = 0.4,
    min_path: int = 2,
    max_path: int = 12,
    detours: bool = True,
    partial: float = 0.5,
    num_train: int = 256,
    num_test: int = 128,
    seed: int = 0,
  ):
    """Draws the problems.

    Walls and start are drawn, then the goal among the cells that `min_path`,
    `max_path` and `detours` allow.

    Args:
      size: cells in a row, and rows; 3..9.
      walls: chance of each cell to be a wall, 0 <= walls < 1.
      min_path: the least length of a shortest way, in moves; at least 2.
      max_path: the largest.
      detours: whether every way must be longer than the Manhattan distance.
      partial: what the last cell before the goal would earn at most, 0 <=
        partial < 1; a walk that ends no closer than it began earns 0.
      num_train: how many training problems.
      num_test: how many held-out problems, all different from those.
      seed: another seed, other problems.

    Raises:
      ValueError: an option is out of range, or too few mazes meet them all.
    """
    if size not in _SIZES:
      raise ValueError(f"size={size} must be {_SIZES[0]}..{_SIZES[-1]}.")
    if not 0 <= walls < 1 or not 0 <= partial < 1:
      raise ValueError(
        f"walls={walls} and partial={partial} must be at least 0 and below 1."
      )
    if not 2 <= min_path <= max_path:
      raise ValueError(
        f"min_path={min_path} and max_path={max_path} must be"
        " 2 <= min_path <= max_path."
      )
    if num_train < 1 or num_test < 1:
      raise ValueError(
        f"num_train={num_train} and num_test={num_test} must be at least 1."
      )
    self.words = ("S", "G", ".", "#", "/", *MOVES)
    self.max_answer_words = max_path
    self.binary_rewards = partial == 0
    self._size, self._walls, self._partial = size, walls, partial
    self._paths, self._detours = range(min_path, max_path + 1), detours
    drawn = self._problems(num_train + num_test, random.Random(seed))
    super().__init__({"train": drawn[:num_train], "test": drawn[num_train:]})

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """1 for a walk to the goal, less for one that ends closer than it began."""
    moves = completion.split()
    if not moves or not MOVES.keys() >= set(moves):
      return base.Grade(0.0, True, "malformed")
    maze = problem.data
    end = walk(maze, moves)
    if end == maze.goal:
      return RIGHT
    before, after = (
      manhattan(maze.size, cell, maze.goal) for cell in (maze.start, end)
    )
    if after >= before:
      return base.Grade(0.0, True, "no closer")
    return base.Grade(self._partial * (1 - after / before), True, "closer")

  def demonstrations(
    self, seed: int, *, wrong: float
  ) -> Iterator[tuple[str, str]]:
    """Endless (prompt, walk) pairs to pretrain on, none of them held out.

    Args:
      seed: fixes the sequence.
      wrong: in this fraction of the pairs the walk is a random one that misses
        the goal; in the others it is a shortest way. This keeps a base policy
        diverse and far from solving the task: it keeps off walls, and comes to
        the goal mostly by chance.
    """
    rng = random.Random(seed)
    held_out = {problem.data for problem in self.problems("test")}
    while True:
      maze = self._draw(rng)
      if rng.random() < wrong:
        moves = _miss(maze, self.max_answer_words, rng)
      else:
        moves = _shortest_way(maze, rng)
      if maze not in held_out:
        yield _prompt(maze), " ".join(moves)

  def _problems(self, count: int, rng: random.Random) -> list[base.Problem]:
    """`count` different problems."""
    found: dict[Maze, base.Problem] = {}
    in_vain = 0
    while len(found) < count:
      maze = self._draw(rng)
      in_vain = in_vain + 1 if maze in found else 0
      if in_vain == _ATTEMPTS:
        raise ValueError(
          f"There are too few different mazes of {self._options()} for"
          f" num_train + num_test = {count}: found {len(found)}."
        )
      prompt = _prompt(maze)
      length = distances(maze.size, maze.walls, maze.start)[maze.goal]
      found[maze] = base.Problem(prompt, prompt, f"path={length}", maze)
    return list(found.values())

  def _draw(self, rng: random.Random) -> Maze:
    for _ in range(_ATTEMPTS):
      walls = [rng.random() < self._walls for _ in range(self._size**2)]
      start = rng.randrange(self._size**2)
      walls[start] = False
      goals = [
        cell
        for cell, moves in distances(self._size, walls, start).items()
        if moves in self._paths
        and not (self._detours and moves == manhattan(self._size, start, cell))
      ]
      if goals:
        return Maze(self._size, tuple(walls), start, rng.choice(goals))
    raise ValueError(
      f"None of {_ATTEMPTS} grids has a maze of {self._options()}; allow other"
      " lengths, or another share of walls."
    )

  def _options(self) -> str:
    return (
      f"size={self._size}, walls={self._walls}, min_path={self._paths[0]},"
      f" max_path={self._paths[-1]}, detours={self._detours}"
    )


def walk(maze: Maze, moves: Sequence[str]) -> int:
  """The cell at which a walk ends: it stops at the goal, and before a wall."""
  cell = maze.start
  for move in moves:
    following = _neighbours(maze.size)[cell].get(move)
    if following is None or maze.walls[following]:
      return cell
    cell = following
    if cell == maze.goal:
      return cell
  return cell


def manhattan(size: int, cell: int, other: int) -> int:
  """Moves from a cell to another where there are no walls."""
  rows, columns = zip(divmod(cell, size), divmod(other, size))
  return abs(rows[0] - rows[1]) + abs(columns[0] - columns[1])


def distances(size: int, walls: Sequence[bool], start: int) -> dict[int, int]:
  """Cell -> the fewest moves from `start`, for all that can be reached."""
  found, frontier = {start: 0}, [start]
  for cell in frontier:  # grows while it is read: nearer cells come first
    for following in _neighbours(size)[cell].values():
      if not walls[following] and following not in found:
        found[following] = found[cell] + 1
        frontier.append(following)
  return found


@functools.cache
def _neighbours(size: int) -> tuple[Mapping[str, int], ...]:
  """For each cell: move -> the cell that it leads to, inside the border."""

  def of(row: int, column: int) -> dict[str, int]:
    return {
      move: (row + down) * size + column + right
      for move, (down, right) in MOVES.items()
      if 0 <= row + down < size and 0 <= column + right < size
    }

  return tuple(of(*divmod(cell, size)) for cell in range(size**2))


def _shortest_way(maze: Maze, rng: random.Random) -> list[str]:
  """The moves of a random shortest way."""
  left = distances(maze.size, maze.walls, maze.goal)
  cell, moves = maze.start, []
  while cell != maze.goal:
    closer = [
      (move, following)
      for move, following in _neighbours(maze.size)[cell].items()
      if left.get(following) == left[cell] - 1
    ]
    move, cell = rng.choice(closer)
    moves.append(move)
  return moves


def _miss(maze: Maze, longest: int, rng: random.Random) -> list[str]:
  """The moves of a random walk that keeps off walls and misses the goal.

  It visits no cell twice, and has 1 to `longest` moves.
  """
  seen, cell, moves = {maze.start, maze.goal}, maze.start, list[str]()
  for _ in range(rng.randint(1, longest)):
    new = [
      (move, following)
      for move, following in _neighbours(maze.size)[cell].items()
      if not maze.walls[following] and following not in seen
    ]
    if not new:
      break
    move, cell = rng.choice(new)
    seen.add(cell)
    moves.append(move)
  return moves


def _prompt(maze: Maze) -> str:
  cells = ["#" if wall else "." for wall in maze.walls]
  cells[maze.start], cells[maze.goal] = "S", "G"
  rows = (
    cells[row : row + maze.size] for row in range(0, len(cells), maze.size)
  )
  return " / ".join(map(" ".join, rows))
