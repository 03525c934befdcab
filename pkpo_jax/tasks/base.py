"""What a task is: problems, and grades for answers to them. No model here."""

import dataclasses
from collections.abc import Iterator, Sequence
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
  """

  id: str
  prompt: str
  tier: str
  data: Any


class Grade(NamedTuple):
  """What an answer is worth.

  Attributes:
    reward: higher is better; 1 for a right answer where rewards are 0/1.
    valid: False if the grading itself failed; the answer is then left out of
      all estimates. An answer that cannot be read is wrong, not invalid.
    reason: in a few words, for logs and for counting.
  """

  reward: float
  valid: bool
  reason: str


class Task(Protocol):
  """A source of problems with a grader."""

  def problems(self, split: str) -> Sequence[Problem]:
    """All problems of "train" or "test", in a fixed order."""

  def grade(self, problem: Problem, completion: str) -> Grade:
    """Grades one answer, given as text."""

  def grade_batch(
    self, problems: Sequence[Problem], completions: Sequence[Sequence[str]]
  ) -> tuple[np.ndarray, np.ndarray]:
    """n answers to each of B problems -> rewards, valid; [B, n] each."""


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


def grade_one_by_one(
  task: Task,
  problems: Sequence[Problem],
  completions: Sequence[Sequence[str]],
) -> tuple[np.ndarray, np.ndarray]:
  """`grade_batch` in this process, for graders that take microseconds."""
  grades = [
    [task.grade(problem, completion) for completion in row]
    for problem, row in zip(problems, completions, strict=True)
  ]
  rewards = np.array([[g.reward for g in row] for row in grades], np.float32)
  valid = np.array([[g.valid for g in row] for row in grades], bool)
  return rewards, valid
