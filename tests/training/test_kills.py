"""Runs that are killed at any moment continue bit for bit."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import launches, moments, runs

# Kind of work -> how many of it a launch may begin, and for how many seconds it
# then goes on, at most.
MOMENTS = {
  "sampling and grading": (7, 0.05),
  "grading": (9, 0.02),
  "update": (7, 0.05),
  "save": (3, 0.2),
  "batch of an evaluation": (3, 0.05),
  "start": (1, 6.0),
}
START = 4.0  # seconds of a processor that a start takes, about
OPTIONS = ("--config.eval.every=6",)


def kill_at_a_moment(workdir, kind, number, seconds, *options):
  plan = [moments.Moment(kind, number, moments.die, (seconds,))]
  launch = launches.Launch(workdir, *OPTIONS, *options, plans=[plan])
  codes, outputs = launch.finish()
  assert codes == [-signal.SIGKILL], outputs


def kill_before_it_has_begun(workdir, seconds, *options):
  """While Python imports, by the seconds that it has computed for."""
  command = [sys.executable, "-m", "experiments.train", launches.CONFIG]
  command += [f"--workdir={workdir}", *OPTIONS, *options]
  process = subprocess.Popen(
    command, cwd=runs.ROOT, env=runs.environment(), stderr=subprocess.DEVNULL
  )
  stat = pathlib.Path(f"/proc/{process.pid}/stat")
  ticks = seconds * os.sysconf("SC_CLK_TCK")
  while int(stat.read_text().rsplit(") ")[1].split()[11]) < ticks:
    assert process.poll() is None
    time.sleep(0.01)
  process.kill()
  assert process.wait() == -signal.SIGKILL


def kill(workdir, kinds, rng, *options):
  """Kills as many launches as there are kinds, each in a moment of its kind."""
  for i, kind in enumerate(kinds):
    most, seconds = MOMENTS[kind]
    number, seconds = rng.randint(1, most), rng.uniform(0, seconds)
    if kind == "start" and rng.random() < 0.5:
      kill_before_it_has_begun(workdir, rng.uniform(0, START), *options)
    else:
      kill_at_a_moment(workdir, kind, number, seconds, *options)
    steps = runs.train_steps(workdir)
    reached = f"step {steps[-1]}" if steps else "no step"
    print(f"kill {i + 1}: {kind} {number} + {seconds:.3f} s, at {reached}")


def check(folder, kinds, seed, *options):
  """Kills a run so often, continues it, and compares it to an undisturbed."""
  kill(folder / "killed", kinds, random.Random(seed), *options)
  for name in ("killed", "whole"):
    codes, outputs = launches.Launch(folder / name, *OPTIONS, *options).finish()
    assert codes == [0], outputs
  runs.assert_same(folder / "killed", folder / "whole")


@pytest.mark.slow
def test_killed_three_times(tmp_path):
  check(tmp_path, ["update", "save", "grading"], 3, "--config.num_steps=12")


@pytest.mark.timeout(7200)
@pytest.mark.verify("pkpo_jax/training", "pkpo_jax/rl", "experiments/train.py")
def test_killed_forty_times(tmp_path):
  """At seeded moments of every kind, in an order that is seeded too."""
  kinds = [kind for kind in MOMENTS for _ in range(7)][:40]
  random.Random(0).shuffle(kinds)
  check(tmp_path, kinds, 1, "--config.num_steps=150")
