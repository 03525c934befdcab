"""pkpo_jax.tasks and Countdown against Python's own arithmetic."""

import itertools
import random
import time

import numpy as np
import pytest

from pkpo_jax import tasks
from pkpo_jax.tasks import base, countdown


def problem_of(prompt):
  """A problem from its prompt alone."""
  numbers, target = prompt.split(" = ")
  data = (tuple(map(int, numbers.split())), int(target))
  return base.Problem(prompt, prompt, "", data)


def to_infix(words):
  """Postfix -> infix in brackets, read from the right; None if malformed."""
  words = list(words)

  def operand():
    word = words.pop()
    if word not in ("+", "-", "*"):
      return word
    right = operand()
    return f"({operand()} {word} {right})"

  try:
    infix = operand()
  except IndexError:
    return None
  return None if words else infix


def reachable(numbers):
  """Every value of an expression that uses all the numbers once."""
  if len(numbers) == 1:
    return set(numbers)
  values = set()
  rows = range(len(numbers))
  for size in range(1, len(numbers)):
    for chosen in itertools.combinations(rows, size):
      left = tuple(numbers[i] for i in chosen)
      right = tuple(numbers[i] for i in rows if i not in chosen)
      for a, b in itertools.product(reachable(left), reachable(right)):
        values |= {a + b, a - b, a * b}
  return values


def random_words(rng):
  """Often a postfix expression, else one with a word too many or too few."""
  numbers = rng.randrange(1, 7)
  words = [str(rng.randrange(0, 130)) for _ in range(numbers)]
  words += [rng.choice("+-*") for _ in range(numbers - rng.choice((1, 1, 0)))]
  if rng.random() < 0.5:
    rng.shuffle(words)
  return words


def test_evaluate_equals_pythons_value_of_the_infix_expression():
  rng = random.Random(0)
  outcomes = {True: 0, False: 0}
  for _ in range(5_000):
    words = random_words(rng)
    infix = to_infix(words)
    expected = None if infix is None else eval(infix)
    assert countdown.evaluate(words) == expected, words
    outcomes[infix is None] += 1
  assert min(outcomes.values()) > 1_000


@pytest.mark.parametrize(
  ("answer", "reward", "reason"),
  [
    ("3 5 * 7 +", 1, "right"),
    ("7 3 5 * +", 1, "right"),
    ("  3\t5 *\n7 + ", 1, "right"),
    ("3 5 7 * -", 0, "wrong value"),
    ("3 5 + 7 +", 0, "wrong value"),
    ("11 2 *", 0, "wrong numbers"),
    ("22", 0, "wrong numbers"),
    ("3 5 * 7 + 0 +", 0, "wrong numbers"),
    ("3 5 * 7 + 3 + 3 -", 0, "wrong numbers"),
    ("3 3 5 * 4 + +", 0, "wrong numbers"),
    ("3 5 * 7", 0, "malformed"),
    ("3 5 * +", 0, "malformed"),
    ("3 5 * 7 + =", 0, "malformed"),
    ("3 * 5 + 7", 0, "malformed"),
    ("", 0, "malformed"),
  ],
)
def test_grades_with_their_reasons(answer, reward, reason):
  task = tasks.get_task("countdown", num_train=1, num_test=1)
  grade = task.grade(problem_of("3 5 7 = 22"), answer)
  assert grade == base.Grade(reward, True, reason)


def test_the_order_of_operands_matters_for_minus():
  task = tasks.get_task("countdown", num_train=1, num_test=1)
  problem = problem_of("9 4 = 5")
  assert task.grade(problem, "9 4 -").reward == 1
  assert task.grade(problem, "4 9 -").reason == "wrong value"


