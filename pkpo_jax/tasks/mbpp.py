"""MBPP: short Python functions from a sentence and a few asserts.

What is read may be mbpp.jsonl, the 427 verified problems of
sanitized-mbpp.json, or the same as parquet. The prompt shows one test, and an
answer could return what that expects; so the others are graded.
"""

import ast
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from pkpo_jax.tasks import (
  base,
  code_blocks,
  code_task,
  humaneval,
  records,
  reference_solutions,
  unit_tests,
)
from pkpo_jax.tasks.grading.sandbox import container, sandbox

INSTRUCTION = """{text}

Write it in Python. It has to pass tests such as

{tests}

Answer with the code in a ```python block.
"""

# The official splits, by task_id.
_SPLITS = {
  "prompt": range(1, 11),
  "test": range(11, 511),
  "validation": range(511, 601),
  "train": range(601, 975),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """One problem as the data have it.

  Attributes:
    where: the place in the data.
    task_id: its number.
    text: what is asked for.
    code: a solution.
    tests: statements `assert ...`.
    setup: source that runs after an answer.
    imports: source that the tests need.
    is_sanitized: whether it is of the file that has only some problems.
  """

  where: str
  task_id: int
  text: str
  code: str
  tests: tuple[str, ...]
  setup: str
  imports: str
  is_sanitized: bool


class Mbpp(code_task.CodeTask):
  """MBPP to train on, with HumanEval or with its own test split held out."""

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    train: Sequence[str] = ("train",),
    test: str = "humaneval",
    shown_tests: int = 1,
    grade_shown: bool = False,
    instruction: str = INSTRUCTION,
    reward: str = "fraction",
    imports: str = "",
    num_workers: int | None = None,
    cpu_seconds: int = 2,
    wall_seconds: float = 20.0,
  ):
    """Reads the problems, tries the sandbox, and grades the data's solutions.

    Args:
      path: mbpp.jsonl or sanitized-mbpp.json as google-research publishes
        them, or a parquet file.
      train: the official splits to train on, out of "train" (601-974),
        "validation" (511-600), "test" (11-510) and "prompt" (1-10).
      test: what is held out: "humaneval", or "mbpp" for the official "test".
      shown_tests: how many of the tests the prompt shows.
      grade_shown: whether those count too. An answer can return what they
        expect, and weak policies learn that.
      instruction: the prompt, with {text} and {tests} in it.
      reward: "fraction" of the tests passed, or "binary": 1 for all of them.
      imports: source that runs before each answer, such as "import math".
      num_workers: answers that compute at a time; None: one for each
        processor core.
      cpu_seconds: processor time of one answer.
      wall_seconds: time of one answer, should it wait for a processor.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: an option or a line of the file is not as described, or a
        problem's own solution fails its tests.
      RuntimeError: code cannot be isolated here.
    """
    _check_options(train, test, shown_tests, instruction)
    limits = sandbox.Limits(cpu_seconds, wall_seconds)
    code_sandbox = sandbox.Sandbox(limits)
    rows = _read(pathlib.Path(path))
    splits = [*train, "test"] if test == "mbpp" else [*train]
    known = {
      row.task_id: _problem(
        row, shown_tests, grade_shown, instruction, code_sandbox
      )
      for split in splits
      for row in _of_split(rows, split, path)
    }

    def problems(names: Sequence[str]) -> list[base.Problem]:
      return [
        known[i].problem
        for i in sorted(known)
        if any(i in _SPLITS[name] for name in names)
      ]

    held_out: Callable[[], list[base.Problem]] = (
      humaneval.load if test == "humaneval" else lambda: problems(["test"])
    )
    super().__init__(
      {"train": problems(train), "test": held_out()},
      code_sandbox,
      reward=reward,
      num_workers=num_workers,
      imports=imports,
    )
    code = container.HARNESS + unit_tests.PRELUDE
    conditions = f"{limits} {imports!r} {code}"
    reference_solutions.check(self, [*known.values()], conditions)


def _check_options(
  train: Sequence[str], test: str, shown_tests: int, instruction: str
) -> None:
  if not train or len(set(train)) < len(train) or not set(train) <= {*_SPLITS}:
    raise ValueError(
      f"train={train} must name some of {', '.join(_SPLITS)}, each once."
    )
  if test not in ("humaneval", "mbpp"):
    raise ValueError(f"Unknown test={test!r}; known: humaneval, mbpp.")
  if test == "mbpp" and "test" in train:
    raise ValueError('With test="mbpp" the split "test" cannot be in train.')
  if shown_tests < 1:
    raise ValueError(
      f"shown_tests={shown_tests} must be at least 1: without any of them the"
      " prompt does not tell the function's name."
    )
  if "{text}" not in instruction or "{tests}" not in instruction:
    raise ValueError(f"{{text}} or {{tests}} is missing in {instruction!r}.")


