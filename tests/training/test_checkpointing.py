"""training.checkpointing: what is restored is what was saved, bit by bit."""

import contextlib
import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import disks

from configs import countdown
from pkpo_jax.rl import train_step
from pkpo_jax.training import build_run, checkpointing, k_by_problem


def make_progress(step, seed=0, rows=300):
  """After some AdamW updates; the embedder is large enough for its own file."""
  rng = np.random.default_rng(seed)
  params = {
    "layer_0": {"w": jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)},
    "norm": {"scale": jnp.asarray(rng.standard_normal(4), jnp.bfloat16)},
    "embedder": jnp.asarray(rng.standard_normal((rows, 100)), jnp.float32),
  }
  optimizer = build_run.make_optimizer(countdown.get_config())
  state = train_step.init_state(params, optimizer)
  for _ in range(2):
    gradient = jax.tree.map(lambda x: x**2, state.params)
    _, opt_state = optimizer.update(
      gradient, state.opt_state, state.params, step=0
    )
    state = state.replace(opt_state=opt_state)
  state = state.replace(step=jnp.int32(step))
  return checkpointing.Progress(state, rng.integers(-1, 9, 7, np.int32))


def open_folder(folder, keep=2):
  return checkpointing.Checkpointer(folder, keep=keep)


def save(folder, *steps, keep=2):
  checkpointer = open_folder(folder, keep)
  for step in steps:
    checkpointer.save(make_progress(step))
  checkpointer.close()


def restore(folder):
  checkpointer = open_folder(folder)
  try:
    return checkpointer.restore(make_progress(0, seed=1))
  finally:
    checkpointer.close()


def assert_same_bits(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    assert x.dtype == y.dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_the_round_trip_keeps_bits_and_types(tmp_path):
  """The optimiser's named tuples too, which the structure compares."""
  progress = make_progress(3)
  save(tmp_path, 3)
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=1))
  checkpointer.close()
  assert_same_bits(restored, progress)
  assert type(restored) is checkpointing.Progress
  assert type(restored.state) is train_step.TrainState
  assert int(restored.state.step) == 3
  moments = jax.tree.leaves(restored.state.opt_state)
  assert sum(bool(jnp.any(x != 0)) for x in moments) > 4


def test_the_latest_is_known(tmp_path):
  checkpointer = open_folder(tmp_path / "new")
  assert checkpointer.latest is None
  checkpointer.close()
  save(tmp_path / "new", 3)
  checkpointer = open_folder(tmp_path / "new")
  assert checkpointer.latest == 3
  checkpointer.close()


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_are_kept_and_the_last_one_is_restored(tmp_path, keep):
  save(tmp_path, 2, 4, 6, keep=keep)
  left = sorted(int(path.name) for path in tmp_path.glob("[0-9]*"))
  assert left == [2, 4, 6][-keep:]
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=1))
  checkpointer.close()
  assert int(restored.state.step) == 6


def shapes_of(params):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)


@pytest.mark.parametrize("step", [2, 4])
def test_the_parameters_of_a_step_are_restored_alone(step, tmp_path):
  save(tmp_path, 2, 4)
  params = make_progress(step).state.params
  restored = checkpointing.restore_params(tmp_path, step, shapes_of(params))
  assert_same_bits(restored, params)


def test_parameters_are_found_behind_counts_too(tmp_path):
  progress = make_progress(4)
  checkpointer = open_folder(tmp_path)
  checkpointer.save(progress._replace(counts=k_by_problem.no_counts(7)))
  checkpointer.close()
  like = shapes_of(progress.state.params)
  restored = checkpointing.restore_params(tmp_path, 4, like)
  assert_same_bits(restored, progress.state.params)


def test_parameters_of_a_renamed_checkpoint_or_another_model_are_an_error(
  tmp_path,
):
  save(tmp_path, 4)
  like = shapes_of(make_progress(4).state.params)
  shutil.copytree(tmp_path / "4", tmp_path / "9")
  with pytest.raises(ValueError, match=r"/9 holds step 4"):
    checkpointing.restore_params(tmp_path, 9, like)
  other = like | {"embedder": jax.ShapeDtypeStruct((200, 100), np.float32)}
  with pytest.raises(ValueError, match=r"/4 cannot .* or of another model"):
    checkpointing.restore_params(tmp_path, 4, other)


@pytest.mark.slow
def test_damaged_parameters_are_never_restored(tmp_path):
  """A bit anywhere: an error, or it belongs to the optimiser."""
  save(tmp_path, 4)
  params = make_progress(4).state.params
  errors = []
  for path in array_files(tmp_path):
    data = path.read_bytes()
    for place in range(0, len(data), len(data) // 8):
      path.write_bytes(
        data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
      )
      try:
        found = checkpointing.restore_params(tmp_path, 4, shapes_of(params))
      except ValueError as error:
        errors.append(str(error))
      else:
        assert_same_bits(found, params)
    path.write_bytes(data)
  assert errors and all("/4 cannot be restored" in error for error in errors)


def test_saving_the_newest_step_again_changes_nothing(tmp_path):
  checkpointer = open_folder(tmp_path)
  checkpointer.save(make_progress(2))
  checkpointer.save(make_progress(2, seed=1))
  checkpointer.close()
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=2))
  checkpointer.close()
  assert_same_bits(restored, make_progress(2))


