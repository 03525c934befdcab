"""experiments.train in two processes, and what such a run has left."""

import contextlib
import math
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from pkpo_jax.lm import sharding
from pkpo_jax.training import metrics_writer

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 8
OPTIONS = (
  "--config=tests/helpers/tiny_config.py",
  f"--config.num_steps={STEPS}",
  "--config.eval.every=4",
  "--config.base.num_steps=150",  # so that some answers are right
  "--config.stop=('+ +',)",
  "--config.mesh.data=2",
  "--config.mesh.fsdp=4",
  "--config.microbatch.rows=8",
  "--config.k_schedule=by_problem",
)
# Lines of the collectives, which several threads write at once, and of XLA.
NOT_OURS = re.compile(
  r"(\[Gloo\]|Rank|is|connected|to|peer|ranks\.?|Expected|number|of|:|\d|\s)*"
  r"|[IW]\d{4} .*"
)
# Rounding may differ in these; all else is counted.
ROUNDED = (
  "entropy",
  "loss",
  "grad_norm",
  "clip_fraction",
  "log_prob_mismatch_mean",
  "log_prob_mismatch_max",
)


def environment(devices, **others):
  flags = (
    f"--xla_force_host_platform_device_count={devices}"
    # Compiled in a hurry: these programs run but a few times.
    " --xla_backend_optimization_level=0"
  )
  return os.environ | {
    "XLA_FLAGS": flags,
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    **others,
  }


def run_single(*arguments, devices=1):
  result = subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    env=environment(devices),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]


class Pair:
  """experiments.train in two processes with four devices each."""

  def __init__(self, workdir, base_dir, *, only_second=()):
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      port = free.getsockname()[1]
    command = [
      *(sys.executable, "-m", "experiments.train", "--distributed", *OPTIONS),
      *(f"--workdir={workdir}", f"--base_dir={base_dir}"),
    ]
    folder = pathlib.Path(tempfile.mkdtemp())
    self._outputs = [folder / f"output_{i}" for i in range(2)]
    self.processes = []
    for i, path in enumerate(self._outputs):
      with path.open("w") as file:
        process = subprocess.Popen(
          [*command, *(only_second if i else ())],
          cwd=ROOT,
          env=environment(
            devices=4,
            JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(i),
          ),
          stdout=file,
          stderr=subprocess.STDOUT,
        )
      self.processes.append(process)

  def wait(self, timeout):
    """The exit codes and the outputs."""
    deadline = time.monotonic() + timeout
    try:
      codes = [
        process.wait(timeout=max(0.1, deadline - time.monotonic()))
        for process in self.processes
      ]
    finally:
      for process in self.processes:
        with contextlib.suppress(ProcessLookupError):
          process.kill()
    return codes, [path.read_text() for path in self._outputs]


def run_pair(workdir, base_dir):
  codes, outputs = Pair(workdir, base_dir).wait(timeout=300)
  assert codes == [0, 0], [output[-2000:] for output in outputs]
  return outputs


def signal_pair(workdir, base_dir, *, step, number, process):
  """Sends a signal to one process as soon as the run has logged the step.

  Returns:
    Exit codes, outputs, and the seconds from the signal to the end of both.
  """
  pair = Pair(workdir, base_dir)
  deadline = time.monotonic() + 300
  while time.monotonic() < deadline:
    if any(p.poll() is not None for p in pair.processes):
      break
    if step in [r["step"] for r in records(workdir) if r["stage"] == "train"]:
      pair.processes[process].send_signal(number)
      break
    time.sleep(0.005)
  start = time.monotonic()
  codes, outputs = pair.wait(timeout=120)
  return codes, outputs, time.monotonic() - start


def records(workdir):
  """The metrics without times."""
  return [
    {
      name: x
      for name, x in record.items()
      if not name.startswith(("seconds", "tokens_per_second"))
    }
    for record in metrics_writer.read(workdir / "metrics.jsonl")
  ]


def saved_steps(workdir):
  names = [path.name for path in (workdir / "checkpoints").iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


def saved(workdir):
  """The newest checkpoint as orbax alone reads it: name -> array."""
  path = workdir / "checkpoints" / str(saved_steps(workdir)[-1]) / "default"
  checkpointer = ocp.PyTreeCheckpointer()
  args = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
    checkpointer.metadata(path.absolute()).item_metadata.tree,
  )
  tree = checkpointer.restore(path, restore_args=args)
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {sharding.name_of(path): np.asarray(x) for path, x in leaves}


def run_alone(workdir, base_dir):
  """The same run in one process with eight devices."""
  single = ("-m", "experiments.train", *OPTIONS, f"--base_dir={base_dir}")
  run_single(*single, f"--workdir={workdir}", devices=8)


def own_lines(output):
  """The lines that we print, without those of Gloo and XLA."""
  return [line for line in output.splitlines() if not NOT_OURS.fullmatch(line)]


def assert_same_to_rounding(workdir, expected_workdir):
  """All that is counted is equal, the rest within the rounding of sums."""
  ours, expected = records(workdir), records(expected_workdir)
  assert len(ours) == len(expected) == STEPS + 3
  assert max(r["pass@1"] for r in expected) > 0
  for mine, theirs in zip(ours, expected):
    for name in ROUNDED:
      if name in theirs:
        pair = mine.pop(name), theirs.pop(name)
        assert math.isclose(*pair, rel_tol=1e-4, abs_tol=1e-5), name
    assert mine == theirs
  arrays, expected = saved(workdir), saved(expected_workdir)
  assert arrays.keys() == expected.keys()
  for name in arrays.keys() - {"checksums"}:
    atol = 1e-4 * np.abs(expected[name].astype(float)).max()
    np.testing.assert_allclose(
      arrays[name].astype(float), expected[name], atol=atol, err_msg=name
    )
