"""Grading functions for the tests of the pool, run in its workers."""

import ctypes
import os
import signal
import sys
import time


def behave(what, argument=None):
  """Does as told."""
  return globals()[what](argument)


def echo(text):
  return 1.0, True, text


def half(_):
  return 0.5, False, "half"


def process(_):
  return 1.0, True, str(os.getpid())


def modules(_):
  return 1.0, True, " ".join(sys.modules)


def hash_seed(_):
  return 1.0, True, str(hash("any text"))


def sleep(seconds):
  time.sleep(seconds)
  return 1.0, True, "slept"


def sleep_deaf(seconds):
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  return sleep(seconds)


def hold_interpreter(_):
  """One long computation: no other thread of Python gets a turn."""
  return 9.0 ** (9 ** (9**9) % 2), True, ""


def leave_child(seconds):
  child = os.fork()
  if child == 0:
    time.sleep(seconds)
    os._exit(0)
  return 1.0, True, str(child)


def leave_child_and_hang(path):
  with open(path, "w", encoding="ascii") as file:
    file.write(leave_child(100)[2])
  return sleep(100)


def segfault(_):
  ctypes.string_at(0)


def leave(status):
  os._exit(status)


def crash_once(path):
  if not os.path.exists(path):
    with open(path, "w", encoding="ascii"):
      os.kill(os.getpid(), signal.SIGKILL)
  return 1.0, True, "second try"


def allocate(count):
  return 1.0, True, str(len(bytearray(count)))


def recurse(_):
  return recurse(_)


def fail(_):
  raise ValueError("no")


def exit_quietly(_):
  sys.exit(0)


def interrupt(_):
  raise KeyboardInterrupt


def print_much(_):
  print("x" * 1_000_000)
  print("x" * 1_000_000, file=sys.stderr)
  return 1.0, True, "printed"


def give(result):
  """The result itself, for what no grader should return."""
  return result


def confuse(_):
  return "1" + 1
