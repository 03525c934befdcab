"""Where a process stands, if it takes far longer than usual.

A grader that never returns, a host that is gone without a word, a file system
that does not answer: nothing of it raises an error, and so a run would wait in
silence. What is said here ends nothing.
"""

import collections
import contextlib
import faulthandler
import os
import socket
import statistics
import sys
import threading
import time

import jax

_TIMES = 10  # the usual time
_AT_LEAST = 20.0  # seconds
_FIRST = 600.0  # seconds, for what is done for the first time, and compiles
_REMEMBERED = 100  # durations of each kind of work
_STDERR = 2  # the file itself: sys.stderr may be something else


class Watchdog:
  """A context whose work is named step by step, and timed.

  What takes ten times its median prints the process and what it is doing, and a
  second later the stacks of all its threads: in C, since a stuck thread may
  hold Python's lock. Once for each piece of work; and again when it goes on.
  """

  def __init__(self) -> None:
    """Knows of no time that is usual."""
    self._seconds: dict[str, collections.deque[float]] = {}
    self._now: tuple[str, float] | None = None
    self._timer: threading.Timer | None = None
    self._said = threading.Event()

  def __enter__(self) -> "Watchdog":
    """Starts with nothing to watch."""
    return self

  def __exit__(self, *_) -> None:
    """Ends what was watched last."""
    self._end()

  def begin(self, kind: str, where: str = "") -> None:
    """Ends the work before, and watches this until the next.

    Args:
      kind: of work, whose times are compared: "update", say.
      where: which of them: "of step 3".
    """
    self._end()
    limit, usual = self._limit(kind)
    self._now, self._said = (kind, time.monotonic()), threading.Event()
    self._timer = threading.Timer(
      limit, self._say, (f"{kind} {where}".strip(), limit, usual, self._said)
    )
    self._timer.daemon = True
    self._timer.start()
    with contextlib.suppress(OSError, ValueError):  # no such stream
      faulthandler.dump_traceback_later(limit + 1, file=_STDERR)

  def _limit(self, kind: str) -> tuple[float, str]:
    """After how many seconds a kind of work is late, and why, in words."""
    known = self._seconds.get(kind)
    if not known:
      return _FIRST, "it is the first of its kind"
    usual = statistics.median(known)
    return max(_AT_LEAST, _TIMES * usual), f"usual are {usual:.2g} s"

  def _end(self) -> None:
    if self._now is None:
      return
    kind, since = self._now
    seconds = time.monotonic() - since
    self._now = None
    if self._timer is not None:
      self._timer.cancel()
    faulthandler.cancel_dump_traceback_later()
    if self._said.is_set():
      _print(f"{_process()} goes on after {seconds:.0f} s of {kind}.")
    remembered = collections.deque[float](maxlen=_REMEMBERED)
    self._seconds.setdefault(kind, remembered).append(seconds)

  def _say(
    self, what: str, limit: float, usual: str, said: threading.Event
  ) -> None:
    """Says what takes so long; in a thread of the timer."""
    said.set()
    _print(
      f"{_process()} has been at this for {limit:.0f} s: {what} ({usual})."
      " It may be stuck, in a grader, on a file system, or waiting for another"
      " process. Where all its threads stand:"
    )


def _process() -> str:
  """This process among those of its run."""
  number = f"{jax.process_index()} of {jax.process_count()}"
  return f"Process {number} ({os.getpid()} on {socket.gethostname()})"


def _print(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
