"""pkpo_jax.lm.transformer: how layers are run; their values in test_models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain

from pkpo_jax.lm import transformer

PROMPTS = np.array([[2, 5, 7, 3], [4, 6, 1, 8]], np.int32)
COMPLETIONS = np.array([[3, 4], [5, 6], [7, 8], [9, 10]], np.int32)
LENGTHS = np.array([4, 3], np.int32)


@pytest.fixture(scope="module")
def three_layers():
  """A pattern of local and global attention, and one layer more."""
  model = plain.tiny_model(num_layers=3)
  return model, plain.random_params(model)


def apply(model, params, tokens, training, **kwargs):
  return model.apply({"params": params}, tokens, training=training, **kwargs)


@pytest.mark.parametrize(
  ("kinds", "period"),
  [("ab", 2), ("abab", 2), ("aba", 2), ("aaaa", 1), ("aaab", 4), ("a", 1)],
)
def test_the_period_of_a_pattern(kinds, period):
  assert transformer._period(kinds) == period


@pytest.mark.parametrize("remat", [x for x in transformer.REMAT if x != "none"])
def test_a_scan_leaves_over_what_fills_no_pattern(three_layers, remat):
  """Of three layers two are a scan of one step; the values are the same."""
  model, params = three_layers
  x, cache = apply(model, params, PROMPTS, False)
  assert len(cache.scanned) == 0 and len(cache.unrolled) == 3
  model = model.clone(remat=remat)
  scanned, cache = apply(model, params, PROMPTS, True)
  assert len(cache.scanned) == 2 and len(cache.unrolled) == 1
  for leaf in jax.tree.leaves(cache.scanned):
    assert leaf.shape[0] == 1
  np.testing.assert_allclose(scanned, x, rtol=1e-4, atol=1e-5)
  unrolled, cache = apply(model, params, PROMPTS, False)  # sampling has no scan
  assert len(cache.scanned) == 0
  np.testing.assert_array_equal(unrolled, x)


def test_a_prompt_is_read_once_for_all_its_completions(three_layers):
  """Teacher forcing keeps nothing, and each row sees its own prompt."""
  model, params = three_layers
  _, prompts = apply(model, params, PROMPTS, False)
  options = {"prompts": prompts, "lengths": LENGTHS}
  x, kept = apply(model, params, COMPLETIONS, False, **options)
  assert kept is None
  assert x.shape == (4, 2, 32)
  for b in range(2):
    own = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], prompts)
    rows = slice(2 * b, 2 * b + 2)
    alone, _ = apply(
      model,
      params,
      COMPLETIONS[rows],
      False,
      prompts=own,
      lengths=LENGTHS[b : b + 1],
    )
    np.testing.assert_allclose(alone, x[rows], rtol=1e-4, atol=1e-5)


def test_without_training_it_is_gemmas_own(three_layers):
  model, params = three_layers
  out = model.apply({"params": params}, jnp.asarray(PROMPTS))
  assert out.logits.shape == (2, 4, plain.VOCABULARY)
