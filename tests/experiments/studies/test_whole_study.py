"""A small study as a user runs it: trained, stopped, continued and drawn."""

import csv
import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from helpers import tiny_study

from experiments.studies import results
from experiments.studies import run as runner

pytestmark = pytest.mark.verify(
  "experiments/studies",
  "experiments/paper",
  "pkpo_jax/training",
  "tests/helpers/tiny_study.py",
)

ROOT = pathlib.Path(__file__).parents[3]
STUDY = tiny_study.STUDY
# Most of the time goes into compiling: once, and without optimising.
ENVIRONMENT = {
  "XLA_FLAGS": "--xla_backend_optimization_level=0",
  "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
  **os.environ,
}


def command(folder):
  return [
    sys.executable,
    "-m",
    "experiments.studies.run",
    f"--study={STUDY.name}",
    f"--results={folder / 'results'}",
    f"--runs={folder / 'runs'}",
    f"--base_dir={folder / 'base'}",
  ]


def run(folder, *options):
  """How many runs its processes finished."""
  result = subprocess.run(
    [*command(folder), *options],
    cwd=ROOT,
    env=ENVIRONMENT,
    capture_output=True,
    text=True,
    timeout=400,
    check=False,
  )
  assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
  counts = re.findall(r"(\d+) runs finished", result.stdout)
  return sum(map(int, counts))


def stop_in_a_run(folder):
  """Sends SIGTERM to the command when its first run has done 3 steps."""
  process = subprocess.Popen(
    command(folder),
    cwd=ROOT,
    env=ENVIRONMENT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 300
  while process.poll() is None and time.monotonic() < deadline:
    metrics = list(folder.glob("runs/*/metrics.jsonl"))
    if metrics and metrics[0].read_text().count('"train"') >= 3:
      process.send_signal(signal.SIGTERM)
      break
    time.sleep(0.002)
  return process.wait(timeout=120)


def plan(folder):
  folders = runner.Folders(folder / "results", folder / "runs", folder / "base")
  return runner.plan(STUDY, folders).splitlines()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  """The folders of the study: stopped in its first run, then continued.

  By two processes that share what is left, where there are two cores.
  """
  folder = tmp_path_factory.mktemp("study")
  assert stop_in_a_run(folder) == 143
  assert "0 of 4 runs are done" in plan(folder)[0]
  assert "step" in plan(folder)[2]
  assert run(folder, f"--processes={min(2, len(os.sched_getaffinity(0)))}") == 4
  return folder


def test_all_runs_have_results(study):
  done, other = results.load(STUDY, study / "results")
  assert len(done) == 4 and not other
  for result in done.values():
    np.testing.assert_array_equal(result.train["step"], range(20))
    np.testing.assert_array_equal(result.test["step"], [0, 10, 20])
    assert np.isfinite(result.test["pass@4"]).all()
    assert result.seconds > 0 and result.commit
  annealed = next(r for run, r in done.items() if run.arm == "annealed")
  np.testing.assert_array_equal(annealed.train["k"], [2] * 10 + [1] * 10)


def test_a_second_call_runs_nothing(study):
  before = {path: path.stat() for path in study.rglob("*") if path.is_file()}
  assert "4 of 4 runs are done" in plan(study)[0]
  assert run(study) == 0
  after = {path: path.stat() for path in study.rglob("*") if path.is_file()}
  assert [s.st_mtime_ns for s in before.values()] == [
    after[path].st_mtime_ns for path in before
  ]
  assert before.keys() == after.keys()


@pytest.mark.parametrize("name", STUDY.figures)
def test_its_figures_are_drawn(name, study, tmp_path):
  module = importlib.import_module(f"experiments.paper.{name}")
  module.draw(tmp_path, study=STUDY.name, results=study / "results")
  ending = "md" if name == "tables" else "png"
  assert (tmp_path / f"{name}_{STUDY.name}.{ending}").stat().st_size > 500
  path = tmp_path / f"{name}_{STUDY.name}.csv"
  with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert {"k1", "annealed"} <= {row["arm"] for row in rows}
  trained = [row for row in rows if row["arm"] != "base policy"]
  assert all(np.isfinite(float(row["error"])) for row in trained)
