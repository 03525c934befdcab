r"""Tasks with a reference answer for each problem, most in a \boxed{...}."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pkpo_jax.tasks import base
from pkpo_jax.tasks.grading.workers import pool

INSTRUCTION = (
  "Reason step by step. Put the final answer, and nothing else, in \\boxed{}."
)
# How base models, after their answer, go on with a problem of their own.
NEXT_PROBLEM = (
  "\nQuestion:",
  "\nProblem:",
  "\nQ:",
  "\n\nQuestion",
  "\n\nProblem",
  "\n\nExercise",
  "\n\n**Question",
  "\n\n**Problem",
)
LATEX_GRADER = "pkpo_jax.tasks.grading.latex.equality:grade"


class Worked(NamedTuple):
  """A problem of the data with its solution, to check a grader on.

  Attributes:
    where: the place in the data.
    question: as it is asked.
    solution: text that ends in the answer; "" if the data have none.
    answer: the reference.
  """

  where: str
  question: str
  solution: str
  answer: str


class AnswerTask(base.BaseTask):
  """Problems with a reference answer each; worker processes grade them.

  `Problem.data` is the reference answer; the grader for LaTeX gets the
  `Problem.question`, too. The workers start with the first
  answer to be graded, or with `start`.
  """

  def __init__(
    self,
    splits: Mapping[str, Sequence[base.Problem]],
    *,
    few_shot: int,
    timeout: float,
    num_workers: int | None,
    grader: str = LATEX_GRADER,
  ):
    """Takes the problems of "train" and "test".

    Args:
      splits: by name.
      few_shot: how many worked examples their prompts have; with some, a
        completion ends where it asks itself a new question (`stop`).
      timeout: seconds for grading one answer; then it is wrong.
      num_workers: answers that are graded at a time; None: one for each
        processor core.
      grader: "module:function" that grades (reference answer, completion), see
        `pool.Pool`.
    """
    super().__init__(splits)
    self.stop = NEXT_PROBLEM if few_shot else ()
    self.binary_rewards = grader == LATEX_GRADER
    self._sees_question = grader == LATEX_GRADER
    if num_workers is None:
      num_workers = os.cpu_count() or 1
    self._pool = pool.Pool(grader, timeout=timeout, num_workers=num_workers)

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """Grades one answer; by default, 1 for the right one however written."""
    return self._pool.grade([self._item(problem, completion)])[0]

  def grades(
    self,
    problems: Sequence[base.Problem],
    completions: Sequence[Sequence[str]],
  ) -> list[list[base.Grade]]:
    """Grades n answers to each of B problems, several at a time; [B][n]."""
    items = [
      self._item(problem, completion)
      for problem, row in zip(problems, completions, strict=True)
      for completion in row
    ]
    grades = iter(self._pool.grade(items))
    return [[next(grades) for _ in row] for row in completions]

  def start(self) -> None:
    """Starts the workers without waiting for them."""
    self._pool.start()

  def close(self) -> None:
    """Ends the workers."""
    self._pool.close()

  def _item(self, problem: base.Problem, completion: str) -> tuple[str, ...]:
    """What the grader gets; ours sees the question, to know copies of it."""
    item = problem.data, self._own(completion)
    return (*item, problem.question) if self._sees_question else item

  def _own(self, completion: str) -> str:
    """The part of a completion that answers the problem."""
    return base.text_before(completion, self.stop)


def prompt(question: str, instruction: str, shots: Sequence[str] = ()) -> str:
  """The question, and what to do with it; after worked examples, if any."""
  if not shots:
    return "\n\n".join(filter(None, (question.strip(), instruction)))
  asked = f"Question: {question.strip()}\nAnswer:"
  return "\n\n".join(filter(None, (instruction, *shots, asked)))


def shot(question: str, solution: str, answer: str) -> str:
  """A worked example."""
  return (
    f"Question: {question.strip()}\nAnswer: {solution.strip()}\n"
    f"The final answer is \\boxed{{{answer}}}."
  )


def check_few_shot(few_shot: int, num_train: int) -> None:
  """Raises ValueError unless some training problems are left."""
  if not 0 <= few_shot < num_train:
    raise ValueError(f"few_shot={few_shot} is not in 0..{num_train - 1}.")


def first(
  problems: Sequence[base.Problem], **count: int | None
) -> Sequence[base.Problem]:
  """The first so many problems, or all for None; the count by its name.

  Raises:
    ValueError: there are fewer, or the count is below 1.
  """
  ((name, number),) = count.items()
  if number is None:
    return problems
  if not 1 <= number <= len(problems):
    raise ValueError(f"{name}={number} is not in 1..{len(problems)}.")
  return problems[:number]
