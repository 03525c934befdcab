"""Attention in which n completions share the keys and values of their prompt.

A prompt is read once, by itself: its P tokens attend causally to each other
and leave keys and values [B, K, P, H] (B prompts, K key-value heads of width
H). The n completions of a prompt never copy them. Each of the R = B n rows has
keys and values of its own completion only, [R, K, S, H], and a token attends to
both: the completion tokens up to itself, and all tokens of its prompt.

That is one softmax over two sets of logits: [R, K, G, L, S] for the own tokens
and [B, K, n, G, L, P] for the prompt's, where all n completions meet their
prompt in one matrix product (G heads share a key-value head; L tokens are
read). Both sums of exponentials are taken relative to the larger maximum,
added up, and divided once. Logits and sums are float32 whatever the model
computes in: the sampler and the trainer add them up in another order, and their
log-probs would differ by what bfloat16 rounds. Positions count from the start
of the prompt, so a completion continues where its prompt ends, and padding is
never attended to.

Parameters and arithmetic are those of gemma's `Block`: rotary embedding, query
scaling, soft-capped logits, sliding windows, norms of queries and keys.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from pkpo_jax.lm.gemma_library import gm

_MASKED = -2.3819763e38  # gemma's


class KeysValues(NamedTuple):
  """Keys and values of one layer, each [rows, K, slots, H].

  Rows are prompts or completions; slots hold their tokens in order.
  """

  k: chex.Array
  v: chex.Array


class LayerPrefix(NamedTuple):
  """What completions see of their prompts in one layer.

  Attributes:
    kv: the prompts' keys and values, [B, K, P, H] each.
    lengths: [B] int32; the slots from there on are padding.
  """

  kv: KeysValues
  lengths: chex.Array


def block(
  module: nn.Module,
  x: chex.Array,
  prefix: LayerPrefix | None,
  cache: KeysValues | None,
  start: chex.Numeric,
) -> tuple[chex.Array, KeysValues]:
  """Applies gemma's `Block`, as a method of it for `nn.Module.apply`.

  Args:
    module: the block, bound to its parameters.
    x: [R, L, D]: prompts, or the tokens start, start + 1, ... of completions.
      Completions come sorted by prompt, R / B of each.
    prefix: the prompts of the completions; None if x are prompts.
    cache: the keys and values of the completions, [R, K, S, H], filled up to
      `start`; None if x begins at the start and nothing is to be kept.
    start: how many tokens of the completions come before x.

  Returns:
    [R, L, D]; and the cache with the tokens of x in it, which without a cache
    are the keys and values of x alone.
  """
  attended, cache = _attend(
    module.attn, module.pre_attention_norm(x), prefix, cache, start
  )
  if module.post_attention_norm is not None:
    attended = module.post_attention_norm(attended)
  x += attended
  out = module.mlp(module.pre_ffw_norm(x))
  if module.post_ffw_norm is not None:
    out = module.post_ffw_norm(out)
  return x + out, cache


def _attend(
  attn: nn.Module,
  x: chex.Array,
  prefix: LayerPrefix | None,
  cache: KeysValues | None,
  start: chex.Numeric,
) -> tuple[chex.Array, KeysValues]:
  """Applies gemma's `Attention`; arguments and results are those of `block`."""
  R, L, _ = x.shape
  index = start + jnp.arange(L, dtype=jnp.int32)
  offsets = jnp.zeros(1, jnp.int32) if prefix is None else prefix.lengths
  B = R if prefix is None else len(offsets)
  positions = jnp.broadcast_to(offsets[:, None] + index[None], (B, L))
  q, new = _project(attn, x, jnp.repeat(positions, R // B, axis=0))
  cache = new if cache is None else _write(cache, new, start)
  K, S = cache.k.shape[1:3]

  q = jnp.moveaxis(q.reshape(R, L, K, -1, q.shape[-1]), 1, 3)  # R K G L H
  slots = jnp.arange(S, dtype=jnp.int32)
  visible = (slots[None] <= index[:, None]) & _in_window(attn, index, slots)
  own = _logits(attn, q, cache.k, visible[None, None, None])
  if prefix is None:
    out, total = _weighted_sum(own, jnp.max(own, axis=-1), cache.v)
  else:
    slots = jnp.arange(prefix.kv.k.shape[2], dtype=jnp.int32)
    visible = slots[None, None] < offsets[:, None, None]
    visible &= _in_window(attn, positions, slots)
    q = _by_prompt(q, B)  # B K n G L H
    shared = _logits(attn, q, prefix.kv.k, visible[:, None, None, None])
    highest = jnp.maximum(
      jnp.max(own, axis=-1), _by_row(jnp.max(shared, axis=-1))
    )
    out, total = _weighted_sum(own, highest, cache.v)
    more = _weighted_sum(shared, _by_prompt(highest, B), prefix.kv.v)
    out += _by_row(more[0])
    total += _by_row(more[1])
  out = (out / total[..., None]).astype(x.dtype)
  out = jnp.moveaxis(out, 3, 1).reshape(R, L, -1, out.shape[-1])
  return attn.attn_vec_einsum("BTNH,NHD->BTD", out), cache


def _by_prompt(x: chex.Array, B: int) -> chex.Array:
  """Groups rows by prompt: [R, K, ...] -> [B, K, n, ...]."""
  return jnp.moveaxis(x.reshape(B, -1, *x.shape[1:]), 1, 2)


def _by_row(x: chex.Array) -> chex.Array:
  """Undoes `_by_prompt`: [B, K, n, ...] -> [R, K, ...]."""
  return jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], *x.shape[3:])


