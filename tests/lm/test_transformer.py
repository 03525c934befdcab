"""pkpo_jax.lm.transformer: how layers are run; their values in test_models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gemma import gm
from helpers import plain

from pkpo_jax.lm import models, transformer

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
  [
    ("ab", 2),
    ("abab", 2),
    ("aba", 2),
    ("aaaa", 1),
    ("aaab", 4),
    ("a", 1),
    ("aaaaab" * 3, 6),
  ],
)
def test_the_period_of_a_pattern(kinds, period):
  assert transformer._period(kinds) == period


@pytest.mark.slow
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


@pytest.mark.parametrize("lora_rank", [None, 2])
@pytest.mark.parametrize(
  ("num_layers", "remat", "left"),
  [(3, "full", ["layer_2"]), (4, "dots", []), (1, "full", [])],
)
def test_layers_of_a_scan_are_stacked_and_back(
  num_layers, remat, left, lora_rank
):
  model = plain.tiny_model(
    num_layers=num_layers, remat=remat, lora_rank=lora_rank
  )
  params = plain.random_params(model)
  for part in (*models.split(model, params), params):
    stacked = models.stack_layers(model, part)
    kept = [name for name in stacked if name.startswith("layer_")]
    assert kept == (left if part else [])
    assert models.stack_layers(model, stacked) is stacked
    back = models.unstack_layers(model, stacked)
    jax.tree.map(np.testing.assert_array_equal, back, part)


def test_without_a_scan_nothing_is_stacked(three_layers):
  model, params = three_layers
  assert models.stack_layers(model, params) is params
  assert models.unstack_layers(model, params) is params


@pytest.mark.slow
def test_stacked_parameters_compute_the_same(three_layers):
  model, params = three_layers
  model = model.clone(remat="full")
  x, _ = apply(model, params, PROMPTS, True)
  same, _ = apply(model, models.stack_layers(model, params), PROMPTS, True)
  np.testing.assert_array_equal(same, x)


@pytest.mark.slow
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


def test_without_training_it_is_gemmas_own():
  model, params = plain.tiny()
  gemmas = gm.nn.Transformer(
    config=model.config, dtype=model.dtype, tokens="batch.tokens"
  )
  ours, _ = plain.forward(model, params, plain.PROMPTS)
  theirs, _ = plain.forward(gemmas, params, plain.PROMPTS)
  np.testing.assert_array_equal(ours, theirs)


@functools.cache
def loss_and_memory(remat):
  """The loss with its gradient, and the bytes that computing them takes."""
  model = plain.tiny_model(num_layers=5, hidden_dim=512, remat=remat)
  params = plain.random_params(model)

  def loss(params, prompts, completions):
    prefix = models.prefill(model, params, prompts, training=True)
    hidden = models.teacher_force(model, params, prefix, completions)
    return jnp.mean(hidden**2)

  # Enough rows for activations to outweigh parameters.
  tokens, lengths, completions = (
    np.tile(x, (16, *[1] * (x.ndim - 1)))
    for x in (plain.PROMPTS, plain.LENGTHS, plain.COMPLETIONS)
  )
  batch = models.Prompts(tokens, lengths), completions
  program = jax.jit(jax.value_and_grad(loss)).lower(params, *batch).compile()
  memory = program.memory_analysis().temp_size_in_bytes
  return program(params, *batch), memory


@pytest.mark.verify("pkpo_jax/lm")
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_memory_and_nothing_else(remat):
  """Five layers: a scan over the pattern of two, and one layer left over."""
  (plain_loss, plain_grads), plain_memory = loss_and_memory("none")
  (loss, grads), memory = loss_and_memory(remat)
  np.testing.assert_allclose(loss, plain_loss, rtol=1e-5)
  scale = max(np.abs(x).max() for x in jax.tree.leaves(plain_grads))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale),
    grads,
    plain_grads,
  )
  assert memory < plain_memory
