r"""Problems of your own, from a file with one JSON object on each line.

They need no class: a column is the prompt, a column is the reference answer,
and a grader compares. It is the one for mathematics, or a function of yours.
"""

import functools
import os
import pathlib
import random
from collections.abc import Sequence

from pkpo_jax.tasks import answer_task, base, records
from pkpo_jax.tasks.grading.latex import answers, references


class Jsonl(answer_task.AnswerTask):
  """Problems from one file, or from one to train on and one held out."""

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    test_path: str | os.PathLike[str] | None = None,
    grader: str = "math",
    prompt_column: str = "prompt",
    answer_column: str = "answer",
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int | None = None,
    instruction: str | None = None,
    timeout: float = 5.0,
    num_workers: int | None = None,
  ):
    r"""Reads the problems; tries a grader of your own on the first of them.

    Args:
      path: a file in UTF-8 with a JSON object on each line.
      test_path: such a file of held-out problems; None: `num_test` problems
        are drawn out of `path`.
      grader: "math", as for GSM8K and MATH; or "module:function", with the
        module in the current directory or installed. The function takes the
        reference answer and the completion, both text, and returns a reward
        or (reward, valid, reason). It runs in worker processes, each with
        1 GiB of memory, that should not import jax. If it raises or is late,
        the answer is wrong; if it returns anything else, the grade is invalid.
      prompt_column: where the prompts are.
      answer_column: where the reference answers are, text or numbers. For
        "math" a solution will do that ends in \boxed{...} or in #### and the
        answer.
      num_train: the first so many training problems; None: all.
      num_test: how many problems to draw; with a `test_path` the first so
        many, or all for None.
      seed: another seed, other problems are drawn; 0 by default.
      instruction: what the prompt says after the question; None: for "math"
        that the answer goes in a box, and nothing for a grader of yours.
      timeout: seconds for grading one answer; then it is wrong.
      num_workers: answers that are graded at a time; None: one for each
        processor core.

    Raises:
      FileNotFoundError: a file is absent.
      ValueError: a line cannot be read, a prompt occurs twice, no answer could
        equal a reference, an option is out of range, or the grader cannot be
        used.
    """
    is_math = grader == "math"
    if not is_math and ":" not in grader:
      raise ValueError(
        f"Unknown grader={grader!r}; known: 'math', or your own"
        " 'module:function'."
      )
    if instruction is None:
      instruction = answer_task.INSTRUCTION if is_math else ""
    read = functools.partial(
      _problems,
      columns=(prompt_column, answer_column),
      instruction=instruction,
      is_math=is_math,
      places={},
    )
    if test_path is None:
      train, test = _draw(read(path, "jsonl"), num_test, seed or 0)
    elif seed is not None:
      raise ValueError(
        f"seed={seed} has no effect with a test_path, from which nothing is"
        " drawn; leave it out."
      )
    else:
      train, test = read(path, "jsonl/train"), read(test_path, "jsonl/test")
    splits = {
      "train": answer_task.first(train, num_train=num_train),
      "test": answer_task.first(test, num_test=num_test),
    }
    super().__init__(
      splits,
      few_shot=0,
      timeout=timeout,
      num_workers=num_workers,
      grader=answer_task.LATEX_GRADER if is_math else grader,
    )
    if not is_math:
      self._pool.check((train[0].data, train[0].data))


def worked(
  path: str | os.PathLike[str],
  *,
  prompt_column: str = "prompt",
  answer_column: str = "answer",
  solution_column: str = "solution",
) -> list[answer_task.Worked]:
  """The problems of a file with their solutions, where it has some."""
  columns = prompt_column, answer_column
  found = []
  for where, record in records.read(pathlib.Path(path)):
    _check_columns(record, where, columns)
    answer = records.text_or_number(record, answer_column, where)
    gold = _final_answer(answer, where)
    own = record.get(solution_column) or (answer if answer != gold else "")
    question = records.text(record, prompt_column, where)
    found.append(answer_task.Worked(where, question, str(own), gold))
  return found


def _draw(
  problems: Sequence[base.Problem], num_test: int | None, seed: int
) -> tuple[list[base.Problem], list[base.Problem]]:
  """Training and held-out problems, both in the order of the file."""
  if num_test is None:
    raise ValueError(
      "Which problems are held out? Give test_path, a file of them, or"
      " num_test to draw so many out of path."
    )
  if not 1 <= num_test < len(problems):
    raise ValueError(f"num_test={num_test} is not in 1..{len(problems) - 1}.")
  drawn = {*random.Random(seed).sample(range(len(problems)), num_test)}
  return (
    [p for i, p in enumerate(problems) if i not in drawn],
    [p for i, p in enumerate(problems) if i in drawn],
  )


def _problems(
  path: str | os.PathLike[str],
  ids: str,
  *,
  columns: tuple[str, str],
  instruction: str,
  is_math: bool,
  places: dict[str, str],
) -> list[base.Problem]:
  """The problems of a file; their ids end in the numbers of their lines."""
  found = _read(pathlib.Path(path), columns, places)
  golds = {
    where: _final_answer(answer, where) if is_math else answer
    for where, _, answer in found
  }
  if is_math:
    references.check(golds.items())
  return [
    base.Problem(
      id=f"{ids}/{where.rpartition(' ')[2]}",
      prompt=answer_task.prompt(question, instruction),
      tier="jsonl",
      data=golds[where],
      question=question.strip() if is_math else "",
    )
    for where, question, _ in found
  ]


def _read(
  file: pathlib.Path, columns: tuple[str, str], places: dict[str, str]
) -> list[tuple[str, str, str]]:
  """(where that is, question, answer) of each problem of a file.

  `places` says where each question was read, and gets those of this file: one
  that is read twice could be both trained on and held out.
  """
  found = []
  for where, record in records.read(file):
    _check_columns(record, where, columns)
    question = records.text(record, columns[0], where)
    answer = records.text_or_number(record, columns[1], where)
    key = records.key(record, columns[0])
    if (first := places.setdefault(key, where)) != where:
      raise ValueError(f"{where}: the prompt of {first} again; remove one.")
    found.append((where, question, answer))
  return found


def _check_columns(
  record: records.Record, where: str, columns: tuple[str, str]
) -> None:
  for option, column in zip(("prompt_column", "answer_column"), columns):
    if column not in record:
      raise ValueError(
        f"{where}: there is no {column!r}, but {', '.join(map(repr, record))};"
        f" {option} says which to take."
      )


def _final_answer(answer: str, where: str) -> str:
  r"""The reference for the math grader: an answer, or that of a solution.

  Raises:
    ValueError: it is a solution without an answer.
  """
  if "####" not in answer and answers.boxed(answer) is None:
    return answer
  final = answers.final_answer(answer)
  if not final:
    raise ValueError(references.refusal(where, answer, "no answer"))
  return final
