"""Grades answers in worker processes, where they can do no harm.

An answer may hang its grader, crash it or eat all memory. Every worker grades
one answer at a time; one that is late is killed and replaced. Workers are fresh
interpreters that import the grading function's module and what that asks for:
never jax, unless it does.
"""

import collections
import contextlib
import importlib
import itertools
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from pkpo_jax.tasks import base
from pkpo_jax.tasks.grading import open_files
from pkpo_jax.tasks.grading.workers import worker as worker_script

_START_SECONDS = 120.0
_FAILED_STARTS = 3
# Of an answer: once could be the fault of whoever killed the worker.
_CRASHES = 2
_GRACE_SECONDS = 0.5
_FILES = 4  # of a worker: its connection and stdin, both ends while it starts
_WAIT_SECONDS = 5  # for a worker to take an answer that it is idle for
_READY = "ready"
_NO_WORKER = "no worker"
_LOSSES = _TIMEOUT, _MEMORY, _CRASH = "timeout", "out of memory", "crash"
# Their __init__ would import jax, which the graders in them do without.
_INNERMOST_PACKAGE = "pkpo_jax.tasks.grading.latex"

_log = logging.getLogger(__name__)


class Pool:
  """Worker processes for one grading function.

  They start with the first answers, or with `start`. Any thread may call
  `grade`; calls take turns. `close` ends the workers, and so do the end of a
  `with` block and, however it comes about, the end of this process.
  """

  def __init__(
    self,
    grade: str,
    *,
    num_workers: int = 2,
    timeout: float = 5.0,
    memory: int = 2**30,
    max_tasks: int = 10_000,
  ):
    """Describes the workers; starts none.

    Args:
      grade: "module:function", with the module in the current directory or
        installed; it is imported in the workers alone. The function takes
        what is in one item of `grade` and returns reward, valid and reason,
        the fields of a `Grade`, or the reward of a valid grade alone. It may
        import modules from the packages around the graders of pkpo_jax, but
        those packages themselves are empty in a worker.
      num_workers: how many answers are graded at a time.
      timeout: seconds of an answer, from when a worker starts on it.
      memory: bytes that a worker may allocate beyond what it has when it is
        ready. Limited on Linux only.
      max_tasks: a worker is replaced after this many answers.

    Raises:
      ValueError: an option is out of range, or so many workers may not be
        had here.
    """
    for name, value in (
      ("num_workers", num_workers),
      ("timeout", timeout),
      ("memory", memory),
      ("max_tasks", max_tasks),
    ):
      if not value > 0:
        raise ValueError(f"{name}={value} must be above 0.")
    if not all(grade.partition(":")):
      raise ValueError(f"grade={grade!r} must be 'module:function'.")
    open_files.allow(_FILES, num_workers)
    self._num_workers, self._timeout = num_workers, timeout
    self._max_tasks = max_tasks
    self._setup = {
      "grade": grade,
      "path": [*map(os.path.abspath, sys.path), os.getcwd()],
      "packages": _packages(),
      "memory": memory,
    }
    self._workers: list[_Worker] = []
    self._lock = threading.Lock()
    # Not a method: that would keep the pool alive.
    self._finalizer = weakref.finalize(self, _stop_all, self._workers)

  def start(self) -> None:
    """Starts all workers and does not wait for them, to be ready early."""
    with self._lock:
      self._staff(self._num_workers, _Batch(()))

  def grade(self, items: Sequence[tuple]) -> list[base.Grade]:
    """Grades answers.

    An answer that takes too long, crashes its worker twice or makes the
    grading function raise is wrong; the reason says which. One is invalid if
    the function takes other arguments, returns no grade, or uses a name or a
    module that there is not, and so are all that are left if no worker can be
    started.

    Args:
      items: the arguments of the grading function for each answer, hashable
        plain data. Equal ones are graded once.

    Returns:
      A grade for each, in their order.
    """
    with self._lock:
      batch = _Batch(dict.fromkeys(items))
      try:
        while batch.is_open():
          self._step(batch)
      except BaseException:
        # Replies to this batch must not be taken for those to the next one.
        _stop_all(self._workers)
        raise
    return [batch.grades[item] for item in items]

  def check(self, item: tuple) -> None:
    """Grades one answer, a right one, to see that answers can be graded at all.

    Logs a warning if the function raises by it, is late or crashes.

    Raises:
      ValueError: no worker can be started, as where there is no such module
        or function; or the function takes other arguments, returns no grade, or
        uses a name or a module that there is not.
    """
    grade = self.grade([item])[0]
    if not grade.valid and grade.reason.startswith(
      (_NO_WORKER, worker_script.NO_GRADE)
    ):
      raise ValueError(
        f"The grader {self._setup['grade']!r} cannot be used: {grade.reason}."
      )
    if grade.reason.startswith((worker_script.ERROR, *_LOSSES)):
      _log.warning(
        "The grader %r did not grade %.200r, but ended with %r. If it does so"
        " with every answer, all of them count as wrong.",
        self._setup["grade"],
        item,
        grade.reason,
      )

  def close(self) -> None:
    """Ends the workers. `grade` would start new ones."""
    with self._lock:
      _stop_all(self._workers)

  def __enter__(self) -> "Pool":
    """For `with`."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Closes."""
    self.close()

  def _step(self, batch: "_Batch") -> None:
    """Hands out work, waits for something to happen, and deals with it."""
    busy = sum(worker.item is not None for worker in self._workers)
    self._staff(min(self._num_workers, busy + len(batch.waiting)), batch)
    if not self._workers:
      batch.abandon()
      return
    for worker in list(self._workers):
      if batch.waiting and worker.is_idle():
        self._hand_out(worker, batch)
    by_connection = {worker.connection: worker for worker in self._workers}
    deadline = min((worker.deadline for worker in self._workers), default=0.0)
    for connection in multiprocessing.connection.wait(
      by_connection, max(0.0, deadline - time.monotonic())
    ):
      self._hear(by_connection[connection], batch)  # type: ignore[index]
    now = time.monotonic()
    for worker in [w for w in self._workers if w.deadline < now]:
      self._dismiss(worker)
      if worker.item is None:
        batch.failed_start(f"not ready after {_START_SECONDS:g} s")
      else:
        batch.record(worker.item, base.Grade(0.0, True, _TIMEOUT))

  def _staff(self, count: int, batch: "_Batch") -> None:
    while len(self._workers) < count and batch.may_start():
      try:
        self._workers.append(_Worker(self._setup))
      except OSError as error:
        batch.failed_start(str(error))

  def _hand_out(self, worker: "_Worker", batch: "_Batch") -> None:
    item = batch.waiting.popleft()
    try:
      worker.take(item, self._timeout)
    except OSError:
      batch.crashed(item, self._dismiss(worker))

  def _hear(self, worker: "_Worker", batch: "_Batch") -> None:
    try:
      message = json.loads(worker.connection.recv_bytes())
    except (EOFError, OSError, ValueError):
      self._hear_of_death(worker, self._dismiss(worker), batch)
      return
    if not worker.ready:
      worker.ready, worker.deadline = message == _READY, float("inf")
      if worker.ready:
        batch.failed_starts = 0
      else:
        self._dismiss(worker)
        batch.failed_start(message)
      return
    batch.record(worker.finish(), base.Grade(*message))
    if worker.answers >= self._max_tasks:
      self._dismiss(worker)

  def _hear_of_death(
    self, worker: "_Worker", status: int, batch: "_Batch"
  ) -> None:
    if not worker.ready:
      batch.failed_start(f"ended with status {status}")
    elif worker.item is not None:
      batch.crashed(worker.item, status)

  def _dismiss(self, worker: "_Worker") -> int:
    """Ends a worker; its exit status."""
    self._workers.remove(worker)
    return worker.stop()


