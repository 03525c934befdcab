"""Mazes against plain Python on the text of the prompts."""

import collections
import itertools
import random
import time

import numpy as np
import pytest

from configs import mazes as config
from pkpo_jax.rl import rollout_metrics
from pkpo_jax.tasks import base, mazes
from pkpo_jax.training import build_run

STEPS = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
# Where going straight down from S ends in front of a wall.
SMALL = "S . . / . # . / # G ."


@pytest.fixture(scope="module")
def task():
  return mazes.Mazes()


def rows_of(prompt):
  return [row.split() for row in prompt.split(" / ")]


def find(rows, word):
  (place,) = [
    (r, c) for r, row in enumerate(rows) for c, x in enumerate(row) if x == word
  ]
  return place


def plain_walk(prompt, moves):
  """(reached the goal, Manhattan distance of the end, of the start)."""
  rows = rows_of(prompt)
  place, goal = find(rows, "S"), find(rows, "G")
  ends = [place]
  for move in moves:
    r, c = (a + b for a, b in zip(ends[-1], STEPS[move]))
    inside = 0 <= r < len(rows) and 0 <= c < len(rows)
    if ends[-1] == goal or not inside or rows[r][c] == "#":
      break
    ends.append((r, c))
  far = [sum(abs(a - b) for a, b in zip(x, goal)) for x in (ends[-1], place)]
  return ends[-1] == goal, *far


def shortest(prompt):
  """Moves of a shortest way, by relaxing all cells until nothing changes."""
  rows = rows_of(prompt)
  fewest = np.full((len(rows), len(rows)), np.inf)
  fewest[find(rows, "S")] = 0
  while True:
    wide = np.pad(fewest, 1, constant_values=np.inf)
    around = [
      wide[1 + a : 1 + a + len(rows), 1 + b : 1 + b + len(rows)]
      for a, b in STEPS.values()
    ]
    new = np.minimum(fewest, np.min(around, axis=0) + 1)
    new[np.array(rows) == "#"] = np.inf
    if np.array_equal(new, fewest):
      return fewest[find(rows, "G")]
    fewest = new


def all_problems(task):
  return [*task.problems("train"), *task.problems("test")]


def problem_of(prompt):
  """A problem with this prompt."""
  rows = rows_of(prompt)
  size, cells = len(rows), [x for row in rows for x in row]
  places = (cells.index(word) for word in "SG")
  maze = mazes.Maze(size, tuple(x == "#" for x in cells), *places)
  return base.Problem(prompt, prompt, "", maze)


@pytest.mark.parametrize(
  ("walk", "reward", "reason"),
  [
    ("R R D D L", 1.0, "right"),
    ("R R D D L L U", 1.0, "right"),  # it ended at the goal
    ("D R R R", 0.5 / 3, "closer"),  # one of three, then a wall
    ("R", 0.5 / 3, "closer"),
    ("R R D D", 0.5 * 2 / 3, "closer"),
    ("R R", 0.0, "no closer"),  # on the right way, which is a detour
    ("U", 0.0, "no closer"),  # across the border
    ("R L", 0.0, "no closer"),
    ("", 0.0, "malformed"),
    ("R R D D L G", 0.0, "malformed"),
    ("r", 0.0, "malformed"),
  ],
)
def test_rewards_by_hand(task, walk, reward, reason):
  grade = task.grade(problem_of(SMALL), walk)
  assert grade == base.Grade(pytest.approx(reward), True, reason)


def test_only_the_goal_earns_something_without_a_partial_reward():
  task = mazes.Mazes(partial=0.0)
  assert base.has_binary_rewards(task)
  assert not base.has_binary_rewards(mazes.Mazes(num_train=1, num_test=1))
  walks = [["R", "R R D D", "R R D D L", "G"]]
  rewards, valid = task.grade_batch([problem_of(SMALL)], walks)
  assert rewards.tolist() == [[0, 0, 1, 0]] and valid.all()


