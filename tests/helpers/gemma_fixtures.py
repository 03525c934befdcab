"""Two tiny checkpoints of `transformers`, and what it computed with them.

tests/lm/fixtures/make_gemma2.py made them and says what is in each.
"""

import functools
import pathlib

import jax
import numpy as np

from pkpo_jax.lm import formats

FOLDER = pathlib.Path(__file__).parents[1] / "lm" / "fixtures"
NAMES = ("gemma2_tiny", "gemma3_tiny")


@functools.cache
def loaded(name):
  """The model and its parameters."""
  return formats.load_huggingface(FOLDER / name)


@functools.cache
def expected(name):
  """The arrays that `transformers` computed, by name."""
  return dict(np.load(FOLDER / name / "expected.npz"))


def assert_same(params, others):
  """Every bit and every type of two trees agree."""
  jax.tree.map(np.testing.assert_array_equal, params, others)
  assert jax.tree.map(lambda x: x.dtype, params) == jax.tree.map(
    lambda x: x.dtype, others
  )
