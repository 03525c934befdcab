"""Countdown in reverse Polish notation: hit a target with given numbers.

A prompt `3 5 7 = 22` asks for a postfix expression in + - * that uses every
number exactly once and has the value 22: `3 5 * 7 +`. m numbers make an answer
of 2m - 1 words. There are many right answers, and few are found by luck; m is
the difficulty.
"""

import operator
import random
from collections.abc import Iterator, Sequence

from pkpo_jax.tasks import base

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_LARGEST_NUMBER = 13
_LARGEST_TARGET = 100

RIGHT = base.Grade(1.0, True, "right")


class Countdown(base.BaseTask):
  """Countdown problems, fixed by their seed; all of them have a solution.

  Attributes:
    words: all words of prompts and answers, for a tokenizer.
    max_answer_words: the longest well-formed answer, in words.
    binary_rewards: True.
  """

  binary_rewards = True

  def __init__(
    self,
    *,
    numbers: Sequence[int] = (4, 5),
    num_train: int = 128,
    num_test: int = 128,
    seed: int = 0,
  ):
    """Draws the problems.

    Args:
      numbers: the values of m, each 2..6; problems take turns among them.
      num_train: how many training problems.
      num_test: how many held-out problems, all different from those.
      seed: another seed, other problems.
    """
    if not numbers or not all(2 <= m <= 6 for m in numbers):
      raise ValueError(f"numbers must be of 2..6, but are {numbers}.")
    if num_train < 1 or num_test < 1:
      raise ValueError(
        f"num_train={num_train} and num_test={num_test} must be at least 1."
      )
    self.words = (
      *(str(i) for i in range(1, _LARGEST_TARGET + 1)),
      *_OPERATORS,
      "=",
    )
    self.max_answer_words = 2 * max(numbers) - 1
    self._numbers = tuple(numbers)
    drawn = _draw_problems(self._numbers, num_train + num_test, seed)
    super().__init__({"train": drawn[:num_train], "test": drawn[num_train:]})

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """1 for a postfix expression of all the numbers that hits the target."""
    numbers, target = problem.data
    words = completion.split()
    value = evaluate(words)
    if value is None:
      return base.Grade(0.0, True, "malformed")
    if sorted(int(w) for w in words if w not in _OPERATORS) != sorted(numbers):
      return base.Grade(0.0, True, "wrong numbers")
    if value != target:
      return base.Grade(0.0, True, "wrong value")
    return RIGHT

  def demonstrations(
    self, seed: int, *, wrong: float
  ) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs to pretrain on, none of them held out.

    Args:
      seed: fixes the sequence.
      wrong: in this fraction of the pairs the target is a random one. The
        answer is then well-formed but most likely wrong, which keeps a base
        policy diverse and far from solving the task.
    """
    rng = random.Random(seed)
    held_out = {_identity(*p.data) for p in self.problems("test")}
    while True:
      numbers, answer, target = _draw(rng, rng.choice(self._numbers))
      if rng.random() < wrong:
        target = rng.randint(1, _LARGEST_TARGET)
      if _identity(numbers, target) not in held_out:
        yield _prompt(numbers, target), answer


def evaluate(words: Sequence[str]) -> int | None:
  """The value of a postfix expression, or None if it is not one."""
  stack: list[int] = []
  for word in words:
    if word in _OPERATORS:
      if len(stack) < 2:
        return None
      right, left = stack.pop(), stack.pop()
      stack.append(_OPERATORS[word](left, right))
    elif word.isascii() and word.isdigit() and len(word) <= 3:
      stack.append(int(word))
    else:
      return None
  return stack[0] if len(stack) == 1 else None


def _prompt(numbers: Sequence[int], target: int) -> str:
  return f"{' '.join(map(str, numbers))} = {target}"


def _identity(numbers: Sequence[int], target: int) -> tuple[int, ...]:
  """The same for problems that differ in the order of their numbers alone."""
  return *sorted(numbers), target


def _draw(rng: random.Random, m: int) -> tuple[list[int], str, int]:
  """m numbers, a random expression of them, and its value in 1..100."""
  while True:
    numbers = [rng.randint(1, _LARGEST_NUMBER) for _ in range(m)]
    parts = [str(x) for x in numbers]
    while len(parts) > 1:
      left = parts.pop(rng.randrange(len(parts)))
      right = parts.pop(rng.randrange(len(parts)))
      parts.append(f"{left} {right} {rng.choice('+-*')}")
    value = evaluate(parts[0].split())
    if value is not None and 1 <= value <= _LARGEST_TARGET:
      return numbers, parts[0], value


def _draw_problems(
  numbers: Sequence[int], count: int, seed: int
) -> list[base.Problem]:
  """`count` different problems; the values of m take turns."""
  rng = random.Random(seed)
  found: dict[tuple, base.Problem] = {}
  in_vain = 0
  while len(found) < count:
    if in_vain == 10_000:
      raise ValueError(
        f"There are too few different problems of numbers={tuple(numbers)} for"
        f" num_train + num_test = {count}: found {len(found)}."
      )
    m = numbers[len(found) % len(numbers)]
    given, _, target = _draw(rng, m)
    identity = _identity(given, target)
    prompt = _prompt(given, target)
    problem = base.Problem(prompt, prompt, f"m={m}", (tuple(given), target))
    in_vain = in_vain + 1 if identity in found else 0
    found.setdefault(identity, problem)
  return list(found.values())
