"""Completions of a tiny policy, and the gradients of each of them.

The reference takes the gradient of the log-prob of every sample by itself,
through gemma alone, and adds them up with weights that are enumerated over
subsets in fractions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers import exact, plain

from configs import countdown

B, n, P, T = 4, 4, 5, 4
TEMPERATURE = 0.7
LENGTHS = np.array([2, 5, 3, 5], np.int32)
PROMPTS = np.array(
  [[2, 9, 0, 0, 0], [2, 0, 1, 3, 4], [2, 6, 6, 0, 0], [2, 11, 10, 8, 7]],
  np.int32,
)
KEY = jax.random.key(1)
REWARDS = {
  "binary": [[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]],
  "continuous": [
    [0.25, -1.5, 3, 0.5],
    [2, 0.5, 0.5, -1],
    [1.5, 1.5, 1.5, 1.5],
    [0, 96, 0, -0.125],
  ],
}
VALID = {
  "all": np.ones((B, n), bool),
  "some": np.array(
    [[1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]], bool
  ),
}
ENTROPY, KL = 5.0, 3.0


def make_config(**changes):
  config = countdown.get_config()
  config.update(
    num_steps=8,
    n=n,
    prompts_per_step=B,
    temperature=TEMPERATURE,
    k_opt=(4, 3, 2, 1),
    k_boundaries=(1, 2, 3),
    max_grad_norm=0.0,
  )
  config.microbatch.rows = 4
  config.update_from_flattened_dict(changes)
  return config


def recorder():
  """An optimiser that keeps the gradient as its state and changes nothing."""

  def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)

  return optax.GradientTransformation(
    zeros, lambda gradient, *_: (zeros(gradient), gradient)
  )


def plain_values(params, completions):
  """Log-probs and entropies [B, n, T] by gemma alone, zero where masked."""
  mask = completions.mask
  values = plain.log_probs_and_entropy(
    plain.tiny()[0],
    params,
    PROMPTS,
    LENGTHS,
    np.where(mask, completions.tokens, 1),
    TEMPERATURE,
  )
  return [jnp.where(mask, value, 0) for value in values]


def combine(gradients, weights):
  """The sum over all samples of weight times gradient."""
  weights = np.array(exact.floats(weights))
  return jax.tree.map(lambda x: np.tensordot(weights, x, 2), gradients)


def assert_close(tree, expected, gradients):
  """To 1e-5 of the largest entry of a sample's gradient, in float32."""
  scale = max(np.abs(x).max() for x in jax.tree.leaves(gradients))
  assert scale > 0.1
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * scale),
    tree,
    expected,
  )


def exact_weights(rewards, valid, k):
  """`sloo_minus_one` of the graded samples, at a k of at most their number."""
  rows = []
  for row, where in zip(rewards, valid.tolist()):
    at = min(k, sum(where))
    defined = sum(where) >= 2
    rows.append(
      exact.masked(exact.sloo_minus_one, row, where, at) if defined else [0] * n
    )
  return rows
