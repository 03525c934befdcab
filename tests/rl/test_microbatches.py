"""rl.microbatches: what has a gradient comes first, and each keeps its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pkpo_jax.lm import sampler
from pkpo_jax.rl import microbatches

B, n, T = 3, 4, 5


@pytest.fixture(scope="module")
def batch():
  """Completions whose numbers all say whose they are; half are used."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, T + 1, (B, n))
  mask = np.arange(T) < lengths[..., None]
  tokens = np.arange(B * n * T, dtype=np.int32).reshape(B, n, T)
  completions = sampler.Completions(
    tokens, -tokens.astype(np.float32), np.zeros((B, n, T), np.float32), mask
  )
  used = rng.permutation(B * n).reshape(B, n) < 6
  weights = np.where(used, np.arange(1, B * n + 1).reshape(B, n), 0)
  return completions, weights.astype(np.float32), used


@pytest.mark.parametrize("size", [1, 2, 4, 12])
def test_every_completion_that_is_used_comes_once_with_all_its_own(batch, size):
  completions, weights, used = batch
  place = np.array([2, 0, 1], np.int32)
  rows, longest = jax.jit(microbatches.flat_list, static_argnums=4)(
    *batch, place, size
  )
  assert rows.tokens.shape == (B * n // size, size, T)
  flat = jax.tree.map(
    lambda x: np.asarray(x).reshape(B * n, *x.shape[2:]), rows
  )
  which = flat.tokens[:, 0] // T  # of all B n
  assert sorted(which) == list(range(B * n))
  for name in ("tokens", "log_probs"):
    whole = getattr(completions, name).reshape(B * n, T)
    np.testing.assert_array_equal(getattr(flat, name), whole[which])
  np.testing.assert_array_equal(flat.weights, weights.reshape(-1)[which])
  np.testing.assert_array_equal(flat.prompt, place[which // n])
  mask = completions.mask & used[..., None]
  np.testing.assert_array_equal(flat.mask, mask.reshape(B * n, T)[which])

  lengths = flat.mask.sum(axis=-1)
  assert np.all(np.diff(lengths) <= 0)
  np.testing.assert_array_equal(longest, lengths.reshape(-1, size).max(axis=1))
  assert np.sum(longest > 0) == -(-6 // size)


def test_lengths_end_at_the_whole_and_are_few():
  for T in (1, 2, 63, 64, 100, 1024):
    lengths = microbatches.cut_lengths(T)
    assert lengths[-1] == T
    assert list(lengths) == sorted(set(lengths))
    assert 1 <= lengths[0] and len(lengths) <= 3


def test_a_cut_leaves_the_beginning(batch):
  rows, _ = microbatches.flat_list(*batch, jnp.arange(B, dtype=jnp.int32), 4)
  cut = microbatches.cut_to(rows, 2)
  for name in ("tokens", "log_probs", "mask"):
    expected = getattr(rows, name)[..., :2]
    np.testing.assert_array_equal(getattr(cut, name), expected)
  assert cut.prompt is rows.prompt and cut.weights is rows.weights