def test_random_walks_are_graded_as_plain_python_does(task):
  rng = random.Random(0)
  reached = 0
  for problem in rng.choices(all_problems(task), k=2000):
    moves = [*mazes._shortest_way(problem.data, rng), *rng.choices("UDLR", k=2)]
    moves[rng.randrange(len(moves))] = rng.choice("UDLR")
    goal, after, before = plain_walk(problem.prompt, moves)
    partial = 0.5 * max(0, 1 - after / before)
    found = task.grade(problem, " ".join(moves)).reward
    assert found == pytest.approx(1.0 if goal else partial)
    assert (found >= 1) == goal
    reached += goal
  assert 200 < reached < 1800


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"size": 7, "walls": 0.35, "min_path": 7, "max_path": 16},
    {"size": 9, "walls": 0.3, "min_path": 14, "max_path": 20},
    {"size": 6, "walls": 0.2, "detours": False, "max_path": 5},
  ],
)
def test_mazes_are_as_the_options_say(options):
  task = mazes.Mazes(num_train=60, num_test=20, **options)
  problems = all_problems(task)
  lengths = [shortest(p.prompt) for p in problems]
  assert min(lengths) >= options.get("min_path", 2)
  assert max(lengths) <= options.get("max_path", 12)
  assert [p.tier for p in problems] == [f"path={int(x)}" for x in lengths]
  straight = [plain_walk(p.prompt, [])[2] for p in problems]
  detours = [x > y for x, y in zip(lengths, straight)]
  assert all(detours) or (not options.get("detours", True) and any(detours))
  for problem in problems:
    rows = rows_of(problem.prompt)
    assert {len(row) for row in rows} == {len(rows)} == {options.get("size", 5)}
    assert set(problem.prompt.split()) <= set(task.words)
    assert problem == base.Problem(
      problem.prompt, problem.prompt, problem.tier, problem_of(problem.id).data
    )


def test_the_share_of_walls_is_that_of_the_option():
  """Without detours, and for ways of any length."""
  task = mazes.Mazes(walls=0.3, detours=False, num_train=2000, max_path=24)
  walls = [np.mean(p.data.walls) for p in task.problems("train")]
  # Of all cells but the start. A little less, since that has a way out.
  assert np.mean(walls) == pytest.approx(0.3 * 24 / 25, abs=0.01)


def test_the_seed_fixes_the_problems(task):
  assert all_problems(mazes.Mazes()) == all_problems(task)
  other = {p.id for p in all_problems(mazes.Mazes(seed=1))}
  assert not other & {p.id for p in all_problems(task)}
  assert len({p.prompt for p in all_problems(task)}) == 256 + 128


@pytest.mark.slow
def test_thousands_are_drawn_in_a_second_or_two():
  start = time.process_time()
  task = mazes.Mazes(num_train=4000)
  list(itertools.islice(task.demonstrations(0, wrong=0.9), 4000))
  assert time.process_time() - start < 4


@pytest.mark.slow
def test_all_there_are_can_be_had():
  """Without walls: 25 x 24 pairs of cells, but for the 80 of neighbours."""
  options = {"walls": 0.0, "detours": False, "num_test": 20}
  task = mazes.Mazes(num_train=500, **options)
  assert len({p.id for p in all_problems(task)}) == 520
  with pytest.raises(ValueError, match=r"too few .*walls=0.0.* 521: found 520"):
    mazes.Mazes(num_train=501, **options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"size": 2}, r"size=2 must be 3\.\.9"),
    ({"size": 10}, "size=10"),
    ({"walls": 1.0}, r"walls=1\.0"),
    ({"partial": 1.0}, r"partial=1\.0 must be"),
    ({"partial": -0.1}, r"partial=-0\.1"),
    ({"min_path": 1}, "min_path=1"),
    ({"min_path": 5, "max_path": 4}, "min_path=5 and max_path=4"),
    ({"num_train": 0}, "num_train=0"),
    ({"num_test": 0}, "num_test=0"),
    ({"size": 3, "min_path": 9}, "None of 10000 grids .*size=3.*min_path=9"),
  ],
)
def test_options_out_of_range_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    mazes.Mazes(**options)


