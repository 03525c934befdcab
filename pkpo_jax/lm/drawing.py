"""Draws a token of each row from its log-probs."""

import chex
import jax
import jax.numpy as jnp

from pkpo_jax.lm import logprobs, models


def nucleus(log_p: chex.Array, top_p: chex.Numeric) -> chex.Array:
  """Log-probs [R, V] of the likeliest tokens alone, normalised to 1.

  A token is left out if those that are likelier have top_p together already;
  of equals all stay. What is left out has a log-prob that is finite.
  """
  ordered = -jnp.sort(-log_p, axis=-1)
  p = jnp.exp(ordered)
  before = jnp.cumsum(p, axis=-1) - p
  least = jnp.min(
    jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True
  )
  return jax.nn.log_softmax(
    jnp.where(log_p < least, logprobs.NEVER, log_p), axis=-1
  )


def categorical(keys: chex.PRNGKey, log_p: chex.Array) -> chex.Array:
  """Draws one token a row: [R] keys and [R, V] log-probs -> [R] int32.

  It is the first maximum of log_p plus Gumbel noise, bit for bit that of
  `jax.random.categorical`, whose argmax XLA would fuse with the noise on CPU
  into a slow loop over scalars.
  """
  V = log_p.shape[-1]
  noise = jax.vmap(lambda key: jax.random.gumbel(key, (V,), log_p.dtype))(keys)
  return argmax(log_p + noise)


def argmax(odds: chex.Array) -> chex.Array:
  """Finds the first maximum of each row: [R, V] -> [R] int32.

  It is never PAD, not even in a row of NaN: some token is found, whose log-prob
  says that the policy is broken.
  """
  V = odds.shape[-1]
  tokens = jnp.arange(V, dtype=jnp.int32)[None]
  odds = jnp.where(tokens == models.PAD, -jnp.inf, odds)
  highest = ~(odds < jnp.max(odds, axis=-1, keepdims=True))  # NaN is highest
  highest &= tokens != models.PAD
  return jnp.min(jnp.where(highest, tokens, V), axis=-1)
