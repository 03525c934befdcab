r"""A worker of `pool`: `python -P worker.py FD`, with a pipe at FD.

It runs as a script and stands in for the packages around the graders of
pkpo_jax, so that it imports the grading function's module and nothing else:
never jax, which would take hold of the accelerator.
"""

import fcntl
import importlib
import inspect
import json
import math
import numbers
import os
import resource
import select
import signal
import sys
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

# The exit status of a worker whose answer needed more memory than allowed.
OUT_OF_MEMORY = 77
# How the reasons begin that tell of a mistake in the grading function.
NO_GRADE = "the grader"
# And that of an answer by which it raised.
ERROR = "error"
_LONGEST_REASON = 200  # characters


def main() -> None:
  """Loads the grading function, says so, and grades until the pipe closes."""
  # Ctrl-C is for the parent, which then closes the pipe.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  _die_with_parent(sys.stdin.fileno())
  connection = Connection(int(sys.argv[1]))
  setup = connection.recv()
  try:
    grade = _load(setup["grade"], setup["path"], setup["packages"])
    _limit_memory(setup["memory"])
  except BaseException as error:
    _send(connection, f"{type(error).__name__}: {error}")
    return
  _send(connection, "ready")
  while True:
    _send(connection, _grade(grade, _receive(connection)))


def _die_with_parent(lifeline: int) -> None:
  """Has the kernel end this process when the pipe's other end closes.

  That works while Python hangs in one long computation, too, where a thread
  that watches the pipe would not run. The parent never writes to this pipe.
  """
  if sys.platform == "linux":  # Elsewhere SIGIO is ignored by default.
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
  if select.select([lifeline], [], [], 0)[0]:  # It closed before that.
    os._exit(0)


def _load(
  target: str, path: Sequence[str], packages: Mapping[str, Sequence[str]]
) -> Callable[..., Any]:
  """Imports "module:function"; `packages` maps packages to their folders.

  Those are empty here: their __init__ would import what they offer.
  """
  sys.path[:] = path
  for name, folders in packages.items():
    package = types.ModuleType(name)
    package.__path__ = list(folders)
    sys.modules[name] = package
  module, _, name = target.partition(":")
  grade = getattr(importlib.import_module(module), name)
  if not callable(grade):
    raise TypeError(f"{target!r} is {type(grade).__name__}, not a function")
  return grade


def _limit_memory(extra: int) -> None:
  """Allows this process `extra` bytes more than it has now; on Linux."""
  if sys.platform != "linux":
    return
  with open("/proc/self/statm", encoding="ascii") as file:
    pages = int(file.read().split()[0])
  limit = pages * resource.getpagesize() + extra
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  if hard != resource.RLIM_INFINITY:
    limit = min(limit, hard)
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _receive(connection: Connection) -> tuple:
  """The next answer; ends the process when there is none."""
  try:
    return connection.recv()
  except (EOFError, ConnectionError):
    os._exit(0)
  except MemoryError:
    os._exit(OUT_OF_MEMORY)


def _grade(grade: Callable[..., Any], answer: tuple) -> tuple[float, bool, str]:
  """Reward, valid, reason.

  An exception is the fault of the answer, unless it tells that the grader could
  not raise anything else there: a misspelt name, a package that is not here.
  """
  try:
    return _read(grade(*answer))
  except MemoryError:
    # What is left of the memory may be too little for the next answer.
    os._exit(OUT_OF_MEMORY)
  except BaseException as error:
    if isinstance(error, TypeError) and not _takes(grade, answer):
      return 0.0, False, f"{NO_GRADE} does not take {len(answer)} arguments"
    said = " ".join(traceback.format_exception_only(error)[-1].split())
    said = said[:_LONGEST_REASON]
    if _is_in_source(error):
      return 0.0, False, f"{NO_GRADE} raised {said}"
    return 0.0, True, f"{ERROR}: {said}"


def _is_in_source(error: BaseException) -> bool:
  """Whether it is about the source of a file, not of an evaluated answer."""
  if isinstance(error, SyntaxError):
    file = error.filename or "<"
  elif isinstance(error, NameError | ImportError):
    file = traceback.extract_tb(error.__traceback__)[-1].filename
  else:
    return False
  return not file.startswith("<")


def _read(result: Any) -> tuple[float, bool, str]:
  """The grade that a grading function returned; invalid if it is none."""
  is_whole = isinstance(result, tuple | list)
  parts = result if is_whole else (result, True, "graded")
  match tuple(map(_plain, parts)):
    case (numbers.Real() as reward, valid, str(reason)):
      if math.isfinite(reward) or not valid:
        return float(reward), bool(valid), reason
      return 0.0, False, f"{NO_GRADE} returned the reward {reward}"
  return 0.0, False, f"{NO_GRADE} returned {type(result).__name__}"


def _plain(value: Any) -> Any:
  """A number of numpy's as Python's; anything else as it is."""
  return value.item() if getattr(value, "shape", None) == () else value


def _takes(grade: Callable[..., Any], answer: tuple) -> bool:
  """Whether the function has parameters for that many arguments."""
  try:
    inspect.signature(grade).bind(*answer)
  except TypeError:
    return False
  except ValueError:  # A builtin may not tell.
    pass
  return True


def _send(connection: Connection, message: Any) -> None:
  """Sends it as JSON: what comes from a worker must not run anything."""
  try:
    connection.send_bytes(json.dumps(message).encode())
  except ConnectionError:  # The parent is gone.
    os._exit(0)


if __name__ == "__main__":
  main()