class _Batch:
  """Answers on their way to a grade."""

  def __init__(self, items: Iterable[tuple]):
    self.waiting = collections.deque(items)
    self.grades: dict[tuple, base.Grade] = {}
    self.failed_starts = 0
    self._count = len(self.waiting)
    self._crashes: collections.Counter[tuple] = collections.Counter()
    self._cause = ""

  def is_open(self) -> bool:
    return len(self.grades) < self._count

  def record(self, item: tuple, grade: base.Grade) -> None:
    self.grades[item] = grade

  def crashed(self, item: tuple, status: int) -> None:
    """Wrong, unless it was the first time."""
    if status == worker_script.OUT_OF_MEMORY:
      self.record(item, base.Grade(0.0, True, _MEMORY))
      return
    self._crashes[item] += 1
    if self._crashes[item] < _CRASHES:
      self.waiting.appendleft(item)
    else:
      self.record(item, base.Grade(0.0, True, _CRASH))

  def may_start(self) -> bool:
    return self.failed_starts < _FAILED_STARTS

  def failed_start(self, cause: str) -> None:
    _log.warning("A grading worker could not be started: %s", cause)
    self.failed_starts += 1
    self._cause = cause

  def abandon(self) -> None:
    """No worker is left: what was not graded is invalid."""
    for item in self.waiting:
      self.record(item, base.Grade(0.0, False, f"{_NO_WORKER}: {self._cause}"))
    self.waiting.clear()


