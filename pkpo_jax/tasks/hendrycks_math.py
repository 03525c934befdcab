r"""MATH (Hendrycks et al. 2021), from the user's own copy.

The problems are not distributed with this package. The usual split of them for
training is that of Lightman et al. (2023): the 500 problems of MATH-500 are for
tests, the other 12,000 for training.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pkpo_jax.tasks import answer_task, base
from pkpo_jax.tasks.grading.latex import answers

_SPLITS = ("train", "test")
_LAYOUTS = (
  "train.jsonl and test.jsonl; train/<subject>/<number>.json and"
  " test/<subject>/<number>.json, as published; a data set that the Hugging"
  " Face library datasets saved to disk; or parquet files whose names start"
  " with train and test"
)
_MATH_500 = (12_000, 500)

Record = Mapping[str, Any]
Where = tuple[str, Record]


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
    num_workers: int = 2,
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
      num_workers: how many answers are graded at a time.

    Raises:
      FileNotFoundError: there is no MATH in the folder.
      ValueError: a record cannot be read, the split cannot be made, or an
        option is out of range.
    """
    if split not in ("math500", "published"):
      raise ValueError(
        f"Unknown split={split!r}; known: 'math500', 'published'."
      )
    if split == "published" and test_ids is not None:
      raise ValueError(f"test_ids={test_ids!r} has no effect with {split=}.")
    found = {name: list(_read(pathlib.Path(path), name)) for name in _SPLITS}
    if split == "math500":
      found = _math_500(found, test_ids, path)
    answer_task.check_few_shot(few_shot, len(found["train"]))
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


def _shot(where: str, record: Record) -> str:
  return answer_task.shot(
    answer_task.text_of(record, "problem", where),
    answer_task.text_of(record, "solution", where),
    _answer(where, record),
  )


def _problem(
  where: str,
  record: Record,
  split: str,
  row: int,
  instruction: str,
  shots: Sequence[str],
) -> base.Problem:
  question = answer_task.text_of(record, "problem", where)
  level = re.sub(r"(?i)level", "", str(record.get("level", "?"))).strip()
  name = record.get("unique_id") or f"{split}/{row}"
  return base.Problem(
    id=f"math/{name}",
    prompt=answer_task.prompt(question, instruction, shots),
    tier=f"level {level}",
    data=_answer(where, record),
  )


def _answer(where: str, record: Record) -> str:
  """The reference answer."""
  answer = record.get("answer")
  if answer is None:
    answer = answers.boxed(answer_task.text_of(record, "solution", where))
  if not isinstance(answer, str) or not answer.strip():
    raise ValueError(
      f"{where}: no reference answer; it must be in the field 'answer' or in"
      r" the last \boxed{...} of the field 'solution'."
    )
  return answer.strip()


def _math_500(
  found: Mapping[str, Sequence[Where]],
  test_ids: str | os.PathLike[str] | None,
  path: str | os.PathLike[str],
) -> dict[str, list[Where]]:
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
  field, wanted = _test_ids(pathlib.Path(test_ids))
  records = [*found["train"], *found["test"]]
  held_out = {_key(record, field) for _, record in records} & wanted
  if missing := wanted - held_out:
    raise ValueError(
      f"{len(missing)} of the {len(wanted)} problems of test_ids="
      f"{os.fspath(test_ids)!r} are not in {os.fspath(path)!r}, by their"
      f" {field!r}; one is {min(missing)[:80]!r}."
    )
  parts: dict[str, list[Where]] = {name: [] for name in _SPLITS}
  for where, record in records:
    name = "test" if _key(record, field) in wanted else "train"
    parts[name].append((where, record))
  return parts


def _test_ids(file: pathlib.Path) -> tuple[str, set[str]]:
  """The field by which problems are told, and its values to hold out."""
  lines = [line for line in _lines(file) if line.strip()]
  if not lines:
    raise ValueError(f"test_ids={str(file)!r} is empty.")
  if file.suffix != ".jsonl":
    return "unique_id", {line.strip() for line in lines}
  records = [
    _json(line, f"{file}, line {n}") for n, line in enumerate(lines, 1)
  ]
  for field in ("unique_id", "problem"):
    if all(field in record for record in records):
      return field, {_key(record, field) for record in records}
  raise ValueError(
    f"test_ids={str(file)!r}: its lines have no 'unique_id' and no 'problem'."
  )


def _key(record: Record, field: str) -> str:
  return " ".join(str(record.get(field, "")).split())


def _read(path: pathlib.Path, split: str) -> Iterator[Where]:
  """Where a record is, for errors, and the record."""
  if (file := path / f"{split}.jsonl").is_file():
    for number, line in enumerate(_lines(file), 1):
      if line.strip():
        where = f"{file}, line {number}"
        yield where, _json(line, where)
  elif files := sorted(path.glob(f"{split}/*/*.json"), key=_by_number):
    for file in files:
      record = _json(file.read_text(encoding="utf-8"), str(file))
      name = file.relative_to(path).as_posix()
      yield str(file), {**record, "unique_id": name}
  elif files := sorted(
    [*path.glob(f"{split}/*.arrow"), *path.glob(f"**/{split}*.parquet")]
  ):
    yield from _rows(files)
  else:
    raise FileNotFoundError(
      f"There is no MATH in {str(path)!r}: no {split} problems. It may have"
      f" {_LAYOUTS}."
    )


def _by_number(file: pathlib.Path) -> tuple[str, int, str]:
  digits = file.stem if file.stem.isdecimal() else "0"
  return file.parent.name, int(digits), file.name


def _rows(files: Iterable[pathlib.Path]) -> Iterator[Where]:
  """The rows of arrow and parquet files."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError as error:
    raise ImportError(
      "Arrow and parquet files need pyarrow: pip install pyarrow."
    ) from error
  for file in files:
    if file.suffix == ".parquet":
      table = pyarrow.parquet.read_table(file)
    else:
      with pyarrow.memory_map(str(file)) as source:
        table = pyarrow.ipc.open_stream(source).read_all()
    for row, record in enumerate(table.to_pylist()):
      yield f"{file}, row {row}", record


def _lines(file: pathlib.Path) -> list[str]:
  # Not splitlines: some characters within JSON strings look like line ends.
  return file.read_text(encoding="utf-8").split("\n")


def _json(text: str, where: str) -> Record:
  try:
    record = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f"{where}: not JSON ({error}).") from error
  if not isinstance(record, dict):
    raise ValueError(f"{where}: not a JSON object.")
  return record
