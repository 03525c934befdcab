"""The completions of an update as one flat list, cut into microbatches.

Which completions have a gradient is known on the device alone, and differs from
step to step; shapes are static. So all are sorted: those with a gradient first,
and the longest of them before the others. What an update needs then lies in the
first microbatches, and the rows of each are about as long as its first.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from pkpo_jax.lm import sampler

_MIN_CUT = 64  # tokens: each length is a program of its own to compile


class Rows(NamedTuple):
  """R completions in microbatches of M, each with the row of its prompt.

  Attributes:
    prompt: [R / M, M] int32.
    tokens: [R / M, M, T] int32.
    log_probs: [R / M, M, T] float32, when they were sampled.
    mask: [R / M, M, T] bool, False after the end of a completion, and in all of
      one without a gradient.
    weights: [R / M, M] float32, from the transform.
  """

  prompt: chex.Array
  tokens: chex.Array
  log_probs: chex.Array
  mask: chex.Array
  weights: chex.Array


def flat_list(
  completions: sampler.Completions,
  weights: chex.Array,
  used: chex.Array,
  place: chex.Array,
  size: int,
) -> tuple[Rows, chex.Array]:
  """Sorts completions by their length; those without a gradient come last.

  Args:
    completions: [B, n, T].
    weights: [B, n] float32.
    used: [B, n] bool, which of them have a gradient.
    place: [B] int32, the row of each prompt.
    size: M, which must divide B n.

  Returns:
    The rows; and [R / M] int32, how many tokens the longest of each microbatch
    has: 0 where none has a gradient.
  """
  mask = completions.mask & used[..., None]
  lengths = jnp.sum(mask, axis=-1, dtype=jnp.int32).reshape(-1)
  order = jnp.argsort(-lengths, stable=True)

  def cut(x):
    x = x.reshape(-1, *x.shape[2:])[order]
    return x.reshape(-1, size, *x.shape[1:])

  rows = Rows(
    jnp.broadcast_to(place[:, None], used.shape),
    completions.tokens,
    completions.log_probs,
    mask,
    weights,
  )
  longest = lengths[order].reshape(-1, size)[:, 0]
  return jax.tree.map(cut, rows), longest


def cut_lengths(T: int) -> tuple[int, ...]:
  """The lengths, in tokens, that a microbatch may be cut to: T is the last."""
  return (T // 4, T // 2, T) if T >= _MIN_CUT else (T,)


def cut_to(rows: Rows, length: int) -> Rows:
  """Leaves out all tokens [..., T] from `length` on."""
  return rows._replace(
    tokens=rows.tokens[..., :length],
    log_probs=rows.log_probs[..., :length],
    mask=rows.mask[..., :length],
  )
