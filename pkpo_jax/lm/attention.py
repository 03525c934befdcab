"""gemma's block, attending from many completions to the prompt they share.

The keys and values of a prompt are neither computed nor kept for each of its n
completions. Parameters and arithmetic are those of gemma's modules.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from gemma import gm

_MASKED = -2.3819763e38  # gemma's


class KeysValues(NamedTuple):
  """Of one layer; each [rows, key-value heads, slots, head].

  Rows are prompts or completions; slots are their tokens, in order.
  """

  k: chex.Array
  v: chex.Array


class Prompts(NamedTuple):
  """Prompts that were read before.

  Attributes:
    lengths: [B] int32.
    kv: of one layer, with rows [B] and P slots.
  """

  lengths: chex.Array
  kv: KeysValues


def block(
  module: nn.Module,
  x: chex.Array,
  prompts: Prompts | None,
  cache: KeysValues | None,
  start: chex.Numeric,
) -> tuple[chex.Array, KeysValues]:
  """Applies gemma's `Block`; a method of it for `nn.Module.apply`.

  Args:
    module: the block, bound to its parameters.
    x: [R, L, D]: prompts, or the tokens start, start + 1, ... of completions:
      R / B of the first prompt, then those of the second, and so on.
    prompts: those of the completions; None if x are prompts.
    cache: the [R, S] slots of the completions, filled up to `start`; None if
      x are all there is.
    start: how many tokens come before x, not counting the prompt.

  Returns:
    [R, L, D], and the cache with the tokens of x in it.
  """
  attended, cache = _attend(
    module.attn, module.pre_attention_norm(x), prompts, cache, start
  )
  if module.post_attention_norm is not None:
    attended = module.post_attention_norm(attended)
  x += attended
  out = module.mlp(module.pre_ffw_norm(x))
  if module.post_ffw_norm is not None:
    out = module.post_ffw_norm(out)
  return x + out, cache


def _attend(attn, x, prompts, cache, start):
  """Arguments and results as those of `block`."""
  R, L, _ = x.shape
  index = start + jnp.arange(L)
  before = jnp.zeros(1, jnp.int32) if prompts is None else prompts.lengths
  B = R if prompts is None else len(before)
  positions = jnp.broadcast_to(before[:, None] + index, (B, L))
  q, new = _project(attn, x, jnp.repeat(positions, R // B, axis=0))
  cache = new if cache is None else _write(cache, new, start)
  K, S = cache.k.shape[1:3]

  # Heads in groups that share keys and values.
  q = jnp.moveaxis(q.reshape(R, L, K, -1, q.shape[-1]), 1, 3)  # R K G L H
  slots = jnp.arange(S)
  seen = (slots <= index[:, None]) & _near(attn, index, slots)
  own = _logits(attn, q, cache.k, seen)
  if prompts is None:
    out, total = _read(own, jnp.max(own, axis=-1), cache.v)
  else:
    # All completions of a prompt at once.
    slots = jnp.arange(prompts.kv.k.shape[2])
    seen = (slots < before[:, None, None]) & _near(attn, positions, slots)
    q = _by_prompt(q, B)  # B K n G L H
    shared = _logits(attn, q, prompts.kv.k, seen[:, None, None, None])
    highest = jnp.maximum(
      jnp.max(own, axis=-1), _by_row(jnp.max(shared, axis=-1))
    )
    out, total = _read(own, highest, cache.v)
    of_shared = _read(shared, _by_prompt(highest, B), prompts.kv.v)
    out += _by_row(of_shared[0])
    total += _by_row(of_shared[1])
  out = (out / total[..., None]).astype(x.dtype)
  out = jnp.moveaxis(out, 3, 1).reshape(R, L, -1, out.shape[-1])
  return attn.attn_vec_einsum("BTNH,NHD->BTD", out), cache


def _by_prompt(x, B):
  """[R, K, ...] -> [B, K, n, ...]."""
  return jnp.moveaxis(x.reshape(B, -1, *x.shape[1:]), 1, 2)


def _by_row(x):
  """[B, K, n, ...] -> [R, K, ...]."""
  return jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], *x.shape[3:])


def _logits(attn, q, k, seen):
  """Queries [X, K, ..., H] and keys [X, K, S, H] -> [X, K, ..., S]."""
  flat = q.reshape(*q.shape[:2], -1, q.shape[-1])
  logits = jnp.einsum("XKQH,XKSH->XKQS", flat, k)
  logits = logits.reshape(*q.shape[:-1], k.shape[2])
  cap = attn.attn_logits_soft_cap
  if cap is not None:
    logits = jnp.tanh(logits / cap) * cap
  return jnp.where(seen, logits, _MASKED)


def _read(logits, highest, v):
  """What a softmax reads from [X, K, S, H], before it is divided by its sum.

  Returns:
    [X, K, ..., H] and the sum [X, K, ...], relative to exp(highest), float32.
  """
  highest = jax.lax.stop_gradient(highest)
  odds = jnp.exp(logits - highest[..., None])
  flat = odds.reshape(*odds.shape[:2], -1, odds.shape[-1])
  out = jnp.einsum(
    "XKQS,XKSH->XKQH", flat, v, preferred_element_type=jnp.float32
  )
  out = out.reshape(*odds.shape[:-1], v.shape[-1])
  return out, jnp.sum(odds, axis=-1, dtype=jnp.float32)


def _project(attn, x, positions):
  """[R, L, D] -> scaled queries [R, L, N, H], and keys and values."""
  if attn.use_qkv_einsum:
    q, k, v = attn.qkv_einsum("BTD,SNDH->SBTNH", x)
  else:
    q = attn.q_einsum("BTD,NDH->BTNH", x)
    k, v = attn.kv_einsum("BSD,CKDH->CBSKH", x)
  if attn.use_qk_norm:
    # They have no public name.
    q, k = attn._query_norm(q), attn._key_norm(k)
  q, k = (
    gm.math.apply_rope(
      y,
      positions,
      base_frequency=attn.rope_base_frequency,
      scale_factor=attn.rope_scale_factor,
    )
    for y in (q, k)
  )
  k, v = (jnp.swapaxes(y, 1, 2) for y in (k, v))
  return q * attn.query_pre_attn_scalar, KeysValues(k, v)


def _write(cache: KeysValues, new: KeysValues, start) -> KeysValues:
  """The cache, with new slots from `start` on."""
  return jax.tree.map(
    lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, axis=2),
    cache,
    new,
  )


def _near(attn, positions, slots):
  """[..., L] and [S] -> [..., L, S]: is the slot in the sliding window?"""
  if attn.attn_type == gm.nn.config.AttentionType.GLOBAL:
    return jnp.ones((*positions.shape, len(slots)), bool)
  return slots > positions[..., None] - attn.sliding_window_size