def demonstrated(task, count, wrong, seed=0):
  pairs = itertools.islice(task.demonstrations(seed, wrong=wrong), count)
  return [(prompt, answer.split()) for prompt, answer in pairs]


def test_right_demonstrations_are_shortest_ways(task):
  for prompt, moves in demonstrated(task, 300, wrong=0.0):
    assert plain_walk(prompt, moves)[0]
    assert len(moves) == shortest(prompt)


def test_wrong_demonstrations_keep_off_walls_and_miss_the_goal(task):
  lengths = set()
  for prompt, moves in demonstrated(task, 2000, wrong=1.0):
    lengths.add(len(moves))
    rows = rows_of(prompt)
    places = [find(rows, "S")]
    for move in moves:
      places.append(tuple(a + b for a, b in zip(places[-1], STEPS[move])))
    assert all(min(place) >= 0 for place in places)
    cells = [rows[r][c] for r, c in places]
    assert cells[0] == "S" and set(cells[1:]) <= {"."}
    assert len(set(places)) == len(places)
  assert lengths == set(range(1, 13))


def test_the_fraction_of_wrong_demonstrations(task):
  """Binomial(4000, .3): within five standard deviations."""
  pairs = demonstrated(task, 4000, wrong=0.3)
  wrong = sum(not plain_walk(*pair)[0] for pair in pairs)
  assert abs(wrong - 1200) < 5 * (4000 * 0.3 * 0.7) ** 0.5


def test_held_out_mazes_are_never_demonstrated():
  """Of 520 mazes 20 are held out, and all others are shown."""
  options = {"walls": 0.0, "detours": False, "num_train": 500, "num_test": 20}
  task = mazes.Mazes(**options)
  shown = {prompt for prompt, _ in demonstrated(task, 8_000, wrong=0.5)}
  assert shown == {p.prompt for p in task.problems("train")}


def test_the_seed_fixes_the_demonstrations(task):
  first = demonstrated(task, 50, wrong=0.5)
  assert demonstrated(mazes.Mazes(), 50, wrong=0.5) == first
  assert demonstrated(task, 50, wrong=0.5, seed=1) != first


def test_a_shortest_way_is_any_of_them():
  """Without walls, all C(4, 2) between two corners occur."""
  maze = problem_of("S . . / . . . / . . G").data
  rng = random.Random(0)
  ways = {tuple(mazes._shortest_way(maze, rng)) for _ in range(300)}
  assert ways == set(itertools.permutations("DDRR"))


def test_pass_at_k_means_the_goal_and_max_at_k_the_reward(task):
  walks = [["R R D D L", "R R D D", "R", "R R"]]
  rewards, valid = task.grade_batch([problem_of(SMALL)], walks)
  found = rollout_metrics.curves(rewards, valid, (1, 4), binary=False)
  np.testing.assert_allclose(found["pass"].mean, [1 / 4, 1])
  np.testing.assert_allclose(found["max"].mean, [(1 + 1 / 3 + 1 / 6) / 4, 1])


def test_the_config_fits_the_task():
  """Nothing is dropped or cut off, and no limit is larger than it must be."""
  options = config.get_config()
  data = build_run.load_data(options)
  assert not any(data.dropped.values())
  lengths = {
    len(data.tokenizer.encode(p.prompt)) for p in all_problems(data.task)
  }
  assert lengths == {options.max_prompt_tokens}
  assert data.task.max_answer_words + 1 == options.max_new_tokens


def test_lengths_of_ways_in_the_config_vary(task):
  counts = collections.Counter(p.tier for p in task.problems("train"))
  assert set(counts) >= {f"path={x}" for x in range(4, 10)}
