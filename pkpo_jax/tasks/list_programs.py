"""List programs: find a short program from examples of what it does.

A prompt `3 1 4 > 5 2 4 ; 9 0 2 > 3 1 0 ; ...` shows what a program does to
lists of three digits. The answer is a program, words that are applied from left
to right: `rev inc`. Its reward is the fraction of hidden lists that it gets
right: a program that is nearly right often earns something.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pkpo_jax.tasks import base

# Each maps [N, 3] digits to as many.
PRIMITIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "rev": lambda x: x[:, ::-1],
  "rot": lambda x: np.roll(x, -1, axis=1),  # the first becomes the last
  "sort": lambda x: np.sort(x, axis=1),
  "max": lambda x: np.maximum.accumulate(x, axis=1),  # of all so far
  "min": lambda x: np.minimum.accumulate(x, axis=1),
  "inc": lambda x: (x + 1) % 10,
  "dec": lambda x: (x - 1) % 10,
  "dbl": lambda x: 2 * x % 10,
  "half": lambda x: x // 2,
}

RIGHT = base.Grade(1.0, True, "right")

_LISTS = np.array(list(itertools.product(range(10), repeat=3)), np.int8)
_MOST_WORDS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Behaviour:
  """What one or several programs do.

  Attributes:
    outputs: [1000, 3] int8, for each of the lists.
    programs: the shortest that do it.
  """

  outputs: np.ndarray
  programs: list[tuple[str, ...]]


class ListPrograms(base.BaseTask):
  """List programs, fixed by their seed; a tier is a shortest length.

  Attributes:
    words: all words of prompts and answers, for a tokenizer.
    max_answer_words: the longest program that is read, in words.
  """

  def __init__(
    self,
    *,
    max_words: int = 3,
    num_shown: int = 3,
    num_hidden: int = 8,
    held_out: float = 0.2,
    num_train: int = 1024,
    num_test: int = 128,
    seed: int = 0,
  ):
    """Splits the behaviours and draws the problems.

    Programs with the same outputs for all lists are one behaviour. A behaviour
    is used if no shorter program, the empty one included, has its outputs for
    more than half of the lists. No problem or demonstration of the training
    split has a held-out behaviour, and the problems of a split take turns among
    its behaviours.

    Args:
      max_words: the longest programs, 1..3 words.
      num_shown: how many examples a prompt has; no program shorter than the
        sought one explains them all.
      num_hidden: how many other lists an answer is graded on.
      held_out: the fraction of the behaviours, of each length, that only test
        problems have.
      num_train: how many training problems.
      num_test: how many held-out problems.
      seed: another seed, another split and other problems.
    """
    if not 1 <= max_words <= _MOST_WORDS:
      raise ValueError(f"max_words={max_words} must be 1..{_MOST_WORDS}.")
    if not 2 <= num_shown <= 8 or not 1 <= num_hidden <= 100:
      raise ValueError(
        f"num_shown={num_shown} must be 2..8, num_hidden={num_hidden} 1..100."
      )
    if num_train < 1 or num_test < 1:
      raise ValueError(
        f"num_train={num_train} and num_test={num_test} must be at least 1."
      )
    self.words = (*map(str, range(10)), *PRIMITIVES, ">", ";")
    self.max_answer_words = max_words
    self._num_shown, self._num_hidden = num_shown, num_hidden
    rng = random.Random(seed)
    lengths = behaviours(max_words)
    self._shorter = _shorter(lengths)
    train, test = split(distinct(lengths), held_out, rng)
    self._train = train
    super().__init__(
      {
        "train": self._problems(train, num_train, rng),
        "test": self._problems(test, num_test, rng),
      }
    )

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """The fraction of the hidden lists that the program gets right."""
    words = completion.split()
    if not 1 <= len(words) <= self.max_answer_words:
      return base.Grade(0.0, True, "malformed")
    if not PRIMITIVES.keys() >= set(words):
      return base.Grade(0.0, True, "malformed")
    inputs, outputs = (np.array(lists, np.int8) for lists in problem.data)
    fraction = np.mean((run(words, inputs) == outputs).all(axis=1))
    if fraction == 1:
      return RIGHT
    reason = "partly right" if fraction else "wrong"
    return base.Grade(float(fraction), True, reason)

  def demonstrations(
    self, seed: int, *, wrong: float
  ) -> Iterator[tuple[str, str]]:
    """Endless (prompt, program) pairs to pretrain on, of training behaviours.

    Args:
      seed: fixes the sequence.
      wrong: in this fraction of the pairs the program is one of a behaviour
        drawn anew, most likely another one. This keeps a base policy diverse
        and far from solving the task.
    """
    rng = random.Random(seed)
    while True:
      shown = answered = rng.choice(self._train)
      if rng.random() < wrong:
        answered = rng.choice(self._train)
      rows = self._draw(rng, shown)[: self._num_shown]
      yield _prompt(shown, rows), " ".join(rng.choice(answered.programs))

  def _problems(
    self, some: Sequence[Behaviour], count: int, rng: random.Random
  ) -> list[base.Problem]:
    """`count` problems; the behaviours take turns, in random order."""
    some = rng.sample(some, len(some))
    return [
      self._problem(i, behaviour, rng)
      for i, behaviour in zip(range(count), itertools.cycle(some))
    ]

  def _problem(
    self, number: int, behaviour: Behaviour, rng: random.Random
  ) -> base.Problem:
    rows = self._draw(rng, behaviour)
    shown, hidden = rows[: self._num_shown], rows[self._num_shown :]
    program = behaviour.programs[0]
    data = (_tuples(_LISTS[hidden]), _tuples(behaviour.outputs[hidden]))
    return base.Problem(
      id=f"{' '.join(program)}/{number}",
      prompt=_prompt(behaviour, shown),
      tier=f"words={len(program)}",
      data=data,
    )

  def _draw(self, rng: random.Random, behaviour: Behaviour) -> list[int]:
    """Rows of different lists: those to show, then those to hide."""
    shorter = self._shorter[len(behaviour.programs[0])]
    while True:
      rows = rng.sample(range(len(_LISTS)), self._num_shown + self._num_hidden)
      shown = rows[: self._num_shown]
      explain = (shorter[:, shown] == behaviour.outputs[shown]).all(axis=(1, 2))
      if not explain.any():
        return rows


def run(program: Sequence[str], lists: np.ndarray) -> np.ndarray:
  """Applies the words, from left to right, to N lists [N, 3]."""
  for word in program:
    lists = PRIMITIVES[word](lists)
  return lists


def behaviours(max_words: int) -> list[list[Behaviour]]:
  """All behaviours, by the length of their shortest programs: 0, 1, ..."""
  known: set[bytes] = set()
  lengths = []
  for length in range(max_words + 1):
    found: dict[bytes, Behaviour] = {}
    for program in itertools.product(PRIMITIVES, repeat=length):
      outputs = run(program, _LISTS)
      key = outputs.tobytes()
      if key not in known:
        found.setdefault(key, Behaviour(outputs, [])).programs.append(program)
    known |= found.keys()
    lengths.append(list(found.values()))
  return lengths


def distinct(lengths: list[list[Behaviour]]) -> list[list[Behaviour]]:
  """Keeps what differs from all that is shorter for half of the lists."""

  def agreement(some: Behaviour, shorter: np.ndarray) -> float:
    equal = (shorter == some.outputs).all(axis=2)  # [behaviours, lists]
    return equal.mean(axis=1).max()

  shorter = _shorter(lengths)
  return [
    [b for b in some if agreement(b, shorter[length]) <= 0.5]
    for length, some in enumerate(lengths[1:], 1)
  ]


def split(
  lengths: Sequence[Sequence[Behaviour]], held_out: float, rng: random.Random
) -> tuple[list[Behaviour], list[Behaviour]]:
  """Training and held-out behaviours, a fraction `held_out` of each length."""
  train, test = list[Behaviour](), list[Behaviour]()
  for some in lengths:
    some = rng.sample(some, len(some))
    count = round(held_out * len(some))
    if not 0 < count < len(some):
      raise ValueError(
        f"held_out={held_out} of {len(some)} behaviours of"
        f" {len(some[0].programs[0])} words leaves a split empty."
      )
    test += some[:count]
    train += some[count:]
  return train, test


def _shorter(lengths: Sequence[Sequence[Behaviour]]) -> dict[int, np.ndarray]:
  """Length -> the outputs of all behaviours that need fewer words."""
  outputs = [b.outputs for some in lengths for b in some]
  counts = itertools.accumulate(len(some) for some in lengths)
  return {
    length: np.stack(outputs[:count])
    for length, count in zip(range(1, len(lengths)), counts)
  }


def _prompt(behaviour: Behaviour, rows: Sequence[int]) -> str:
  return " ; ".join(
    f"{_text(_LISTS[row])} > {_text(behaviour.outputs[row])}" for row in rows
  )


def _text(digits: np.ndarray) -> str:
  return " ".join(map(str, digits.tolist()))


def _tuples(lists: np.ndarray) -> tuple[tuple[int, ...], ...]:
  return tuple(map(tuple, lists.tolist()))
