"""Tasks whose answers are Python functions, graded by unit tests."""

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Protocol

from pkpo_jax.tasks import base
from pkpo_jax.tasks.grading.sandbox import sandbox

_CLOSED_BLOCK = re.compile(
  r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL
)
_OPEN_BLOCK = re.compile(r"^[ \t]*```[^\n`]*\n(.*)", re.MULTILINE | re.DOTALL)


class Tests(Protocol):
  """The unit tests of one problem: the `data` of a `Problem`.

  Attributes:
    calls: Python expressions; all of the tests that the sandbox gets to see.
  """

  calls: tuple[str, ...]

  def program(self, completion: str) -> tuple[str, ...] | None:
    """The sources to run before the calls; None if there is no code."""

  def passed(
    self, results: Sequence[sandbox.Value | sandbox.Failure]
  ) -> list[bool]:
    """Which tests pass if the calls gave these results."""


class CodeTask(base.BaseTask):
  """Problems with unit tests, and a sandbox to run answers in."""

  def __init__(
    self,
    splits: Mapping[str, Sequence[base.Problem]],
    code_sandbox: sandbox.Sandbox,
    *,
    reward: str,
    num_workers: int | None,
  ):
    """Takes problems whose data are `Tests`.

    Args:
      splits: problems by the name of their split.
      code_sandbox: runs the answers.
      reward: "fraction" of the tests passed, or "binary": 1 for all of them.
      num_workers: sandboxes at a time; None: one for each processor core.
    """
    if reward not in ("fraction", "binary"):
      raise ValueError(f"Unknown reward {reward!r}; known: fraction, binary.")
    if num_workers is not None and num_workers < 1:
      raise ValueError(f"num_workers={num_workers} must be at least 1.")
    super().__init__(splits)
    self._sandbox = code_sandbox
    self._binary = self.binary_rewards = reward == "binary"
    self._num_workers = num_workers or os.cpu_count() or 1

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """The fraction of the tests passed; 1 or 0 if the reward is binary.

    An answer is wrong if it is slow, crashes or is no code at all. The grade
    is invalid only where the sandbox itself did not start.
    """
    return self._grade(problem.data, completion)

  def grades(
    self,
    problems: Sequence[base.Problem],
    completions: Sequence[Sequence[str]],
  ) -> list[list[base.Grade]]:
    """Grades n answers to each of B problems; [B][n].

    Sandboxes run side by side, and equal answers to a problem only once.
    """
    answers = {
      (problem.id, text): (problem.data, text)
      for problem, row in zip(problems, completions, strict=True)
      for text in row
    }
    with futures.ThreadPoolExecutor(self._num_workers) as threads:
      found = threads.map(lambda a: self._grade(*a), answers.values())
      grades = dict(zip(answers, found, strict=True))
    return [
      [grades[problem.id, text] for text in row]
      for problem, row in zip(problems, completions, strict=True)
    ]

  def _grade(self, tests: Tests, completion: str) -> base.Grade:
    sources = tests.program(completion)
    if sources is None:
      return base.Grade(0.0, True, "no code")
    try:
      results = self._sandbox.run(sources, tests.calls)
    except sandbox.SandboxError:
      return base.Grade(0.0, False, "sandbox did not start")
    passed = tests.passed(results)
    if all(passed):
      return base.Grade(1.0, True, "right")
    failures = (r.reason for r in results if isinstance(r, sandbox.Failure))
    fraction = 0.0 if self._binary else sum(passed) / len(passed)
    return base.Grade(fraction, True, next(failures, "wrong value"))


def defines(code: str, name: str) -> bool:
  """Whether the code seems to define the name. It is not parsed.

  The parser is native code, and this process must not feed it what nobody has
  read.
  """
  name = re.escape(name)
  pattern = (
    rf"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+{name}\b"
    rf"|^{name}[ \t]*[:=]|^(?:from|import)\b.*\b{name}\b"
  )
  return re.search(pattern, code, re.MULTILINE) is not None


def fenced_blocks(text: str) -> list[str]:
  """The fenced blocks of an answer, best first.

  That is the last one first, for answers often end on the final version. A
  block that the answer's end cuts short is the least trusted.
  """
  blocks = _CLOSED_BLOCK.findall(text)[::-1]
  blocks += _OPEN_BLOCK.findall(_CLOSED_BLOCK.sub("", text))
  return [textwrap.dedent(block) for block in blocks]


def before_fences(text: str) -> str:
  """All of an answer without fences; else what comes before the first."""
  return text.partition("```")[0]
