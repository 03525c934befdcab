"""SIGTERM and Ctrl-C as a request to save first."""

import signal
from typing import Any


class Interrupts:
  """A context in which the first SIGTERM or Ctrl-C is noted, not obeyed.

  A second one of the same kind is obeyed at once. A signal that the process
  ignores, as Ctrl-C in the background, stays ignored.

  Attributes:
    number: of the signal that came, or 0.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __enter__(self) -> "Interrupts":
    """Starts to listen."""
    self.number = 0
    handlers = {s: signal.getsignal(s) for s in self._SIGNALS}
    self._before = {
      s: handler for s, handler in handlers.items() if handler != signal.SIG_IGN
    }
    for number in self._before:
      signal.signal(number, self._note)
    return self

  def __exit__(self, *_) -> None:
    """Restores what was there before."""
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number: int, _: Any) -> None:
    self.number = number
    signal.signal(number, self._before[signal.Signals(number)])
