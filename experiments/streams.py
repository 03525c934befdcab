"""Streams that a command talks to, and that must not be able to end it."""

import contextlib
import os
import sys
from typing import Any


def make_tolerant() -> None:
  """Makes standard output and error of this process unable to raise.

  Whoever reads them may go away (`| head`, Ctrl-C that ends `| tee`), their
  disk may fill, or they may be closed from the start (`2>&-`): what is said
  then is lost, and the work goes on.
  """
  _fill_closed()
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    if stream is None:
      stream = open(os.devnull, "w")  # noqa: SIM115
    if not isinstance(stream, _Tolerant):
      setattr(sys, name, _Tolerant(stream))


def _fill_closed() -> None:
  """Opens /dev/null for each of the three streams that is closed.

  Otherwise the next file that is opened, metrics.jsonl say, would take its
  number, and get what libraries write to "standard error".
  """
  while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
    os.set_inheritable(number, True)
  os.close(number)


class _Tolerant:
  """A text stream that loses what it cannot write."""

  def __init__(self, stream: Any):
    self._stream = stream
    if hasattr(stream, "reconfigure"):
      stream.reconfigure(errors="replace")  # a terminal without "±", say

  def write(self, text: str) -> int:
    """Writes the text, or not."""
    try:
      return self._stream.write(text)
    except (OSError, ValueError):  # ValueError: it was closed
      return len(text)

  def writelines(self, lines: Any) -> None:
    """Writes the lines, or not."""
    for line in lines:
      self.write(line)

  def flush(self) -> None:
    """Flushes what was written, or not."""
    with contextlib.suppress(OSError, ValueError):
      self._stream.flush()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)
