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
