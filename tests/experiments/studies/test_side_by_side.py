"""Several processes of the runner, on cores of their own."""

import os
import subprocess
import sys

import pytest

from experiments.studies import side_by_side

CHILD = """
import os, sys, time
print(sorted(os.sched_getaffinity(0)), os.environ["GLIBC_TUNABLES"])
print(sys.argv[1:])
sys.exit({code})
"""


@pytest.fixture
def started(monkeypatch, tmp_path):
  """Stands in for the runner: notes what it was started with."""
  real, outputs = subprocess.Popen, []

  def popen(command, env):
    assert command[:3] == [sys.executable, "-m", "experiments.studies.run"]
    path = tmp_path / str(len(outputs))
    outputs.append(path)
    child = CHILD.format(code=3 * (len(outputs) == 2 and "--fail" in command))
    with path.open("w") as file:
      return real(
        [sys.executable, "-c", child, *command[3:]], env=env, stdout=file
      )

  monkeypatch.setattr(subprocess, "Popen", popen)
  return outputs


@pytest.fixture
def signals(monkeypatch):
  """Signals whose handlers were set, instead of setting them."""
  found = {}
  monkeypatch.setattr(side_by_side.signal, "signal", found.__setitem__)
  return found


@pytest.mark.skipif(
  not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
  reason="needs two cores that processes can be kept on",
)
@pytest.mark.parametrize(("option", "code"), [("--dry", 0), ("--fail", 3)])
def test_each_has_a_core_and_the_command_without_more_processes(
  option, code, started, signals
):
  cores = sorted(os.sched_getaffinity(0))
  assert side_by_side.run(2, ["--processes=2", option]) == code
  for core, path in zip(cores, started, strict=False):
    where, options = path.read_text().splitlines()
    assert where == f"[{core}] glibc.malloc.hugetlb=1"
    assert options == f"['--processes=2', '{option}', '--processes=1']"
  assert sorted(os.sched_getaffinity(0)) == cores
  assert signals.keys() == {
    side_by_side.signal.SIGINT,
    side_by_side.signal.SIGTERM,
  }


def test_more_processes_than_cores_are_an_error(started):
  with pytest.raises(ValueError, match="--processes=1000 must be at most"):
    side_by_side.run(1000, [])
  assert not started