HOSTILE = {
  "long number": "9" * 1_000_000,
  "four digits": "0003 5 * 7 +",
  "many numbers": "3 " * 100_000,
  "many operators": "* " * 100_000,
  "huge product": "999 " * 50_000 + "* " * 49_999,
  "right, then more": "3 5 * 7 + " * 20_000,
  "fullwidth": "\uff13 5 * 7 +",
  "arabic": "\u0663 5 * 7 +",
  "superscript": "\u00b3 5 * 7 +",
  "times sign": "3 5 \u00d7 7 +",
  "hexadecimal": "0x3 5 * 7 +",
  "sign": "+3 5 * 7 +",
  "negative": "-3 -5 * 7 +",
  "point": "3.0 5 * 7 +",
  "exponent": "3e0 5 * 7 +",
  "underscore": "0_3 5 * 7 +",
  "infix": "3*5+7",
  "power": "3 5 7 ** **",
  "code": "__import__('os').system('true')",
  "zero byte": "3 5 * 7 +\x00",
  "special": "3 5 * 7 + <bos>",
  "not a number": "nan inf None True",
  "surrogate": "\ud800 5 * 7 +",
  "blanks": " \n\t " * 1_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_wrong_valid_and_fast(answer):
  task = tasks.get_task("countdown", num_train=1, num_test=1)
  start = time.perf_counter()
  grade = task.grade(problem_of("3 5 7 = 22"), answer)
  assert time.perf_counter() - start < 5
  assert (grade.reward, grade.valid) == (0, True)


def identity(problem):
  """Problems are the same if they differ in the order of numbers only."""
  numbers, target = problem.data
  return *sorted(numbers), target


@pytest.mark.parametrize("seed", range(5))
def test_every_problem_has_a_solution(seed):
  task = countdown.Countdown(
    numbers=(2, 3, 4), num_train=60, num_test=30, seed=seed
  )
  for problem in [*task.problems("train"), *task.problems("test")]:
    numbers, target = problem.data
    assert target in reachable(numbers), problem


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("numbers", [(3,), (4, 5), (6, 2, 4)])
def test_problems_differ_and_are_what_their_prompts_say(numbers, seed):
  task = countdown.Countdown(
    numbers=numbers, num_train=70, num_test=50, seed=seed
  )
  train, test = task.problems("train"), task.problems("test")
  assert (len(train), len(test)) == (70, 50)
  problems = [*train, *test]
  assert len({identity(p) for p in problems}) == 120
  assert len({p.id for p in problems}) == 120
  for problem in problems:
    given, target = problem.data
    assert problem_of(problem.prompt).data == problem.data
    assert problem.tier == f"m={len(given)}"
    assert all(1 <= x <= 13 for x in given)
    assert 1 <= target <= 100
    assert set(problem.prompt.split()) <= set(task.words)


def test_the_values_of_m_take_turns():
  task = countdown.Countdown(numbers=(4, 2, 5), num_train=7, num_test=5)
  problems = [*task.problems("train"), *task.problems("test")]
  sizes = [len(problem.data[0]) for problem in problems]
  assert sizes == [4, 2, 5] * 4


def test_the_seed_fixes_the_problems():
  def problems(seed):
    task = countdown.Countdown(num_train=20, num_test=20, seed=seed)
    return [*task.problems("train"), *task.problems("test")]

  assert problems(3) == problems(3)
  assert not set(map(identity, problems(3))) & set(map(identity, problems(4)))


def graded_demonstrations(task, count, wrong):
  pairs = itertools.islice(task.demonstrations(0, wrong=wrong), count)
  return [task.grade(problem_of(prompt), answer) for prompt, answer in pairs]


def test_demonstrations_are_right_unless_asked_otherwise():
  task = countdown.Countdown(numbers=(2, 4, 6))
  assert {g.reason for g in graded_demonstrations(task, 500, 0.0)} == {"right"}


def test_a_fraction_of_the_demonstrations_is_wrong():
  """A random target of 1..100 is the right one 1 time in 100."""
  count, wrong = 4_000, 0.3
  task = countdown.Countdown(numbers=(4, 5))
  grades = graded_demonstrations(task, count, wrong)
  assert {g.reason for g in grades} == {"right", "wrong value"}
  right = np.mean([g.reward for g in grades])
  expected = 1 - wrong + wrong / 100
  # Five standard errors.
  assert abs(right - expected) < 5 * (expected * (1 - expected) / count) ** 0.5


def test_demonstrations_are_in_the_vocabulary_and_of_every_size():
  task = countdown.Countdown(numbers=(2, 5))
  pairs = list(itertools.islice(task.demonstrations(7, wrong=0.3), 300))
  for prompt, answer in pairs:
    assert set(prompt.split()) | set(answer.split()) <= set(task.words)
  lengths = [len(answer.split()) for _, answer in pairs]
  assert set(lengths) == {3, 9}
  assert task.max_answer_words == 9
  again = task.demonstrations(7, wrong=0.3)
  assert pairs == list(itertools.islice(again, 300))
  other = task.demonstrations(8, wrong=0.3)
  assert pairs != list(itertools.islice(other, 300))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"numbers": ()}, "2..6"),
    ({"numbers": (1,)}, "2..6"),
    ({"numbers": (4, 7)}, "2..6"),
    ({"num_train": 0}, "num_train=0"),
    ({"num_test": 0}, "num_test=0"),
    ({"numbers": (2,), "num_train": 500}, "too few different problems"),
  ],
)
def test_options_out_of_range_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    countdown.Countdown(**options)


def test_all_different_problems_of_two_numbers_can_be_had():
  """Found by enumeration: asking for nearly all of them must not hang."""
  pairs = itertools.combinations_with_replacement(range(1, 14), 2)
  values = [reachable(pair) for pair in pairs]
  count = sum(1 <= value <= 100 for some in values for value in some)
  task = countdown.Countdown(numbers=(2,), num_train=count - 1, num_test=1)
  assert len({identity(p) for p in task.problems("train")}) == count - 1


def test_no_demonstration_is_of_a_held_out_problem():
  """Whatever the order of its numbers; without the check some would be."""
  task = countdown.Countdown(numbers=(2,), num_train=4, num_test=200)
  held_out = {(*sorted(p.data[0]), p.data[1]) for p in task.problems("test")}
  for prompt, _ in itertools.islice(task.demonstrations(0, wrong=0.3), 3000):
    numbers, target = prompt.split(" = ")
    identity = (*sorted(map(int, numbers.split())), int(target))
    assert identity not in held_out
