"""training.lock: one process in a folder, and it is named."""

import json
import os
import signal
import subprocess
import sys

import pytest

from pkpo_jax.training import lock

HOLD = """
import pathlib, subprocess, sys
from pkpo_jax.training import lock
lock.acquire(pathlib.Path(sys.argv[1]))
pathlib.Path(sys.argv[1], "lock").read_text()  # which must not give it back
child = subprocess.Popen(["sleep", "60"])  # as graders, which may outlive it
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  command = [sys.executable, "-c", HOLD, str(tmp_path)]
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
  process = subprocess.Popen(command, text=True, **pipes)
  child = int(process.stdout.readline())
  yield process
  process.kill()
  process.wait()
  os.kill(child, signal.SIGKILL)


def test_another_process_is_refused_and_told_who_holds_it(holder, tmp_path):
  message = rf"Another run is at work in .* \(process {holder.pid} on .*since"
  with pytest.raises(ValueError, match=message):
    lock.acquire(tmp_path)


def test_the_lock_of_a_killed_process_is_taken_with_a_word(
  holder, tmp_path, capsys
):
  holder.kill()
  holder.wait()
  lock.acquire(tmp_path)
  printed = capsys.readouterr().out
  assert f"process {holder.pid} on" in printed
  assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()
  lock.acquire(tmp_path)  # again
  lock.release(tmp_path)
  lock.release(tmp_path)
  assert (tmp_path / "lock").read_text() == ""
  lock.acquire(tmp_path)
  assert capsys.readouterr().out == ""
  lock.release(tmp_path)


TAKE_TURNS = """
import pathlib, sys, time
from pkpo_jax.training import lock
path = pathlib.Path(sys.argv[1])
with lock.in_turn(path / "turn", "waiting"):
  print("in", flush=True)
  done = (path / "done").exists()
  sys.stdin.read()
  (path / "done").touch()
print(done)
"""


def test_processes_take_turns(tmp_path):
  """The second waits, says so, and finds what the first has done."""
  command = [sys.executable, "-c", TAKE_TURNS, str(tmp_path)]
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
  first = subprocess.Popen(command, text=True, **pipes)
  assert first.stdout.readline() == "in\n"
  second = subprocess.Popen(command, text=True, **pipes)
  assert second.stdout.readline() == "waiting\n"
  assert first.communicate()[0] == "False\n"
  assert second.communicate()[0] == "in\nTrue\n"
  assert [path.name for path in tmp_path.iterdir()] == ["done"]
