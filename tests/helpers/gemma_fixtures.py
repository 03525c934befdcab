"""Two tiny checkpoints of `transformers`, and what it computed with them.

tests/lm/fixtures/make_gemma2.py made them and says what is in each.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import safetensors.numpy
from helpers import plain

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


def read_tensors(folder):
  """All tensors of the safetensors files in a folder, by name."""
  files = sorted(folder.glob("*.safetensors"))
  return {
    name: x
    for file in files
    for name, x in safetensors.numpy.load_file(file).items()
  }


def rewrite(name, folder, change=lambda tensors: None, **config):
  """A copy of a fixture in one file, with changed tensors and config."""
  tensors = read_tensors(FOLDER / name)
  change(tensors)
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  old = json.loads((FOLDER / name / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps(old | config))


def error_of(model, params, name):
  """The largest error of logits, at every position."""
  logits, _ = plain.forward(model, params, expected(name)["tokens"])
  return np.abs(logits - expected(name)["logits"]).max()
