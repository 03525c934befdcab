"""Signals as a request to save first, also while XLA compiles."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

from pkpo_jax import multihost

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_SAME_REQUEST = 3.0  # seconds; `uv run` and process groups send two at once
# Seconds for a run of one process, or of several, to end by itself before it is
# ended where nothing is unsaved.
_GRACE, _GRACE_OF_MANY = 2.0, 10.0


class Stopped(Exception):  # noqa: N818
  """A signal came to a process of the run.

  Attributes:
    number: of the signal.
  """

  def __init__(self, number: int):
    """Keeps the number."""
    super().__init__(signal.Signals(number).name)
    self.number = number


class Interrupts:
  """A context in which a signal is noted first, and the run ends by itself.

  The signals are SIGTERM, Ctrl-C, SIGHUP (a terminal that closes) and SIGUSR1
  (batch systems, ahead of their time limit). More of them within 3 seconds are
  the same request; a later one is impatience, and ends the process at once. A
  signal that the process ignores, as SIGHUP under nohup, stays ignored.

  Python runs no handler while its main thread is in XLA, which may compile for
  minutes. So a thread watches too: where nothing is unsaved it ends the process
  after a moment. Not in an interactive session, where impatience is a
  KeyboardInterrupt. Outside the main thread nothing is listened to.

  Attributes:
    number: of the first signal that came, or 0.
    unsaved: whether ending at once would lose progress; called in a thread.
  """

  def __init__(self) -> None:
    """Knows of nothing that is unsaved."""
    self.number = 0
    self.unsaved: Callable[[], bool] = lambda: False
    self._since: float | None = None
    self._ended = threading.Event()
    self._thread: threading.Thread | None = None

  def check(self) -> None:
    """Raises Stopped, in all processes, if a signal came to any."""
    if number := multihost.max_over_hosts(self.number):
      raise Stopped(number)

  def checked(self, items: Iterable[T]) -> Iterator[T]:
    """Yields the items, with a check before each."""
    for item in items:
      self.check()
      yield item

  def __enter__(self) -> "Interrupts":
    """Starts to listen."""
    self._before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
      return self
    handlers = {s: signal.getsignal(s) for s in _SIGNALS}
    self._before = {
      s: handler
      for s, handler in handlers.items()
      if handler not in (signal.SIG_IGN, None)  # None: not set by Python
    }
    interactive = hasattr(sys, "ps1")
    if not interactive:
      self._start_to_watch()
    for number in self._before:
      signal.signal(number, self._note_or_raise if interactive else self._note)
    return self

  def __exit__(self, *_) -> None:
    """Restores what was there before."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._ended.set()
    if self._thread is not None:
      signal.set_wakeup_fd(self._wakeup)
      os.close(self._writer)
      self._thread.join()

  def _note(self, number: int, _: Any) -> None:
    """Notes the signal; in the main thread, so maybe minutes after it came."""
    self.number = self.number or number

  def _note_or_raise(self, number: int, _: Any) -> None:
    """Handles a signal in an interactive session."""
    if self._is_impatience():
      raise KeyboardInterrupt
    self.number = self.number or number

  def _is_impatience(self) -> bool:
    now = time.monotonic()
    self._since = self._since or now
    return now - self._since > _SAME_REQUEST

  def _start_to_watch(self) -> None:
    reader, self._writer = os.pipe()
    os.set_blocking(self._writer, False)
    self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
    self._thread = threading.Thread(
      target=self._watch, args=(reader,), daemon=True
    )
    self._thread.start()

  def _watch(self, reader: int) -> None:
    """Sees every signal when it comes, whatever the main thread is in."""
    while data := os.read(reader, 1):
      number = data[0]
      if number not in self._before:
        continue
      if self._since is None:
        threading.Thread(target=self._end_if_saved, daemon=True).start()
      self._note(number, None)
      if self._is_impatience():
        _end(number, "asked twice, so what is unsaved is lost")
    os.close(reader)

  def _end_if_saved(self) -> None:
    # Not jax.process_count(), which would start the devices.
    many = jax.distributed.is_initialized()
    grace = _GRACE_OF_MANY if many else _GRACE
    while not self._ended.wait(grace):
      if not self.unsaved():
        _end(self.number, "nothing is unsaved")


def _end(number: int, why: str) -> None:
  """Ends this process at once, and says why if that doesn't take long."""
  text = f"{signal.Signals(number).name}: {why}; the same command continues."
  printing = threading.Thread(
    target=print, args=(text,), kwargs={"flush": True}, daemon=True
  )
  printing.start()
  printing.join(timeout=1)
  os._exit(128 + number)
