"""Which processes of a test are still alive."""

import pathlib
import time


def processes_with(mark):
  """The processes whose command line holds a text; zombies have none."""
  found = []
  for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
      text = path.read_bytes()
    except OSError:  # it ended
      continue
    if mark.encode() in text:
      found.append(path.parent.name)
  return found


def wait_until_gone(mark):
  deadline = time.monotonic() + 10
  while left := processes_with(mark):
    assert time.monotonic() < deadline, f"still alive: {left}"
    time.sleep(0.05)
