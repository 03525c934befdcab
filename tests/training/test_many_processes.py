"""Two processes as one run: the same result, and both end if one does.

helpers.fault_table has what may happen to one of them.
"""

import signal

import numpy as np
import pytest
from helpers import process_pair

STEPS = process_pair.STEPS
# One run is for every change; all else is rarely due.
VERIFY = pytest.mark.verify(
  "pkpo_jax/multihost.py", "pkpo_jax/lm", "pkpo_jax/rl", "pkpo_jax/training"
)


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("base")
  process_pair.run_single(
    "-m", "experiments.pretrain", *process_pair.OPTIONS, f"--base_dir={folder}"
  )
  return folder


@pytest.fixture(scope="module")
def pair(base_dir, tmp_path_factory):
  """An uninterrupted run of two processes: its folder and its outputs."""
  folder = tmp_path_factory.mktemp("pair")
  return folder, process_pair.run_pair(folder, base_dir)


@VERIFY
def test_two_processes_stopped_and_continued_do_what_one_does(
  base_dir, tmp_path
):
  """2 processes x 4 devices with a SIGTERM to one, against 1 x 8."""
  workdir, single = tmp_path / "pair", tmp_path / "single"
  codes, outputs, _ = process_pair.signal_pair(
    workdir, base_dir, step=1, number=signal.SIGTERM, process=1
  )
  assert codes == [143, 143], [output[-2000:] for output in outputs]
  last = process_pair.saved_steps(workdir)[-1]
  assert last == process_pair.records(workdir)[-1]["step"] + 1 < STEPS
  first, second = process_pair.run_pair(workdir, base_dir)
  assert f"at step {last}" in first and "Done." in first
  assert not process_pair.own_lines(second)
  process_pair.run_alone(single, base_dir)
  process_pair.assert_same_to_rounding(workdir, single)


@VERIFY
def test_two_processes_do_what_one_does(pair, base_dir, tmp_path):
  """2 processes x 4 devices against 1 x 8, on the same mesh."""
  process_pair.run_alone(tmp_path, base_dir)
  process_pair.assert_same_to_rounding(pair[0], tmp_path)


@VERIFY
def test_only_the_first_process_talks(pair):
  first, second = map(process_pair.own_lines, pair[1])
  assert any(line.startswith("Done.") for line in first)
  assert second == []


@VERIFY
def test_restored_on_other_meshes_bit_for_bit(pair, tmp_path):
  """One process with 8, 4 or 1 devices, and without a mesh."""
  layouts = ["1x8x1", "2x2x1", "1x1x1", "none"]
  script = str(process_pair.ROOT / "tests/helpers/restore_worker.py")
  process_pair.run_single(script, pair[0], tmp_path, *layouts, devices=8)
  expected = process_pair.saved(pair[0])
  del expected["checksums"]
  assert len(expected) > 20
  for layout in layouts:
    arrays = np.load(tmp_path / f"{layout}.npz")
    assert set(arrays.files) == set(expected), layout
    for name in expected:
      assert arrays[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(arrays[name], expected[name])


@VERIFY
def test_an_error_in_one_process_ends_both(tmp_path):
  second = ["--config.k_opt=99"]  # refused before anything is exchanged
  pair = process_pair.Pair(tmp_path / "run", tmp_path, only_second=second)
  codes, outputs = pair.wait(timeout=90)
  assert 0 not in codes
  assert "valid k: 1..4" in outputs[1]
  assert "Process 1 of 2 ends with this error" in outputs[1]