def test_a_checkpoint_cut_off_is_not_seen_and_written_anew(tmp_path):
  """What a kill amid saving leaves: the same under another name."""
  save(tmp_path, 2, 4)
  unfinished = tmp_path / "4.orbax-checkpoint-tmp"
  (tmp_path / "4").rename(unfinished)
  for path in array_files(unfinished):
    cut(path)
  checkpointer = open_folder(tmp_path)
  assert checkpointer.latest == 2
  restored = checkpointer.restore(make_progress(0, seed=1))
  assert_same_bits(restored, make_progress(2))
  checkpointer.close()
  save(tmp_path, 4)
  assert_same_bits(restore(tmp_path), make_progress(4))


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
  path.write_bytes(bytes(path.stat().st_size))


def flip(path):
  """One bit of the payload: what no file system reports."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 16
  path.write_bytes(bytes(data))


def array_files(folder):
  """Those that hold the arrays, and not what describes them."""
  return [path for path in folder.glob("**/d/*") if path.is_file()]


@pytest.mark.parametrize("damage", [os.remove, cut, zero, flip])
def test_damaged_arrays_are_never_restored(damage, tmp_path):
  """The error names the folder; without it the one before is restored."""
  save(tmp_path / "whole", 2, 4)
  files = array_files(tmp_path / "whole" / "4")
  largest = max(files, key=lambda path: path.stat().st_size)
  folder = tmp_path / "damaged"
  shutil.copytree(tmp_path / "whole", folder)
  damage(folder / largest.relative_to(tmp_path / "whole"))
  with pytest.raises(ValueError, match=r"damaged/4 cannot .* Delete it"):
    restore(folder)
  shutil.rmtree(folder / "4")
  assert_same_bits(restore(folder), make_progress(2))


def test_no_damaged_file_is_restored_as_other_numbers(tmp_path):
  """Any file of a checkpoint, cut: an error, or all bits are right."""
  save(tmp_path / "whole", 4)
  expected, errors = make_progress(4), []
  files = [p for p in (tmp_path / "whole" / "4").rglob("*") if p.is_file()]
  for i, path in enumerate(files):
    folder = tmp_path / str(i)
    shutil.copytree(tmp_path / "whole", folder)
    cut(folder / path.relative_to(tmp_path / "whole"))
    try:
      restored = restore(folder)
    except ValueError as error:
      errors.append(str(error))
    else:
      assert_same_bits(restored, expected)
  assert len(errors) > 3
  assert all("/4 cannot be restored" in error for error in errors)


def test_another_model_is_an_error(tmp_path):
  save(tmp_path, 2)
  checkpointer = open_folder(tmp_path)
  with pytest.raises(ValueError, match="or of another model"):
    checkpointer.restore(make_progress(0, rows=200))
  checkpointer.close()


@pytest.mark.parametrize("at", ["next save", "close"])
def test_a_full_disk_is_an_error_and_loses_nothing(at, tmp_path):
  with disks.small(tmp_path / "disk", "900k") as folder:
    save(folder, 2)
    checkpointer = open_folder(folder)
    checkpointer.save(make_progress(4, rows=1000))
    finish = {
      "close": checkpointer.close,
      "next save": lambda: checkpointer.save(make_progress(6, rows=1000)),
    }[at]
    with pytest.raises(OSError, match=r"written to .*disk.* intact.* room"):
      finish()
    with contextlib.suppress(OSError):
      checkpointer.close()
    assert_same_bits(restore(folder), make_progress(2))


def test_a_folder_that_became_read_only_is_an_error(tmp_path):
  with disks.small(tmp_path / "disk", "2m") as folder:
    save(folder, 2)
    remount = ["mount", "-o", "remount,ro", str(folder)]
    subprocess.run(remount, check=True)
    with pytest.raises(OSError, match=r"written to .*disk.* writable"):
      save(folder, 4)
    assert_same_bits(restore(folder), make_progress(2))


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
  path = tmp_path / "checkpoints"
  path.write_text("")
  with pytest.raises(OSError, match=str(path)):
    open_folder(path)


def test_saving_does_not_hold_on_to_the_live_state(tmp_path):
  """The host's array may change while the saving goes on."""
  progress = make_progress(2)
  expected = progress.solved_at.copy()
  checkpointer = open_folder(tmp_path)
  checkpointer.save(progress)
  progress.solved_at[:] += 1
  checkpointer.close()
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=1))
  checkpointer.close()
  np.testing.assert_array_equal(restored.solved_at, expected)


