"""One run at a time in a folder: a lock that names who holds it."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
import warnings
from collections.abc import Iterator
from typing import IO


class HeldError(ValueError):
  """Another process is at work in a folder."""


_HELD: dict[pathlib.Path, IO[str]] = {}  # by this process


def acquire(folder: pathlib.Path) -> None:
  """Locks a folder for this process, until `release` or its end.

  The lock is one of the file system, so that none outlives its process; the
  file says whose it is. Taken again by the same process, nothing happens.

  Raises:
    HeldError: another process holds it; says which.
  """
  path = folder.resolve() / "lock"
  if path in _HELD:
    return
  file = path.open("a+")
  try:
    # Not lockf, whose lock is gone when the process closes the file elsewhere.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except (BlockingIOError, PermissionError) as error:
    holder = _holder(file)
    file.close()
    raise HeldError(
      f"Another run is at work in {folder}{holder}; wait for it, end it, or"
      " take a new --workdir."
    ) from error
  except OSError as error:  # some network file systems have no locks
    warnings.warn(
      f"{path} cannot be locked ({error.strerror}): make sure that no other"
      " run works in this folder.",
      stacklevel=2,
    )
  if holder := _holder(file):
    print(f"The last run in {folder}{holder} ended without a word.")
  _write(
    file,
    {
      "host": socket.gethostname(),
      "process": os.getpid(),
      "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    },
  )
  _HELD[path] = file


def release(folder: pathlib.Path) -> None:
  """Gives a folder back, if this process holds it."""
  file = _HELD.pop(folder.resolve() / "lock", None)
  if file is not None:
    with file:
      _write(file, {})


@contextlib.contextmanager
def in_turn(path: pathlib.Path, waiting: str) -> Iterator[None]:
  """A context that one process at a time is in; others wait for it.

  Nothing may depend on it but the work that is saved: some file systems have
  no locks, and who comes as another leaves may not see it.

  Args:
    path: of an empty file, which is there meanwhile.
    waiting: what to print before a wait.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
      print(waiting, flush=True)
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks: then all at once
      pass
    try:
      yield
    finally:
      path.unlink(missing_ok=True)


def _write(file: IO[str], holder: dict[str, str | int]) -> None:
  file.seek(0)
  file.truncate()
  if holder:
    file.write(json.dumps(holder) + "\n")
  file.flush()


def _holder(file: IO[str]) -> str:
  """Whose lock a file is, in words; "" if it was given back."""
  file.seek(0)
  text = file.read()
  try:
    holder = json.loads(text)
    return " (process {process} on {host}, since {since})".format(**holder)
  except (ValueError, KeyError, TypeError):
    return f" ({text.strip()[:80]})" if text.strip() else ""