def _read(path: pathlib.Path) -> dict[int, Row]:
  if not path.is_file():
    raise FileNotFoundError(
      f"There is no {path}. It is mbpp/mbpp.jsonl of github.com/google-research"
      "/google-research."
    )
  rows: dict[int, Row] = {}
  for where, record in records.read(path):
    row = _row(record, where)
    first = rows.setdefault(row.task_id, row)
    if first is not row:
      raise ValueError(
        f"{where}: task_id {row.task_id} of {first.where} again; remove one."
      )
  return rows


def _row(record: records.Record, where: str) -> Row:
  number = records.text_or_number(record, "task_id", where)
  if not (number.isascii() and number.isdigit()):
    raise ValueError(f"{where}: the task_id {number!r} is no number.")
  is_sanitized = "prompt" in record and "text" not in record
  return Row(
    where,
    int(number),
    records.text(record, "prompt" if is_sanitized else "text", where),
    records.text(record, "code", where),
    _texts(record, "test_list", where),
    record.get("test_setup_code") or "",
    "\n".join(_texts(record, "test_imports", where, may_lack=True)),
    is_sanitized,
  )


def _texts(
  record: records.Record, field: str, where: str, *, may_lack: bool = False
) -> tuple[str, ...]:
  value = record.get(field)
  if may_lack and not value:
    return ()
  if not (value and isinstance(value, list)) or not all(
    isinstance(item, str) for item in value
  ):
    raise ValueError(
      f"{where}: the field {field!r} is {value!r}, but must be a list of texts."
    )
  return tuple(value)


def _of_split(
  rows: dict[int, Row], split: str, path: str | os.PathLike[str]
) -> list[Row]:
  """The rows of a split; files with all 974 problems lack none of them."""
  ids = _SPLITS[split]
  missing = [i for i in ids if i not in rows]
  may_lack = all(row.is_sanitized for row in rows.values())
  if len(missing) == len(ids) or (missing and not may_lack):
    raise ValueError(f"{path} lacks the tasks {missing} of {split!r}.")
  return [rows[i] for i in ids if i in rows]


def _problem(
  row: Row,
  shown_tests: int,
  grade_shown: bool,
  instruction: str,
  code_sandbox: sandbox.Sandbox,
) -> reference_solutions.Solved:
  prompt = instruction.format(
    text=row.text, tests="\n".join(row.tests[:shown_tests])
  )
  graded = row.tests if grade_shown else row.tests[shown_tests:]
  if not graded:
    raise ValueError(
      f"{row.where}: all of its {len(row.tests)} tests are shown, so that none"
      " is graded; lower shown_tests, or set grade_shown=True."
    )
  try:
    data = unit_tests.from_sources(
      graded,
      _entry_point(row),
      setup=row.setup,
      imports=row.imports,
      evaluate=lambda value: _evaluate(value, row.imports, code_sandbox),
    )
  except ValueError as error:
    raise ValueError(f"{row.where}: {error}.") from error
  problem = base.Problem(f"mbpp/{row.task_id}", prompt, "mbpp", data)
  return reference_solutions.Solved(row.where, problem, row.code)


def _entry_point(row: Row) -> str:
  """The name that the solution defines and the tests call."""
  names = [
    node.func.id
    for test in row.tests
    for node in ast.walk(unit_tests.parse(test))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
  ]
  ranks = {name: code_blocks.strength(row.code, name) for name in names}
  best = max(ranks, key=ranks.__getitem__, default="")
  if not best or ranks[best] == code_blocks.NOTHING:
    raise ValueError(f"no function is both defined and tested: {row.code!r}")
  return best


def _evaluate(value: str, imports: str, code_sandbox: sandbox.Sandbox) -> Any:
  """What a test expects. If it is no literal it is run, by the answers' Python.

  In mbpp.jsonl that is task 596 alone: it asks for `sys.getsizeof` of tuples.
  """
  try:
    return ast.literal_eval(value)
  except ValueError:
    (result,) = code_sandbox.run(("import sys", imports), (value,))
  if isinstance(result, sandbox.Failure):
    raise ValueError(f"{value!r} cannot be evaluated: {result.reason}")
  return result.value