class _Worker:
  """One process, at most one answer at a time.

  Attributes:
    connection: to the process; it first sends whether it is ready.
    ready: whether it has.
    item: what it grades now.
    deadline: when it will be late, on the monotonic clock.
    answers: how many it has graded.
  """

  def __init__(self, setup: dict[str, Any]):
    self.connection, theirs = multiprocessing.Pipe()
    _limit_waiting(self.connection)
    self.ready, self.answers = False, 0
    self.item: tuple | None = None
    self.deadline = time.monotonic() + _START_SECONDS
    command = [sys.executable, "-P", worker_script.__file__]
    with theirs:
      self._process = subprocess.Popen(
        [*command, str(theirs.fileno())],
        stdin=subprocess.PIPE,  # Closes when this process ends.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        # Signals to the group of this process are not for the workers.
        start_new_session=True,
        # The order of sets must not make one answer right today only.
        env={**os.environ, "PYTHONHASHSEED": "0"},
      )
    with contextlib.suppress(OSError):  # It died: the pool will hear of it.
      self.connection.send(setup)

  def is_idle(self) -> bool:
    return self.ready and self.item is None

  def take(self, item: tuple, seconds: float) -> None:
    """Sends it an answer, whose time starts now."""
    self.connection.send(item)
    self.item, self.deadline = item, time.monotonic() + seconds

  def finish(self) -> tuple:
    """The answer that it was at."""
    item = self.item
    assert item is not None
    self.item, self.deadline = None, float("inf")
    self.answers += 1
    return item

  def stop(self) -> int:
    """Ends the process and its children; its exit status."""
    self._signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(_GRACE_SECONDS)
    self._signal(signal.SIGKILL)
    self.connection.close()
    assert self._process.stdin is not None
    self._process.stdin.close()
    return self._process.wait()

  def _signal(self, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.killpg(self._process.pid, number)


def _limit_waiting(connection: multiprocessing.connection.Connection) -> None:
  """Has a stopped worker, which takes and gives nothing, raise an OSError.

  Else whoever sends it more than its pipe holds would wait for ever.
  """
  with socket.socket(fileno=os.dup(connection.fileno())) as end:
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
      seconds = struct.pack("ll", _WAIT_SECONDS, 0)
      end.setsockopt(socket.SOL_SOCKET, option, seconds)


def _packages() -> dict[str, list[str]]:
  """The packages around the graders of this project -> their folders."""
  names = itertools.accumulate(_INNERMOST_PACKAGE.split("."), "{}.{}".format)
  return {n: list(importlib.import_module(n).__path__) for n in names}


def _stop_all(workers: list[_Worker]) -> None:
  while workers:
    workers.pop().stop()
