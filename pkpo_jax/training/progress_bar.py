"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time

import tqdm

_LINE_EVERY = 10  # steps
_APART = 5  # seconds between two lines at least


class ProgressBar:
  """Says how far a loop is, and how long it will take.

  On a terminal it is a bar; in a log file, where a bar would be one endless
  line, it is a plain line after the first step, the last, and every tenth
  between them if some seconds have passed.
  """

  def __init__(self, what: str, *, done: int, total: int):
    """Begins to show a loop that has done `done` of `total` steps."""
    self._what, self._done, self._total = what, done, total
    self._timed_from: tuple[float, int] | None = None
    self._said = -math.inf
    self._bar = tqdm.tqdm(
      total=total, initial=done, desc=what, unit="step", disable=None
    )

  def update(self, shown: dict[str, str]) -> None:
    """Counts one more step; `shown` is what to say of it."""
    self._done += 1
    if not self._bar.disable:
      self._bar.set_postfix(shown, refresh=False)
      self._bar.update()
      return
    now = time.monotonic()
    due = self._done % _LINE_EVERY == 0 and now - self._said > _APART
    if due or self._timed_from is None or self._done == self._total:
      parts = [f"{self._what} {self._done}/{self._total}", self._left(now)]
      parts += [f"{name}={value}" for name, value in shown.items()]
      print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)
      self._said = now
    if self._timed_from is None:  # that step compiled
      self._timed_from = now, self._done

  def say(self, message: str) -> None:
    """Prints a line above the bar."""
    self._bar.write(message)

  def close(self) -> None:
    """Leaves the bar as it is."""
    self._bar.close()

  def _left(self, now: float) -> str:
    """Time left, going by all steps but the first; "" before the second."""
    if self._timed_from is None:
      return ""
    since, step = self._timed_from
    seconds = (now - since) / (self._done - step)
    left = tqdm.tqdm.format_interval(seconds * (self._total - self._done))
    return f"{left} left"