def _logits(
  attn: nn.Module, q: chex.Array, k: chex.Array, visible: chex.Array
) -> chex.Array:
  """Soft-capped logits of attention; a finite minimum where masked.

  Args:
    attn: gemma's module.
    q: scaled queries [X, K, ..., H]; X are rows or prompts.
    k: keys [X, K, S, H].
    visible: bool, of the result's rank, broadcasts to it: which slots a query
      may see.

  Returns:
    [X, K, ..., S] float32.
  """
  flat = q.reshape(*q.shape[:2], -1, q.shape[-1])
  logits = jnp.einsum(
    "XKQH,XKSH->XKQS", flat, k, preferred_element_type=jnp.float32
  )
  logits = logits.reshape(*q.shape[:-1], k.shape[2])
  cap = attn.attn_logits_soft_cap
  if cap is not None:
    logits = jnp.tanh(logits / cap) * cap
  return jnp.where(visible, logits, _MASKED)


def _weighted_sum(
  logits: chex.Array, highest: chex.Array, v: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """Numerator and denominator of a softmax's weighted sum of values.

  Args:
    logits: [X, K, ..., S].
    highest: [X, K, ...], at least the largest of the logits; both results are
      relative to exp(highest), so that nothing overflows.
    v: values [X, K, S, H].

  Returns:
    [X, K, ..., H] and [X, K, ...], float32.
  """
  highest = jax.lax.stop_gradient(highest)
  exps = jnp.exp(logits - highest[..., None])
  flat = exps.reshape(*exps.shape[:2], -1, exps.shape[-1]).astype(v.dtype)
  out = jnp.einsum(
    "XKQS,XKSH->XKQH", flat, v, preferred_element_type=jnp.float32
  )
  out = out.reshape(*exps.shape[:-1], v.shape[-1])
  return out, jnp.sum(exps, axis=-1, dtype=jnp.float32)


def _project(
  attn: nn.Module, x: chex.Array, positions: chex.Array
) -> tuple[chex.Array, KeysValues]:
  """Projects [R, L, D] to scaled queries [R, L, N, H], keys and values."""
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
      positions.astype(jnp.float32),  # as it would do, whatever jax's settings
      base_frequency=attn.rope_base_frequency,
      scale_factor=attn.rope_scale_factor,
    )
    for y in (q, k)
  )
  k, v = (jnp.swapaxes(y, 1, 2) for y in (k, v))
  return q * attn.query_pre_attn_scalar, KeysValues(k, v)


def _write(
  cache: KeysValues, new: KeysValues, start: chex.Numeric
) -> KeysValues:
  """Writes new tokens into the slots of the cache from `start` on."""
  return jax.tree.map(
    lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, axis=2),
    cache,
    new,
  )


def _in_window(
  attn: nn.Module, positions: chex.Array, slots: chex.Array
) -> chex.Array:
  """Says which slots lie in the sliding window: [..., L], [S] -> [..., L, S].

  Global attention has no window. Slots are positions here: both count from
  the same token.
  """
  if attn.attn_type == gm.nn.config.AttentionType.GLOBAL:
    return jnp.ones((*positions.shape, len(slots)), bool)
  slots = jnp.expand_dims(slots, range(positions.ndim))
  return slots > positions[..., None] - attn.sliding_window_size
