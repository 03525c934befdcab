"""Runs that lose their disk or their reader; helpers.fault_table has more."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from helpers import disks, quick_config, runs
from tensorboard.backend.event_processing import event_accumulator

from pkpo_jax.training import loop, run

FULL = pathlib.Path("/dev/full")
pytestmark = pytest.mark.slow


def train(workdir):
  return loop.train(quick_config.get_config(), workdir, workdir / "base")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing happened to."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  train(folder)
  return folder


def test_nobody_listens_and_the_run_goes_on(whole, tmp_path):
  line = f"({runs.command(tmp_path / 'run')}) 2>&1 | head -c 300"
  code, _ = runs.finish(runs.start(line, stdout=subprocess.DEVNULL))
  assert code == 0
  runs.assert_same(tmp_path / "run", whole)


def test_ctrl_c_to_a_run_in_a_pipe_saves(whole, tmp_path):
  """It ends `tee` as well, so that nobody reads; and comes three times."""
  workdir = tmp_path / "run"
  line = f"({runs.command(workdir)}) 2>&1 | tee {tmp_path / 'log'}; "
  process = runs.start(f"{line} exit ${{PIPESTATUS[0]}}")
  runs.wait_for(process, lambda: 2 in runs.train_steps(workdir))
  for _ in range(3):
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.002)
  runs.finish(process)
  assert runs.saved_steps(workdir)[-1] == runs.train_steps(workdir)[-1] + 1
  train(workdir)
  runs.assert_same(workdir, whole)


@pytest.fixture
def after(monkeypatch):
  """Has something done after a step of a run in this process."""
  take = run.Run.train

  def arrange(step, do):
    def taken(self, now):
      take(self, now)
      if now == step:
        do(self)

    monkeypatch.setattr(run.Run, "train", taken)

  return arrange


def test_a_disk_that_fills_is_an_error_and_nothing_is_lost(
  after, whole, tmp_path
):
  with disks.small(tmp_path / "disk", "2m") as disk:
    fillers = []
    after(2, lambda _: fillers.append(disks.fill(disk)))
    with pytest.raises(OSError, match=r"metrics\.jsonl|checkpoints"):
      train(disk / "run")
    fillers[0].unlink()
    after(-1, None)
    train(disk / "run")
    runs.assert_same(disk / "run", whole)


@pytest.mark.verify("pkpo_jax/training/metrics_writer.py")
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_run_goes_on_without_tensorboard(after, whole, tmp_path):
  """Its file is on a full disk from step 1 on; a later start draws it anew."""

  def lose_events(_):
    for link in pathlib.Path("/proc/self/fd").iterdir():
      if link.is_symlink() and "run/events.out" in os.readlink(link):
        with FULL.open("wb") as full:
          os.dup2(full.fileno(), int(link.name))

  after(1, lose_events)
  with pytest.warns(UserWarning, match="TensorBoard's file cannot be written"):
    train(tmp_path / "run")
  runs.assert_same(tmp_path / "run", whole)
  after(-1, None)
  train(tmp_path / "run")
  events = event_accumulator.EventAccumulator(str(tmp_path / "run")).Reload()
  steps = [e.step for e in events.Scalars("train/loss")]
  assert steps == list(range(runs.STEPS))
