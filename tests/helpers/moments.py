"""What is done to a run at some moments of it, from within its process.

A moment is a kind of work, as the run names it to its watchdog, or "grading",
and which of that kind it is in this process, from 1 on.
"""

import collections
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

from helpers import disks


class Moment(NamedTuple):
  """Something to do once: `do(*args)`, in the main thread of the run."""

  kind: str
  number: int
  do: Any
  args: tuple = ()


_plan: list[Moment] = []
_counts: collections.Counter = collections.Counter()


def follow(plan):
  """Has what is planned done in this process."""
  from pkpo_jax.training import watchdog

  _plan[:] = plan
  begin = watchdog.Watchdog.begin

  def told(self, kind, where=""):
    begin(self, kind, where)
    reached(kind)

  watchdog.Watchdog.begin = told


def reached(kind):
  """Does what is planned for this moment; returns what that returns."""
  _counts[kind] += 1
  for moment in _plan:
    if moment[:2] == (kind, _counts[kind]):
      return moment.do(*moment.args)
  return None


def die(seconds=0.0):
  """SIGKILL after so long."""
  timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
  timer.daemon = True
  timer.start()


def send(*numbers, apart=0.002):
  """Sends signals to this process."""
  for number in numbers:
    os.kill(os.getpid(), number)
    time.sleep(apart)


def send_slowly(*numbers):
  """Sends signals 4 seconds apart, while the main thread hangs."""
  send(*numbers, apart=4.0)
  time.sleep(60)


def pause(seconds):
  """SIGSTOP, and SIGCONT after so long; None: never."""
  go_on = f"sleep {seconds}; kill -CONT {os.getpid()}" if seconds else ""
  process = subprocess.Popen(
    ["bash", "-c", f"kill -STOP {os.getpid()}; {go_on}"]
  )
  process.wait()


def hang(seconds):
  """A grader that takes so long."""
  time.sleep(seconds)


def give(reward):
  """The reward of the first answer."""
  return reward


def fail():
  """An error of a grader's."""
  raise RuntimeError("the grader broke")


def leave(code):
  """Ends the process as a library in C may."""
  os._exit(code)


def start_rival():
  """Runs the same command as this process does."""
  command = [sys.executable, "-m", *sys.argv]
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  assert result.returncode == 2, result.stderr
  print(result.stderr, flush=True)


def lose(name):
  """Puts the open files of that name on a full disk."""
  for link in pathlib.Path("/proc/self/fd").iterdir():
    if link.is_symlink() and name in os.readlink(link):
      with pathlib.Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), int(link.name))


def fill(folder):
  """Takes all the room of a small disk."""
  disks.fill(pathlib.Path(folder))
