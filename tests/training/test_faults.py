"""Runs that lose their disk, their reader or their streams."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from helpers import disks, quick_config, runs
from tensorboard.backend.event_processing import event_accumulator

from pkpo_jax.training import loop

FULL = pathlib.Path("/dev/full")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing happened to."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  code, output = runs.run(folder)
  assert code == 0, output[-3000:]
  return folder


@pytest.mark.parametrize(
  "streams",
  ["2>&1 | head -c 300", "<&- >&- 2>&-", "> /dev/full 2>&1"],
)
def test_nobody_listens_and_the_run_goes_on(streams, whole, tmp_path):
  line = f"({runs.command(tmp_path / 'run')}) {streams}"
  code, _ = runs.finish(runs.start(line, stdout=subprocess.DEVNULL))
  assert code == 0
  runs.assert_same(tmp_path / "run", whole)


def test_ctrl_c_to_a_run_in_a_pipe_saves(whole, tmp_path):
  """It ends `tee` as well, and so what the run prints goes nowhere."""
  workdir = tmp_path / "run"
  line = f"({runs.command(workdir)}) 2>&1 | tee {tmp_path / 'log'}; "
  process = runs.start(f"{line} exit ${{PIPESTATUS[0]}}")
  runs.wait_for(process, lambda: 2 in runs.train_steps(workdir))
  os.killpg(process.pid, signal.SIGINT)
  runs.finish(process)
  assert runs.saved_steps(workdir)[-1] == runs.train_steps(workdir)[-1] + 1
  code, output = runs.run(workdir)
  assert code == 0, output
  runs.assert_same(workdir, whole)


def train(workdir):
  return loop.train(quick_config.get_config(), workdir, workdir / "base")


@pytest.fixture
def after(monkeypatch):
  """Has something done after a step of a run in this process."""
  take = loop.Run.train

  def arrange(step, do):
    def taken(self, now):
      take(self, now)
      if now == step:
        do(self)

    monkeypatch.setattr(loop.Run, "train", taken)

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


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_metrics_that_cannot_be_written_end_the_run(after, tmp_path):
  def lose_metrics(run):
    with FULL.open("wb") as full:
      os.dup2(full.fileno(), run._writer._file.fileno())

  after(2, lose_metrics)
  with pytest.raises(OSError, match=r"No space left.*run/metrics\.jsonl"):
    train(tmp_path / "run")


def test_signals_that_come_together_are_one_request(whole, tmp_path):
  """As a terminal that closes, and `uv run`, send them."""
  workdir = tmp_path / "run"
  process = runs.start(runs.command(workdir), stdout=subprocess.PIPE)
  runs.wait_for(process, lambda: 2 in runs.train_steps(workdir))
  for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
    process.send_signal(number)
    time.sleep(0.002)
  code, output = runs.finish(process)
  first = signal.Signals(code - 128)  # the system may deliver the second first
  assert first in (signal.SIGHUP, signal.SIGTERM)
  assert f"{first.name}: saved step" in output
  assert runs.saved_steps(workdir)[-1] == runs.train_steps(workdir)[-1] + 1
  code, output = runs.run(workdir)
  assert code == 0, output
  runs.assert_same(workdir, whole)


def test_the_last_evaluation_stops_within_a_batch(tmp_path):
  """Of a hundred; the run is complete but for it, and says so by its code."""
  options = ["--config.task.num_test=400", "--config.eval.num_problems=400"]
  options += ["--config.num_steps=2", "--config.eval.every=100"]
  workdir = tmp_path / "run"
  line = runs.command(workdir, *options)
  process = runs.start(line, stdout=subprocess.PIPE)
  runs.wait_for(process, lambda: runs.saved_steps(workdir) == [2])
  process.send_signal(signal.SIGTERM)
  start = time.monotonic()
  code, _ = runs.finish(process)
  assert code == 128 + signal.SIGTERM
  assert time.monotonic() - start < 10
  assert [r["stage"] for r in runs.records(workdir)] == ["eval"] + ["train"] * 2
