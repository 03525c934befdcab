"""lm.lora: a policy with its adapters merged is the same policy."""

import jax
import numpy as np
import pytest
from helpers import plain

from pkpo_jax.lm import lora, models

TOKENS = np.array([[2, 5, 3, 9, 7, 4, 1]])


@pytest.mark.slow
@pytest.mark.parametrize(
  "options", [{}, {"use_qk_norm": True, "transpose_gating_einsum": True}]
)
def test_merged_adapters_compute_the_same(options):
  model = plain.tiny_model(lora_rank=2, **options)
  params = plain.random_params(model)
  expected, _ = plain.forward(model, params, TOKENS)
  merged, found = lora.merge(model, params)
  assert merged == plain.tiny_model(**options)
  shapes = jax.tree.map(np.shape, models.abstract_params(merged))
  assert jax.tree.map(np.shape, found) == shapes
  logits, _ = plain.forward(merged, found, TOKENS)
  np.testing.assert_allclose(logits, expected, atol=1e-5)
  bare = models.split(model, params)[0]
  without, _ = plain.forward(merged, bare, TOKENS)
  assert np.abs(without - expected).max() > 1e-2


def test_a_model_without_adapters_stays():
  model = plain.tiny_model()
  params = {"a": np.ones(3)}
  assert lora.merge(model, params) == (model, params)
