"""The transformed copies of ARC's problems, against numpy's symmetries."""

import collections
import random

import numpy as np
import pytest

from pkpo_jax.tasks import arc, arc_puzzles


@pytest.fixture(scope="module")
def task():
  return arc.Arc()


@pytest.fixture(scope="module")
def augmented():
  return arc.Arc(augment=7)


def task_id(problem):
  return problem.id.split("/")[1]


def array(grid):
  return np.array([[int(cell) for cell in row] for row in grid])


def test_symmetries_are_the_eight_of_the_square():
  grid = ("0123", "4567")
  turned = [np.rot90(array(grid), i) for i in range(4)]
  expected = {x.tobytes() + bytes(x.shape) for x in turned}
  expected |= {np.fliplr(x).tobytes() + bytes(x.shape) for x in turned}
  found = set()
  for i in range(8):
    flips = (bool(i & 1), bool(i & 2), bool(i & 4))
    image = array(arc.Symmetry(*flips, colours="0123456789")(grid))
    found.add(image.tobytes() + bytes(image.shape))
  assert len(expected) == 8
  assert found == expected


def test_colours_are_permuted():
  move = arc.Symmetry(False, False, False, "0987654321")
  assert move(("0123", "4567")) == ("0987", "6543")


def recoloured(colours, pair, source):
  """Colours with those that take a pair to its source, None if none do.

  Colours are (before, after), each occurring once on either side.
  """
  colours = set(colours)
  for grid, original in zip(pair, source):
    if grid.shape != array(original).shape:
      return None
    colours |= set(zip(grid.flat, array(original).flat))
  before, after = (set(side) for side in zip(*colours))
  return colours if len(before) == len(after) == len(colours) else None


def paired(colours, pairs, sources):
  """Whether the pairs are the sources in some order, recoloured alike."""
  if not pairs:
    return not sources
  return any(
    (found := recoloured(colours, pairs[0], source)) is not None
    and paired(found, pairs[1:], [*sources[:i], *sources[i + 1 :]])
    for i, source in enumerate(sources)
  )


def is_copy(copy, source):
  """Whether one of 8 moves and some colours take a copy to its source."""
  for i in range(8):

    def moved(grid, i=i):
      image = np.rot90(array(grid), i % 4)
      return np.fliplr(image) if i >= 4 else image

    asked = [moved(copy.input), moved(copy.output)]
    colours = recoloured({(0, 0)}, asked, (source.input, source.output))
    pairs = [(moved(a), moved(b)) for a, b in copy.examples]
    if colours is not None and paired(colours, pairs, [*source.examples]):
      return True
  return False


@pytest.mark.slow
def test_copies_are_their_sources_under_one_bijection(augmented):
  """Found by search, not from the code: the answer moves as the prompt does."""
  puzzles = {p.id: p.data for p in augmented.problems("train")}
  copies = [name for name in puzzles if "/copy" in name]
  assert len(copies) == 7 * (len(puzzles) - len(copies))
  for name in copies:
    assert is_copy(puzzles[name], puzzles[name.split("/copy")[0]]), name


def test_a_wrong_cell_is_not_found_to_be_a_copy(augmented):
  """The search above can fail."""
  puzzles = {p.id: p.data for p in augmented.problems("train")}
  source = puzzles["arc/007bbfb7/0"]
  copy = puzzles["arc/007bbfb7/0/copy1"]
  first = copy.output[0]
  other = str((int(first[0]) + 1) % 10)
  output = (other + first[1:], *copy.output[1:])
  assert is_copy(copy, source)
  assert not is_copy(arc.Puzzle(copy.examples, copy.input, output), source)
  assert not is_copy(
    arc.Puzzle(copy.examples[1:], copy.input, copy.output), source
  )


def test_copies_differ_and_are_graded_like_all_others(augmented):
  problems = augmented.problems("train")
  assert len({p.id for p in problems}) == len(problems)
  assert len({p.data for p in problems}) == len(problems)
  assert len({p.prompt for p in problems}) == len(problems)
  for problem in problems:
    assert augmented.grade(problem, "\n".join(problem.data.output)) == arc.RIGHT


def test_every_move_colour_and_order_is_equally_likely():
  """Within five deviations, of 4000 copies that show all three."""
  examples = tuple(((f"{length * '0'}",), ("0",)) for length in (2, 3, 4))
  puzzle = arc.Puzzle(examples, ("110", "000"), ("0",))
  rng = random.Random(0)
  moves, colours, orders = (collections.Counter() for _ in range(3))
  for _ in range(4000):
    copy = arc.augmented(puzzle, rng)
    (colour,) = set("".join(copy.input)) - {"0"}
    colours[colour] += 1
    moves[tuple(row.replace(colour, "1") for row in copy.input)] += 1
    orders[tuple(len("".join(a)) for a, _ in copy.examples)] += 1
  for counts, kinds in ((moves, 8), (colours, 9), (orders, 6)):
    assert len(counts) == kinds
    error = 5 * (4000 / kinds * (1 - 1 / kinds)) ** 0.5
    assert all(abs(c - 4000 / kinds) < error for c in counts.values())


def test_only_training_problems_have_copies_and_stay_themselves(
  task, augmented
):
  assert augmented.problems("test") == task.problems("test")
  first = [p for p in augmented.problems("train") if "/copy" not in p.id]
  assert first == task.problems("train")
  sides = [
    {task_id(p) for p in augmented.problems(s)} for s in ("train", "test")
  ]
  assert not sides[0] & sides[1]


@pytest.mark.slow
def test_copies_depend_on_the_seed_and_their_source_alone(augmented):
  again = {p.id: p for p in augmented.problems("train")}
  fewer = arc.Arc(augment=2, max_cells=400).problems("train")
  shared = [p for p in fewer if p.id in again and "/copy" in p.id]
  assert len(shared) > 50
  assert all(again[p.id] == p for p in shared)
  source = arc_puzzles.from_package()["007bbfb7"][0]
  drawn = [
    arc._problems("x", source, 3, seed, "{examples}{input}")
    for seed in (0, 0, 1)
  ]
  assert drawn[0] == drawn[1] != drawn[2]


def test_more_copies_than_there_are_is_an_error():
  """One colour on one cell: 9 colours, and examples that are all the same."""
  puzzle = arc.Puzzle(((("1",), ("1",)),), ("1",), ("1",))
  assert len(arc._problems("x", puzzle, 8, 0, "{examples}{input}")) == 9
  with pytest.raises(ValueError, match="x has only 8 different copies"):
    arc._problems("x", puzzle, 9, 0, "{examples}{input}")
