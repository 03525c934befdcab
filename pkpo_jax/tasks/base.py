"""What a task is: problems, and grades for answers to them. No model here."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Problem:
  """One problem.

  Attributes:
    id: unique within the task, the same in every run.
    prompt: what the model is asked.
    tier: difficulty in words, such as "m=4".
    data: what grading needs.
    question: the prompt without instruction and worked examples, where the
      grader must see it.
  """

  id: str
  prompt: str
  tier: str
  data: Any
  question: str = ""


class Grade(NamedTuple):
  """What an answer is worth.

  Attributes:
    reward: higher is better; 1 for a right answer where rewards are 0/1.
    valid: False if the grading itself failed; the answer is then left out of
      all estimates. An answer that cannot be read is wrong, not invalid.
    reason: in a few words, for logs and for counting: "timeout". What follows
      a colon is not counted apart: "no worker: disk full".
  """

  reward: float
  valid: bool
  reason: str


class Task(Protocol):
  """A source of problems with a grader.

  It may have the attributes `binary_rewards` and `stop`, see `BaseTask`.
  """

  def problems(self, split: str) -> Sequence[Problem]:
    """All problems of "train" or "test", in a fixed order."""

  def grade(self, problem: Problem, completion: str) -> Grade:
    """Grades one answer, given as text."""

  def grades(
    self, problems: Sequence[Problem], completions: Sequence[Sequence[str]]
  ) -> list[list[Grade]]:
    """Grades n answers to each of B problems; [B][n].

    A grade may depend on its own answer alone: several processes share the
    answers to a problem, and then rows have different lengths.
    """

  def grade_batch(
    self, problems: Sequence[Problem], completions: Sequence[Sequence[str]]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Rewards, float32, and valid, bool, of `grades`; [B, n] each."""

  def start(self) -> None:
    """Makes ready to grade, without waiting for it."""

  def close(self) -> None:
    """Ends what grading started."""


@runtime_checkable
class WordTask(Task, Protocol):
  """A task with a small vocabulary of its own and answers to learn from.

  Attributes:
    words: all words of prompts and answers.
    max_answer_words: the longest demonstrated answer, in words.
  """

  words: tuple[str, ...]
  max_answer_words: int

  def demonstrations(
    self, seed: int, *, wrong: float
  ) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs; a fraction `wrong` do not match."""


def rewards_and_valid(
  grades: Sequence[Sequence[Grade]], problems: Sequence[Problem]
) -> tuple[np.ndarray, np.ndarray]:
  """Grades [B][n] of B problems -> rewards, float32, and valid, bool; [B, n].

  Raises:
    ValueError: as `check_rewards`.
  """
  rewards = np.array([[g.reward for g in row] for row in grades], float)
  valid = np.array([[g.valid for g in row] for row in grades], bool)
  check_rewards(rewards, valid, [problem.id for problem in problems])
  with np.errstate(over="ignore"):  # in what is not valid
    return rewards.astype(np.float32), valid


def check_rewards(
  rewards: np.ndarray, valid: np.ndarray, ids: Sequence[str] = ()
) -> None:
  """Stops at a broken grader, which must not vanish from averages.

  Args:
    rewards: [B, n], real numbers of any type.
    valid: [B, n] bool.
    ids: of the problems, for the message; without them it has their numbers.

  Raises:
    ValueError: a reward is called valid and is not finite in float32; names
      the problem and the sample.
  """
  # Not isfinite: a comparison with NaN is false too, and integers pass.
  finite = abs(np.asarray(rewards, float)) <= np.finfo(np.float32).max
  broken = np.argwhere(np.asarray(valid) & ~finite)
  if len(broken):
    row, sample = broken[0]
    name = ids[row] if ids else int(row)
    raise ValueError(
      f"Sample {sample} of problem {name!r} has reward"
      f" {float(rewards[row][sample])}, not finite in float32, and is called"
      " valid; a grader that fails must return valid=False."
    )


def has_binary_rewards(task: Task) -> bool:
  """Whether a task says so; one without a word on it does not."""
  return bool(getattr(task, "binary_rewards", False))


def stop_strings(task: Task) -> tuple[str, ...]:
  """The strings at which answers to a task end, by its own word."""
  return tuple(getattr(task, "stop", ()))


def text_before(text: str, stop: Sequence[str]) -> str:
  """The text up to the first of the stop strings; all of it without one."""
  return min((text.partition(s)[0] for s in stop), key=len, default=text)


class BaseTask:
  """The part of a `Task` that most tasks share: all but `grade`.

  Attributes:
    binary_rewards: whether every reward is 0 or 1. Then max@k is pass@k, and
      metrics have the latter alone.
    stop: strings that end an answer. A completion ends with the token that
      completes one, and is graded up to it.
  """

  binary_rewards: bool = False
  stop: tuple[str, ...] = ()

  def __init__(self, splits: Mapping[str, Sequence[Problem]]):
    """Takes the problems of each split, by its name."""
    self._splits = dict(splits)

  def problems(self, split: str) -> Sequence[Problem]:
    """All problems of a split, in a fixed order.

    Raises:
      ValueError: there is no such split.
    """
    if split not in self._splits:
      known = ", ".join(self._splits)
      raise ValueError(f"Unknown split {split!r}; known: {known}.")
    return self._splits[split]

  def grade(self, problem: Problem, completion: str) -> Grade:
    """Grades one answer, given as text; a subclass says how."""
    raise NotImplementedError(f"{type(self).__name__} has no method grade.")

  def grades(
    self, problems: Sequence[Problem], completions: Sequence[Sequence[str]]
  ) -> list[list[Grade]]:
    """Grades n answers to each of B problems, one by one; [B][n].

    A subclass whose grader is slow overrides this to grade several at a time.

    Raises:
      ValueError: there are not as many rows of answers as problems.
    """
    return [
      [self.grade(problem, completion) for completion in row]
      for problem, row in zip(problems, completions, strict=True)
    ]

  def grade_batch(
    self, problems: Sequence[Problem], completions: Sequence[Sequence[str]]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Rewards, float32, and valid, bool, of `grades`; [B, n] each.

    Raises:
      ValueError: as `grades` and `check_rewards`.
    """
    grades = self.grades(problems, completions)
    return rewards_and_valid(grades, problems)

  def start(self) -> None:
    """Has nothing to make ready, unless a subclass has."""

  def close(self) -> None:
    """Has nothing to end, unless a subclass has."""
