r"""MATH (Hendrycks et al. 2021), from the user's own copy.

The problems are not distributed with this package. The usual split of them for
training is that of Lightman et al. (2023): the 500 problems of MATH-500 are for
tests, the other 12,000 for training.
"""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from pkpo_jax.tasks import answer_task, base, records
from pkpo_jax.tasks.grading.latex import answers, references

_SPLITS = ("train", "test")
_LAYOUTS = (
  "train.jsonl and test.jsonl; train/<subject>/<number>.json and"
  " test/<subject>/<number>.json, as published; a data set that the Hugging"
  " Face library datasets saved to disk; or parquet files whose names start"
  " with train and test"
)
_MATH_500 = (12_000, 500)
# Published data have a few odd references; a wrong field has many.
_UNREADABLE = 0.01


class Math(answer_task.AnswerTask):
  """MATH, from a folder."""

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    split: str = "math500",
    test_ids: str | os.PathLike[str] | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    few_shot: int = 0,
    instruction: str = answer_task.INSTRUCTION,
    timeout: float = 5.0,
    num_workers: int | None = None,
  ):
    """Reads the problems.

    Args:
      path: a folder with train.jsonl and test.jsonl; or with the published
        train/<subject>/<number>.json and test/...; or a data set that the
        library `datasets` saved to disk; or parquet files whose names start
        with train and test. Each record has `problem`, `level`, and `answer` or
        a `solution` with the answer in a box.
      split: "math500" holds out the 500 problems of MATH-500 and trains on
        the others; "published" keeps the 7,500 and 5,000 problems of the data.
      test_ids: a file that lists the problems to hold out, which "math500"
        needs unless the data already come as 12,000 and 500: MATH-500's own
        test.jsonl, or one id such as test/algebra/2036.json on each line.
      num_train: the first so many training problems; None: all.
      num_test: the first so many test problems; None: all.
      few_shot: so many training problems come worked out before each question,
        for models that were not taught to follow instructions; they are not
        trained on, and need a `solution`.
      instruction: what the prompt says after the question.
      timeout: seconds for grading one answer; then it is wrong.
      num_workers: answers that are graded at a time; None: one for each
        processor core.

    Raises:
      FileNotFoundError: there is no MATH in the folder.
      ValueError: a record cannot be read, the split cannot be made, many test
        problems are trained on, or an option is out of range.
    """
    if split not in ("math500", "published"):
      raise ValueError(
        f"Unknown split={split!r}; known: 'math500', 'published'."
      )
    if split == "published" and test_ids is not None:
      raise ValueError(f"test_ids={test_ids!r} has no effect with {split=}.")
    found = {name: _read(pathlib.Path(path), name) for name in _SPLITS}
    if split == "math500":
      found = _math_500(found, test_ids, path)
    records.check_held_out(found["train"], found["test"], "problem")
    answer_task.check_few_shot(few_shot, len(found["train"]))
    placed = [record for name in _SPLITS for record in found[name]]
    references.check(
      ((where, _answer(where, record)) for where, record in placed),
      tolerated=_UNREADABLE,
    )
    shots = [_shot(*record) for record in found["train"][:few_shot]]
    splits = {
      name: [
        _problem(where, record, name, row, instruction, shots)
        for row, (where, record) in enumerate(found[name])
      ]
      for name in _SPLITS
    }
    train = answer_task.first(splits["train"][few_shot:], num_train=num_train)
    test = answer_task.first(splits["test"], num_test=num_test)
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
  return [
    answer_task.Worked(
      where,
      records.text(record, "problem", where),
      str(record.get("solution") or ""),
      _answer(where, record),
    )
    for where, record in _read(pathlib.Path(path), split)
  ]


def _shot(where: str, record: records.Record) -> str:
  return answer_task.shot(
    records.text(record, "problem", where),
    records.text(record, "solution", where),
    _answer(where, record),
  )


def _problem(
  where: str,
  record: records.Record,
  split: str,
  row: int,
  instruction: str,
  shots: Sequence[str],
) -> base.Problem:
  question = records.text(record, "problem", where)
  level = re.sub(r"(?i)level", "", str(record.get("level", "?"))).strip()
  name = record.get("unique_id") or f"{split}/{row}"
  return base.Problem(
    id=f"math/{name}",
    prompt=answer_task.prompt(question, instruction, shots),
    tier=f"level {level}",
    data=_answer(where, record),
    question=question.strip(),
  )


