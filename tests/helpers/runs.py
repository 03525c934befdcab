"""Runs of the quick config: as a command in a shell, and what they leave."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
from helpers import process_pair

from pkpo_jax.training import metrics_writer

ROOT = pathlib.Path(__file__).parents[2]
TIMED = ("seconds", "tokens_per_second")
STEPS = 6


def command(workdir, *options):
  """A line for a shell."""
  return " ".join(
    [
      f"exec {sys.executable} -m experiments.train",
      "--config=tests/helpers/quick_config.py",
      f"--workdir={workdir} --base_dir={workdir}/../base",
      *options,
    ]
  )


def environment():
  paths = f"{ROOT}:{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}"
  return os.environ | {"PYTHONPATH": paths}


def heed_signals():
  """Undoes what nohup, or a shell's background, has all it starts ignore."""
  signal.signal(signal.SIGHUP, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.default_int_handler)


def start(line, **options):
  """Starts a shell with a line, at the head of its own process group."""
  return subprocess.Popen(
    ["bash", "-c", f"set -o pipefail; {line}"],
    cwd=ROOT,
    env=environment(),
    text=True,
    start_new_session=True,
    preexec_fn=heed_signals,
    **options,
  )


def finish(process, timeout=240):
  """The exit code, and what it wrote to its pipes."""
  out, err = process.communicate(timeout=timeout)
  return process.returncode, (out or "") + (err or "")


def run(workdir, *options):
  """Runs to the end; returns the exit code and all output."""
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
  return finish(start(command(workdir, *options), **pipes))


def wait_for(process, condition, timeout=240):
  """Waits until something is true of a run that is still going on."""
  deadline = time.monotonic() + timeout
  while not condition():
    assert process.poll() is None, f"ended with {process.returncode}"
    assert time.monotonic() < deadline, "waited in vain"
    time.sleep(0.005)


def records(workdir):
  """The metrics without times."""
  return [
    {name: x for name, x in record.items() if not name.startswith(TIMED)}
    for record in metrics_writer.read(workdir / "metrics.jsonl")
  ]


def train_steps(workdir):
  return [r["step"] for r in records(workdir) if r["stage"] == "train"]


def saved_steps(workdir):
  names = [path.name for path in (workdir / "checkpoints").glob("*")]
  return sorted(int(name) for name in names if name.isdigit())


def final_state(workdir):
  """The newest checkpoint: name -> array, wherever its parts were saved."""
  return process_pair.saved(workdir)


def assert_same(workdir, expected):
  """Metrics and the last checkpoint are the same, bit for bit."""
  import jax

  assert records(workdir) == records(expected)
  jax.tree.map(
    np.testing.assert_array_equal, final_state(workdir), final_state(expected)
  )
