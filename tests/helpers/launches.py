"""Runs of experiments.train in processes that have imported all they need.

A server imports once, before anything of jax has started, and forks for every
launch: that saves ten seconds each.
"""

import contextlib
import multiprocessing
import os
import pathlib
import socket
import sys
import tempfile
import time

from helpers import moments, runs

CONFIG = "--config=tests/helpers/faulty_config.py"
IMPORTS = [
  "helpers.launches",
  "experiments.train",
  "experiments.curves",
  "matplotlib.figure",
  "pkpo_jax.training.loop",
  "pkpo_jax.tasks.countdown",
]
TIMEOUT = 400  # seconds for a launch: other programs may be at work too
OTHERS = 45  # seconds for other processes of a run once one has failed


class Launch:
  """experiments.train in one process, or in `processes` of them."""

  def __init__(
    self,
    workdir,
    *options,
    plans=((),),
    streams=None,
    environment=None,
    second=(),
  ):
    """Starts it.

    Args:
      workdir: the run's.
      options: of the command.
      plans: for each process, its `moments`.
      streams: what it may write to instead of a file, see `_redirect`.
      environment: variables, beside those of this process.
      second: options of the second process alone.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)
    port = free_port()
    many = [one_of_many(i, len(plans), port) for i in range(len(plans))]
    arguments = [CONFIG, f"--workdir={workdir}", f"--base_dir={workdir}/base"]
    arguments += [*options, *(["--distributed"] if len(plans) > 1 else [])]
    folder = pathlib.Path(tempfile.mkdtemp())
    self.logs = [folder / f"output_{i}" for i in range(len(plans))]
    self.processes = []
    for i, (plan, log) in enumerate(zip(plans, self.logs)):
      variables = runs.environment() | many[i] | (environment or {})
      own = [*arguments, *(second if i else ())]
      process = context.Process(
        target=_run, args=(own, plan, log, streams, variables)
      )
      process.start()
      self.processes.append(process)

  def finish(self):
    """The exit codes and the outputs; who outlives another's end is killed."""
    deadline = time.monotonic() + TIMEOUT
    while any(p.is_alive() for p in self.processes):
      if any(p.exitcode for p in self.processes):
        deadline = min(deadline, time.monotonic() + OTHERS)
      for process in self.processes:
        process.join(0.2)
      if time.monotonic() > deadline:
        break
    for process in self.processes:
      process.kill()
      process.join()
    outputs = [log.read_text() if log.exists() else "" for log in self.logs]
    return [p.exitcode for p in self.processes], outputs


def one_of_many(index, count, port):
  """The variables by which a process finds the others."""
  if count == 1:
    return {}
  return {
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": str(count),
    "JAX_PROCESS_ID": str(index),
  }


def free_port():
  """A port that nobody listens at."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _run(arguments, plan, log, streams, variables):
  """What a new process does: it becomes the command."""
  os.setsid()
  os.chdir(runs.ROOT)
  os.environ.update(variables)
  runs.heed_signals()
  _redirect(streams, log)
  moments.follow(plan)
  sys.argv = ["experiments.train", *arguments]
  from experiments import train

  train.main()


def _redirect(streams, log):
  """Points output and error to a file, or to nobody."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):
      stream.flush()
  if streams == "closed":
    for number in range(3):
      os.close(number)
    sys.stdout = sys.stderr = None  # as Python has them then
    return
  if streams == "full":
    log = pathlib.Path("/dev/full")
  number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
  if streams == "gone":
    reader, number = os.pipe()
    os.close(reader)
  for stream in (1, 2):
    os.dup2(number, stream)
  # Those of the server remember what their files could do.
  sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
  sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
