"""Two processes as one run: the same result, and both end if one does."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import tiny_config

from pkpo_jax import multihost
from pkpo_jax.lm import sharding
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import metrics_writer

ROOT = pathlib.Path(__file__).parents[2]
CACHE = tempfile.mkdtemp()
STEPS = 8
OPTIONS = (
  "--config=tests/helpers/tiny_config.py",
  f"--config.num_steps={STEPS}",
  "--config.eval.every=4",
  "--config.base.num_steps=150",  # so that some answers are right
  "--config.mesh.data=2",
  "--config.mesh.fsdp=4",
  "--config.microbatch.prompts=4",
)
# Lines of the collectives, which several threads write at once, and of XLA.
NOT_OURS = re.compile(
  r"(\[Gloo\]|Rank|is|connected|to|peer|ranks\.?|Expected|number|of|:|\d|\s)*"
  r"|[IW]\d{4} .*"
)
# Rounding may differ in these; all else is counted.
ROUNDED = ("entropy", "loss", "grad_norm", "clip_fraction")


def environment(devices, **others):
  flags = (
    f"--xla_force_host_platform_device_count={devices}"
    # Compiled in a hurry: these programs run but a few times.
    " --xla_backend_optimization_level=0"
  )
  return os.environ | {
    "XLA_FLAGS": flags,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": CACHE,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
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
  return sorted(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*"))


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


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("base")
  run_single("-m", "experiments.pretrain", *OPTIONS, f"--base_dir={folder}")
  return folder


@pytest.fixture(scope="module")
def pair(base_dir, tmp_path_factory):
  """An uninterrupted run of two processes: its folder and its outputs."""
  folder = tmp_path_factory.mktemp("pair")
  return folder, run_pair(folder, base_dir)


@pytest.mark.slow
def test_two_processes_do_what_one_does(pair, base_dir, tmp_path):
  """2 processes x 4 devices against 1 x 8, on the same mesh."""
  workdir, _ = pair
  single = ("-m", "experiments.train", *OPTIONS, f"--base_dir={base_dir}")
  run_single(*single, f"--workdir={tmp_path}", devices=8)
  ours, expected = records(workdir), records(tmp_path)
  assert len(ours) == len(expected) == STEPS + 3
  assert max(r["pass@1"] for r in expected) > 0
  for mine, theirs in zip(ours, expected):
    for name in ROUNDED:
      if name in theirs:
        assert mine.pop(name) == pytest.approx(theirs.pop(name), rel=1e-4), name
    assert mine == theirs
  arrays, expected = saved(workdir), saved(tmp_path)
  assert arrays.keys() == expected.keys()
  for name in arrays.keys() - {"checksums"}:
    atol = 1e-4 * np.abs(expected[name].astype(float)).max()
    np.testing.assert_allclose(
      arrays[name].astype(float), expected[name], atol=atol, err_msg=name
    )


@pytest.mark.slow
def test_only_the_first_process_talks(pair):
  _, outputs = pair
  first, second = (
    [line for line in output.splitlines() if not NOT_OURS.fullmatch(line)]
    for output in outputs
  )
  assert any(line.startswith("Done.") for line in first)
  assert second == []


@pytest.mark.slow
def test_killed_then_terminated_then_continued(pair, base_dir, tmp_path):
  """One process at a time, and never the first alone."""
  codes, outputs, seconds = signal_pair(
    tmp_path, base_dir, step=1, number=signal.SIGKILL, process=1
  )
  assert codes[0] not in (0, -signal.SIGKILL) and codes[1] == -signal.SIGKILL
  assert "another process of this run" in outputs[0], outputs[0][-2000:]
  assert seconds < 90

  codes, outputs, _ = signal_pair(
    tmp_path, base_dir, step=4, number=signal.SIGTERM, process=1
  )
  assert codes == [143, 143], [output[-2000:] for output in outputs]
  last = saved_steps(tmp_path)[-1]
  assert last == records(tmp_path)[-1]["step"] + 1 in (5, 6, 7)
  assert f"SIGTERM: saved step {last}" in outputs[0]
  assert "SIGTERM" not in outputs[1]

  outputs = run_pair(tmp_path, base_dir)
  assert f"at step {last}" in outputs[0]
  ours, expected = saved(tmp_path), saved(pair[0])
  assert len(ours) > 20
  jax.tree.map(np.testing.assert_array_equal, ours, expected)
  assert records(tmp_path) == records(pair[0])


@pytest.mark.slow
def test_restored_on_other_meshes_bit_for_bit(pair, tmp_path):
  """One process with 8, 4 or 1 devices, and without a mesh."""
  layouts = ["1x8x1", "2x2x1", "1x1x1", "none"]
  script = str(ROOT / "tests/helpers/restore_worker.py")
  run_single(script, pair[0], tmp_path, *layouts, devices=8)
  expected = saved(pair[0])
  del expected["checksums"]
  assert len(expected) > 20
  for layout in layouts:
    arrays = np.load(tmp_path / f"{layout}.npz")
    assert set(arrays.files) == set(expected), layout
    for name in expected:
      assert arrays[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(arrays[name], expected[name])


@pytest.mark.slow
def test_processes_with_different_configs_are_an_error(tmp_path):
  second = ["--config.learning_rate=0.1"]
  pair = Pair(tmp_path / "run", tmp_path, only_second=second)
  codes, outputs = pair.wait(timeout=90)
  assert codes == [1, 1]
  for output in outputs:
    assert "processes of this run have different configs" in output
  assert "config.learning_rate: 0.0004 -> 0.1" in outputs[1]
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_error_in_one_process_ends_both(tmp_path):
  second = ["--config.k_opt=99"]  # refused before anything is exchanged
  pair = Pair(tmp_path / "run", tmp_path, only_second=second)
  codes, outputs = pair.wait(timeout=90)
  assert 0 not in codes
  assert "valid k: 1..4" in outputs[1]
  assert "Process 1 of 2 ends with this error" in outputs[1]


def test_a_folder_that_is_not_shared_is_an_error(monkeypatch, tmp_path):
  monkeypatch.setattr(multihost, "is_first", lambda: False)
  monkeypatch.setattr(config_lib, "_PATIENCE", 0)
  with pytest.raises(ValueError, match="all processes share"):
    config_lib.claim(tmp_path, tiny_config.get_config())


def test_shares_are_all_of_the_items_in_order(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 3)
  shares = []
  for index in range(3):
    monkeypatch.setattr(jax, "process_index", lambda index=index: index)
    shares.append(multihost.local_rows(range(8)))
  assert [x for share in shares for x in share] == list(range(8))
  assert sorted(len(share) for share in shares) == [2, 3, 3]


def test_a_bucket_is_not_taken_for_a_folder():
  with pytest.raises(ValueError, match="mount the bucket"):
    config_lib.claim(pathlib.Path("gs://bucket/run"), tiny_config.get_config())
