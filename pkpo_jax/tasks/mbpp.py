"""MBPP: short Python functions from a sentence and a few asserts.

Every test is `assert call == value`. The call alone enters the sandbox; the
value that it returns is compared out here.
"""

import ast
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from pkpo_jax.tasks import base, code_task, humaneval
from pkpo_jax.tasks.grading.sandbox import sandbox

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
_FIELDS = {"task_id", "text", "code", "test_setup_code", "test_list"}


@dataclasses.dataclass(frozen=True)
class Asserts:
  """Tests of the form `assert call == value`.

  Attributes:
    entry_point: the function that is asked for.
    setup: source that the calls need, run after the answer.
    calls: the left sides.
    expected: the right sides, evaluated.
  """

  entry_point: str
  setup: str
  calls: tuple[str, ...]
  expected: tuple[Any, ...]

  def program(self, completion: str) -> tuple[str, ...] | None:
    """The best block that defines the function, or else all of the answer."""
    texts = (
      *code_task.fenced_blocks(completion),
      code_task.before_fences(completion),
    )
    for text in texts:
      if code_task.defines(text, self.entry_point):
        return text, self.setup
    return None

  def passed(
    self, results: Sequence[sandbox.Value | sandbox.Failure]
  ) -> list[bool]:
    """Compares as the asserts do: 1 == 1.0 and 1 == True, but (1,) != [1]."""
    return [
      isinstance(result, sandbox.Value) and bool(result.value == expected)
      for result, expected in zip(results, self.expected, strict=True)
    ]


class Mbpp(code_task.CodeTask):
  """MBPP to train on, with HumanEval or with its own test split held out."""

  def __init__(
    self,
    path: str,
    *,
    train: Sequence[str] = ("train",),
    test: str = "humaneval",
    shown_tests: int = 1,
    instruction: str = INSTRUCTION,
    reward: str = "fraction",
    num_workers: int | None = None,
    cpu_seconds: int = 2,
    wall_seconds: float = 6.0,
  ):
    """Reads the problems and tries the sandbox.

    Args:
      path: mbpp.jsonl as google-research publishes it.
      train: the official splits to train on, out of "train" (601-974),
        "validation" (511-600), "test" (11-510) and "prompt" (1-10).
      test: what is held out: "humaneval", or "mbpp" for the official "test".
      shown_tests: how many of the three tests the prompt shows; an answer can
        learn by heart what it is shown, but all three are graded.
      instruction: the prompt, with {text} and {tests} in it.
      reward: "fraction" of the tests passed, or "binary": 1 for all of them.
      num_workers: sandboxes at a time; None: one for each processor core.
      cpu_seconds: processor time of one answer.
      wall_seconds: time of one answer.

    Raises:
      ValueError: an option or a line of the file is not as described.
      RuntimeError: code cannot be isolated here.
    """
    _check_options(train, test, shown_tests, instruction)
    limits = sandbox.Limits(cpu_seconds, wall_seconds)
    code_sandbox = sandbox.Sandbox(limits)
    rows = {row["task_id"]: row for row in _read(path)}

    def problems(names: Sequence[str]) -> list[base.Problem]:
      ids = sorted(i for name in names for i in _SPLITS[name])
      missing = [i for i in ids if i not in rows]
      if missing:
        raise ValueError(f"{path} lacks the tasks {missing}.")
      return [
        _problem(rows[i], shown_tests, instruction, code_sandbox) for i in ids
      ]

    held_out: Callable[[], list[base.Problem]] = (
      humaneval.load if test == "humaneval" else lambda: problems(["test"])
    )
    super().__init__(
      {"train": problems(train), "test": held_out()},
      code_sandbox,
      reward=reward,
      num_workers=num_workers,
    )


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
  if not 1 <= shown_tests <= 3:
    raise ValueError(
      f"shown_tests={shown_tests} must be 1..3; without any of them the prompt"
      " does not tell the function's name."
    )
  if "{text}" not in instruction or "{tests}" not in instruction:
    raise ValueError(f"{{text}} or {{tests}} is missing in {instruction!r}.")


def _read(path: str) -> list[dict[str, Any]]:
  if not os.path.exists(path):
    raise FileNotFoundError(
      f"There is no {path}. It is mbpp/mbpp.jsonl of github.com/google-research"
      "/google-research."
    )
  with open(path, encoding="utf-8") as file:
    rows = [json.loads(line) for line in file]
  for number, row in enumerate(rows, 1):
    if not _FIELDS <= row.keys():
      lacks = sorted(_FIELDS - row.keys())
      raise ValueError(f"{path}, line {number}: lacks the fields {lacks}.")
  return rows


def _problem(
  row: dict[str, Any],
  shown_tests: int,
  instruction: str,
  code_sandbox: sandbox.Sandbox,
) -> base.Problem:
  tests = row["test_list"]
  prompt = instruction.format(
    text=row["text"], tests="\n".join(tests[:shown_tests])
  )
  sides = [_sides(test) for test in tests]
  data = Asserts(
    entry_point=_entry_point(row["code"], [call for call, _ in sides]),
    setup=row["test_setup_code"],
    calls=tuple(ast.unparse(call) for call, _ in sides),
    expected=tuple(_evaluate(value, code_sandbox) for _, value in sides),
  )
  return base.Problem(f"mbpp/{row['task_id']}", prompt, "mbpp", data)


def _sides(test: str) -> tuple[ast.expr, ast.expr]:
  """The left and the right side of `assert left == right`."""
  match ast.parse(test).body:
    case [ast.Assert(ast.Compare(call, [ast.Eq()], [value]))]:
      return call, value
  raise ValueError(f"Not of the form `assert call == value`: {test!r}.")


def _entry_point(solution: str, calls: Sequence[ast.expr]) -> str:
  """The name that the reference solution defines and the tests call."""
  for call in calls:
    for node in ast.walk(call):
      if isinstance(node, ast.Name) and code_task.defines(solution, node.id):
        return node.id
  raise ValueError(f"No function is both defined and tested: {solution!r}.")


def _evaluate(value: ast.expr, code_sandbox: sandbox.Sandbox) -> Any:
  """A right side. One that is no literal is run, by the answers' Python.

  That is task 596 alone, which asks for `sys.getsizeof` of tuples.
  """
  try:
    return ast.literal_eval(value)
  except ValueError:
    text = ast.unparse(value)
  (result,) = code_sandbox.run(("import sys",), (text,))
  if isinstance(result, sandbox.Failure):
    raise ValueError(f"{text!r} cannot be evaluated: {result.reason}.")
  return result.value
