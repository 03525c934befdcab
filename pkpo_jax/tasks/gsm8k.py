r"""GSM8K: grade-school word problems whose answers are integers.

The data (MIT licence) are two files of the official repository,
openai/grade-school-math: train.jsonl and test.jsonl in the folder
grade_school_math/data.
"""

import os
import re
from collections.abc import Sequence

from pkpo_jax.tasks import answer_task, base, records

_WHERE = (
  "GSM8K is at github.com/openai/grade-school-math: copy train.jsonl and"
  " test.jsonl from its folder grade_school_math/data."
)
_ANNOTATION = re.compile(r"<<.*?>>")
_INTEGER = re.compile(r"-?\d+")


class GSM8K(answer_task.AnswerTask):
  """GSM8K, from a folder with its two files."""

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    num_train: int | None = None,
    num_test: int | None = None,
    few_shot: int = 0,
    instruction: str = answer_task.INSTRUCTION,
    timeout: float = 5.0,
    num_workers: int | None = None,
  ):
    """Reads the problems.

    Args:
      path: a folder with train.jsonl and test.jsonl, or gsm8k_train.jsonl and
        gsm8k_test.jsonl; or parquet files whose names start with train and
        test, or a data set that the library `datasets` saved to disk.
      num_train: the first so many training problems; None: all.
      num_test: the first so many test problems; None: all.
      few_shot: so many training problems come worked out before each question,
        for models that were not taught to follow instructions; they are not
        trained on. A completion then ends where it asks itself a new question.
      instruction: what the prompt says after the question.
      timeout: seconds for grading one answer; then it is wrong.
      num_workers: answers that are graded at a time; None: one for each
        processor core.

    Raises:
      FileNotFoundError: a file is absent.
      ValueError: a line cannot be read, many test problems are trained on,
        or an option is out of range.
    """
    placed = {split: _placed(path, split) for split in ("train", "test")}
    records.check_held_out(placed["train"], placed["test"], "question")
    found = {split: _problems(placed[split]) for split in placed}
    answer_task.check_few_shot(few_shot, len(found["train"]))
    shots = [
      # Without the calculator's annotations.
      answer_task.shot(question, _ANNOTATION.sub("", solution), answer)
      for question, solution, answer in found["train"][:few_shot]
    ]

    def problems(split: str) -> list[base.Problem]:
      return [
        base.Problem(
          id=f"gsm8k/{split}/{row}",
          prompt=answer_task.prompt(question, instruction, shots),
          tier=_tier(solution),
          data=answer,
          question=question.strip(),
        )
        for row, (question, solution, answer) in enumerate(found[split])
      ]

    train = answer_task.first(problems("train")[few_shot:], num_train=num_train)
    test = answer_task.first(problems("test"), num_test=num_test)
    super().__init__(
      {"train": train, "test": test},
      few_shot=few_shot,
      timeout=timeout,
      num_workers=num_workers,
    )


def worked(
  path: str | os.PathLike[str], split: str
) -> list[answer_task.Worked]:
  """The problems of a split with their solutions."""
  found = _placed(path, split)
  return [
    answer_task.Worked(
      f"{split} {row}", question, f"{solution}\n#### {answer}", answer
    )
    for row, (question, solution, answer) in enumerate(_problems(found))
  ]


def _placed(path: str | os.PathLike[str], split: str) -> list[records.Placed]:
  """Where each record of a split is, for errors, and the record."""
  files = records.find(path, split, prefix="gsm8k_")
  if not files:
    raise FileNotFoundError(
      f"There is no {split}.jsonl or gsm8k_{split}.jsonl in"
      f" {os.fspath(path)!r}, and no parquet or arrow file. {_WHERE}"
    )
  found = [placed for file in files for placed in records.read(file)]
  records.check_repeats(found, "question")
  return found


def _problems(
  found: Sequence[records.Placed],
) -> list[tuple[str, str, str]]:
  """(question, solution, answer) of each record."""
  return [_problem(where, record) for where, record in found]


def _problem(where: str, record: records.Record) -> tuple[str, str, str]:
  question = records.text(record, "question", where)
  solution, mark, answer = records.text(record, "answer", where).partition(
    "####"
  )
  answer = answer.strip().replace(",", "")
  if not (mark and _INTEGER.fullmatch(answer)):
    raise ValueError(
      f"{where}: the answer ends in {answer!r}, not in #### and an integer."
    )
  return question, solution.strip(), answer


def _tier(solution: str) -> str:
  """The number of reasoning steps, which stand on a line each."""
  steps = sum(bool(line.strip()) for line in solution.splitlines())
  return "1 step" if steps == 1 else f"{steps} steps"