@pytest.mark.parametrize("present", [(4,), (2, 4)])
def test_a_copy_under_a_later_number_is_an_error(present, tmp_path):
  """Otherwise nothing would be saved until that step."""
  save(tmp_path, *present)
  shutil.copytree(tmp_path / "4", tmp_path / "100")
  with pytest.raises(ValueError, match=r"/100 holds step 4: .* Delete it"):
    restore(tmp_path)
  shutil.rmtree(tmp_path / "100")
  assert_same_bits(restore(tmp_path), make_progress(4))


def test_a_save_that_is_declined_is_an_error(tmp_path):
  save(tmp_path, 100)
  with pytest.raises(OSError, match=r"step 4 is not saved: there is 100"):
    save(tmp_path, 4)


def test_an_old_checkpoint_that_cannot_be_deleted_is_a_warning(tmp_path):
  """Something in it is mounted, say; said once; and it goes when it can."""
  save(tmp_path, 2)
  old = tmp_path / "1.deleted"
  old.mkdir()
  with disks.small(old / "busy", "64k"):
    with pytest.warns(UserWarning, match=r"1\.deleted cannot be del") as told:
      save(tmp_path, 4, 6, 8, keep=1)
    assert len(told) == 1
    assert_same_bits(restore(tmp_path), make_progress(8))
  save(tmp_path, 10, keep=1)
  assert [path.name for path in tmp_path.glob("*")] == ["10"]


def test_remains_of_killed_saves_go_with_the_next_save(tmp_path):
  save(tmp_path, 2)
  remains = ["4.orbax-checkpoint-tmp", "6.orbax-checkpoint-tmp-123"]
  for name in remains:
    shutil.copytree(tmp_path / "2", tmp_path / name)
  restore(tmp_path)  # who only reads leaves alone what may be written just now
  assert all((tmp_path / name).exists() for name in remains)
  save(tmp_path, 4)
  assert sorted(path.name for path in tmp_path.glob("*")) == ["2", "4"]


def swap(x):
  """Two elements that differ, exchanged: the sum of all stays the same."""
  flat = np.array(x).ravel()
  other = np.flatnonzero(flat != flat[0])[-1]
  flat[[0, other]] = flat[[other, 0]]
  return flat.reshape(x.shape)


@pytest.mark.parametrize("dtype", ["bool", "int8", "bfloat16", "float32"])
@pytest.mark.parametrize(
  "change",
  [
    swap,
    lambda x: x[::-1],
    lambda x: np.roll(x, 1, axis=1),
    lambda x: x.reshape(3, 4).T.reshape(x.shape),  # one layout for another
    lambda x: x[[1, 0, *range(2, len(x))]],
  ],
)
def test_checksums_see_permutations(change, dtype):
  x = np.arange(12).reshape(4, 3) % 5
  x = np.asarray(jnp.asarray(x * x > 3 if dtype == "bool" else x, dtype))
  changed = change(x)
  assert not np.array_equal(changed, x)
  before, after = (checkpointing.checksums([y, x]) for y in (x, changed))
  assert before[0] != after[0] and before[1] == after[1]


def test_checksums_see_every_bit():
  """Of every element, a sign and the last digit included; and -0 is not 0."""
  x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
  seen = {int(checkpointing.checksums(x)[0])}
  for i in range(x.size):
    for bit in range(0, 32, 5):
      y = x.copy()
      y.view(np.uint32).ravel()[i] ^= np.uint32(1 << bit)
      seen.add(int(checkpointing.checksums(y)[0]))
  assert len(seen) == 1 + 7 * x.size
  zeros = (checkpointing.checksums(np.float32([z, 0])) for z in (0.0, -0.0))
  assert len({int(z[0]) for z in zeros}) == 2


def test_places_count_through_an_array():
  for shape in ((), (5,), (2, 3, 4)):
    expected = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    np.testing.assert_array_equal(checkpointing._places(shape), expected)


def test_checksums_of_64_bits(x64):
  x = np.arange(3.0)
  others = (x[::-1], np.float64([0, 1 + 2.0**-50, 2]))
  sums = [int(checkpointing.checksums(y)[0]) for y in (x, *others)]
  assert len(set(sums)) == 3


def test_what_an_earlier_version_saved_is_as_saved():
  """Its sums are accepted for the arrays that they are of, and no others."""
  tree = [jnp.arange(6.0), jnp.array([True, False])]
  old = np.asarray(checkpointing._sums_of_bits(tree))
  assert checkpointing.is_as_saved(tree, old)
  assert not checkpointing.is_as_saved([tree[0] + 1, tree[1]], old)
  new = np.asarray(checkpointing.checksums(tree))
  assert checkpointing.is_as_saved(tree, new)
  assert not checkpointing.is_as_saved([tree[0][::-1], tree[1]], new)