def _answer(where: str, record: records.Record) -> str:
  """The reference answer, or that of a solution."""
  answer: str | None
  if record.get("answer") is None:
    answer = answers.boxed(records.text(record, "solution", where))
  elif not str(record["answer"]).strip():
    answer = None
  else:
    answer = records.text_or_number(record, "answer", where)
    boxed = answers.boxed(answer)
    answer = answer if boxed is None else boxed
  if not (answer or "").strip():
    raise ValueError(
      f"{where}: no reference answer; it must be in the field 'answer' or in"
      r" the last \boxed{...} of the field 'solution'."
    )
  return (answer or "").strip()


def _math_500(
  found: Mapping[str, Sequence[records.Placed]],
  test_ids: str | os.PathLike[str] | None,
  path: str | os.PathLike[str],
) -> dict[str, list[records.Placed]]:
  """The records, with those of `test_ids` held out."""
  if test_ids is None:
    sizes = tuple(len(found[name]) for name in _SPLITS)
    if sizes == _MATH_500:
      return {name: list(found[name]) for name in _SPLITS}
    raise ValueError(
      f"{os.fspath(path)!r} has {sizes[0]} training and {sizes[1]} test"
      f" problems, not {_MATH_500[0]} and {_MATH_500[1]}. For the split of"
      " MATH-500 give test_ids=..., a file with its ids, such as its own"
      " test.jsonl; for the split of the data say split='published'."
    )
  both = [*found["train"], *found["test"]]
  field, wanted = _test_ids(pathlib.Path(test_ids), both)
  held_out = {records.key(record, field) for _, record in both} & wanted
  if missing := wanted - held_out:
    raise ValueError(
      f"{len(missing)} of the {len(wanted)} problems of test_ids="
      f"{os.fspath(test_ids)!r} are not in {os.fspath(path)!r}, by their"
      f" {field!r}; one is {min(missing)[:80]!r}."
    )
  parts: dict[str, list[records.Placed]] = {name: [] for name in _SPLITS}
  for where, record in both:
    name = "test" if records.key(record, field) in wanted else "train"
    parts[name].append((where, record))
  return parts


def _test_ids(
  file: pathlib.Path, known: Sequence[records.Placed]
) -> tuple[str, set[str]]:
  """The field by which problems are told, and its values to hold out.

  That is `unique_id` where the data have it, else the text of the problem.
  """
  if file.suffix not in (".jsonl", ".json", ".gz", ".parquet"):
    lines = records.text_of_file(file).split("\n")
    ids = {line.strip() for line in lines if line.strip()}
    if not ids:
      raise ValueError(f"test_ids={str(file)!r} is empty.")
    return "unique_id", ids
  listed = [record for _, record in records.read(file)]
  has_ids = all(record.get("unique_id") for _, record in known)
  fields = ("unique_id", "problem") if has_ids else ("problem", "unique_id")
  for field in fields:
    if all(field in record for record in listed):
      return field, {records.key(record, field) for record in listed}
  raise ValueError(
    f"test_ids={str(file)!r}: its lines have no 'unique_id' and no 'problem'."
  )


def _read(path: pathlib.Path, split: str) -> list[records.Placed]:
  """Where each record is, for errors, and the record."""
  # One layout: a folder with both would have every problem twice.
  if files := sorted(path.glob(f"{split}/*/*.json"), key=_by_number):
    return [
      (
        str(file),
        {
          **records.parse(records.text_of_file(file), str(file)),
          "unique_id": file.relative_to(path).as_posix(),
        },
      )
      for file in files
    ]
  if files := records.find(path, split):
    found = [placed for file in files for placed in records.read(file)]
    records.check_repeats(found, "problem")
    return found
  raise FileNotFoundError(
    f"There is no MATH in {str(path)!r}: no {split} problems. It may have"
    f" {_LAYOUTS}."
  )


def _by_number(file: pathlib.Path) -> tuple[str, int, str]:
  digits = file.stem if file.stem.isdecimal() else "0"
  return file.parent.name, int(digits), file.name
