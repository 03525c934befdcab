"""pkpo_jax.rl.checkpointing: what is restored is what was saved, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import countdown
from pkpo_jax.rl import checkpointing, learner


def make_progress(step, seed=0):
  """After some AdamW updates, so that no part of the state is trivial."""
  rng = np.random.default_rng(seed)
  params = {
    "layer_0": {"w": jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)},
    "norm": {"scale": jnp.asarray(rng.standard_normal(4), jnp.bfloat16)},
  }
  optimizer = learner.make_optimizer(countdown.get_config())
  state = learner.init_state(params, optimizer)
  for _ in range(2):
    gradient = jax.tree.map(lambda x: x**2, state.params)
    _, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    state = state.replace(opt_state=opt_state)
  state = state.replace(step=jnp.int32(step))
  return checkpointing.Progress(state, rng.random(7) < 0.5)


def open_folder(folder, keep=2):
  return checkpointing.Checkpointer(folder, keep=keep)


def save(folder, *steps, keep=2):
  checkpointer = open_folder(folder, keep)
  for step in steps:
    checkpointer.save(make_progress(step))
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
  assert type(restored.state) is learner.TrainState
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


def test_saving_the_newest_step_again_changes_nothing(tmp_path):
  checkpointer = open_folder(tmp_path)
  checkpointer.save(make_progress(2))
  checkpointer.save(make_progress(2, seed=1))
  checkpointer.close()
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=2))
  checkpointer.close()
  assert_same_bits(restored, make_progress(2))


def test_an_unfinished_checkpoint_is_not_seen(tmp_path):
  """What a kill amid saving leaves behind: a folder with another name."""
  save(tmp_path, 2)
  (tmp_path / "4.orbax-checkpoint-tmp-0").mkdir()
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=1))
  checkpointer.close()
  assert int(restored.state.step) == 2


def test_saving_does_not_hold_on_to_the_live_state(tmp_path):
  """The host's array may change while the saving goes on."""
  progress = make_progress(2)
  expected = progress.solved.copy()
  checkpointer = open_folder(tmp_path)
  checkpointer.save(progress)
  progress.solved[:] = ~progress.solved
  checkpointer.close()
  checkpointer = open_folder(tmp_path)
  restored = checkpointer.restore(make_progress(0, seed=1))
  checkpointer.close()
  np.testing.assert_array_equal(restored.solved, expected)
