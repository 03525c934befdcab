"""Tasks whose answers are Python functions, graded by unit tests."""

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol

from pkpo_jax.tasks import base, unit_tests
from pkpo_jax.tasks.grading import open_files
from pkpo_jax.tasks.grading.sandbox import sandbox

# So many for each processor: those that sleep hold up nobody else.
_SANDBOXES = 4


class Tests(Protocol):
  """The unit tests of one problem: the `data` of a `Problem`.

  Attributes:
    calls: Python expressions; all of the tests that the sandbox gets to see.
  """

  calls: tuple[str, ...]

  def program(self, completion: str) -> tuple[str | sandbox.Answer, ...] | None:
    """The sources to run before the calls; None if there is no code."""

  def passed(
    self,
    results: Sequence[sandbox.Value | sandbox.Failure],
    run: unit_tests.Run,
  ) -> list[bool]:
    """Which tests pass if the calls gave these results.

    Args:
      results: what each call gave.
      run: a fresh sandbox, for what a test computes with them.
    """


class CodeTask(base.BaseTask):
  """Problems with unit tests, and a sandbox to run answers in."""

  def __init__(
    self,
    splits: Mapping[str, Sequence[base.Problem]],
    code_sandbox: sandbox.Sandbox,
    *,
    reward: str,
    num_workers: int | None,
    imports: str = "",
  ):
    """Takes problems whose data are `Tests`.

    Args:
      splits: problems by the name of their split.
      code_sandbox: runs the answers.
      reward: "fraction" of the tests passed, or "binary": 1 for all of them.
      num_workers: answers that compute at a time; None: one for each
        processor core. Those that sleep don't count.
      imports: source that runs before each answer.
    """
    if reward not in ("fraction", "binary"):
      raise ValueError(f"Unknown reward {reward!r}; known: fraction, binary.")
    if num_workers is not None and num_workers < 1:
      raise ValueError(f"num_workers={num_workers} must be at least 1.")
    super().__init__(splits)
    _check_python(imports)
    self._sandbox, self._imports = code_sandbox, imports
    self._binary = self.binary_rewards = reward == "binary"
    self._num_workers = num_workers or os.cpu_count() or 1
    self._num_sandboxes = _SANDBOXES * self._num_workers
    open_files.allow(
      sandbox.STARTING_FILES + sandbox.RUNNING_FILES * (_SANDBOXES - 1),
      self._num_workers,
    )
    self._processors = threading.Semaphore(self._num_workers)

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
    with futures.ThreadPoolExecutor(self._num_sandboxes) as pool:
      found = pool.map(lambda a: self._grade(*a), answers.values())
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
      with _Turn(self._processors) as turn:
        sources = (self._imports, *sources) if self._imports else sources
        run = functools.partial(self._sandbox.run, on_sleep=turn.end)
        results = run(sources, tests.calls)
        passed = tests.passed(results, run)
    except sandbox.SandboxError:
      return base.Grade(0.0, False, "sandbox did not start")
    if all(passed):
      return base.Grade(1.0, True, "right")
    failures = (r.reason for r in results if isinstance(r, sandbox.Failure))
    fraction = 0.0 if self._binary else sum(passed) / len(passed)
    return base.Grade(fraction, True, next(failures, "wrong value"))


class _Turn:
  """A processor's time for one answer; ends with it, or when it sleeps."""

  def __init__(self, processors: threading.Semaphore):
    self._processors, self._has_one = processors, False

  def __enter__(self) -> "_Turn":
    self._has_one = self._processors.acquire()
    return self

  def __exit__(self, *_: Any) -> None:
    self.end()

  def end(self) -> None:
    """Lets another answer run beside this one."""
    if self._has_one:
      self._has_one = False
      self._processors.release()


def _check_python(imports: str) -> None:
  try:
    compile(imports, "imports", "exec")
  except SyntaxError as error:
    raise ValueError(f"imports={imports!r} is no Python: {error}.") from error
