"""A Gemma from a name or a config, and its two forward passes.

Sampling and training share them: `prefill` reads a prompt once and leaves a KV
cache, `extend` reads any number of completion tokens on top of it. One token
at a time is decoding; the whole completion at once is teacher forcing. All
masks and positions are explicit, so no token id is special to the model.
"""

import dataclasses
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
from gemma import gm

Params = Any
Cache = dict[str, dict[str, chex.Array]]

PAD = 0  # Gemma's padding token; never sampled.

_NAMES = {
  "gemma2_2b": "Gemma2_2B",
  "gemma2_9b": "Gemma2_9B",
  "gemma2_27b": "Gemma2_27B",
  "gemma3_270m": "Gemma3_270M",
  "gemma3_1b": "Gemma3_1B",
}


def get_model(
  spec: str | ml_collections.ConfigDict, **overrides: Any
) -> gm.nn.Transformer:
  """Builds a `gm.nn.Transformer`.

  Args:
    spec: a preset ("gemma2_tiny", "gemma2_2b", "gemma2_9b", ...), or a
      ConfigDict with a `name`, optionally a `dtype` (default "float32" for
      gemma2_tiny, "bfloat16" for the others), and any field of gemma's
      `TransformerConfig` to change, such as `embed_dim`. `num_layers` repeats
      or cuts the pattern of local and global attention.
    **overrides: as the fields of `spec`, and stronger.

  Returns:
    The model, without parameters. Hashable: equal specs give equal models.

  Raises:
    ValueError: unknown name or field.
  """
  fields = {"name": spec} if isinstance(spec, str) else dict(spec)
  fields.update(overrides)
  name = fields.pop("name", None)
  if name != "gemma2_tiny" and name not in _NAMES:
    known = ", ".join(["gemma2_tiny", *_NAMES])
    raise ValueError(f"Unknown model {name!r}; known: {known}.")
  tiny = name == "gemma2_tiny"
  cls = gm.nn.Transformer if tiny else getattr(gm.nn, _NAMES[name])
  config = _tiny_config() if tiny else cls.config
  dtype = jnp.dtype(fields.pop("dtype", "float32" if tiny else "bfloat16"))
  return cls(
    config=_replace(config, fields), dtype=dtype, tokens="batch.tokens"
  )


def _tiny_config() -> gm.nn.config.TransformerConfig:
  """Gemma 2 in miniature: every mechanism of the 2B, about 0.4 M parameters."""
  local, global_ = (
    gm.nn.config.AttentionType.LOCAL_SLIDING,
    gm.nn.config.AttentionType.GLOBAL,
  )
  return gm.nn.config.TransformerConfig(
    num_embed=128,
    embed_dim=96,
    hidden_dim=256,
    num_heads=4,
    head_dim=24,
    num_kv_heads=2,
    final_logit_softcap=30.0,
    attn_logits_soft_cap=50.0,
    use_post_attn_norm=True,
    use_post_ffw_norm=True,
    attention_types=(local, global_, local, global_),
    sliding_window_size=8,
  )


def _replace(
  config: gm.nn.config.TransformerConfig, fields: dict[str, Any]
) -> gm.nn.config.TransformerConfig:
  known = {f.name for f in dataclasses.fields(config)}
  unknown = set(fields) - known - {"num_layers"}
  if unknown:
    raise ValueError(
      f"Unknown model options {sorted(unknown)}; known: name, dtype,"
      f" num_layers, {', '.join(sorted(known))}."
    )
  fields = dict(fields)
  if "num_layers" in fields:
    pattern = fields.get("attention_types", config.attention_types)
    layers = fields.pop("num_layers")
    repeats = -(-layers // len(pattern))
    fields["attention_types"] = (tuple(pattern) * repeats)[:layers]
  return dataclasses.replace(config, **fields)


def init_params(model: nn.Module, key: chex.PRNGKey) -> Params:
  """Random parameters, for training from scratch.

  As gemma initialises them, but for the embedding: with a standard deviation
  of 1/sqrt(D) its rows enter the residual stream at the scale of the blocks'
  normalised outputs, instead of far below.
  """
  params = model.init(key, jnp.ones((1, 1), jnp.int32))["params"]
  table = params["embedder"]["input_embedding"]
  scale = table.shape[-1] ** -0.5 / 0.01
  params["embedder"]["input_embedding"] = (table * scale).astype(table.dtype)
  return params


def num_params(params: Params) -> int:
  """How many numbers the parameters hold."""
  return sum(x.size for x in jax.tree.leaves(params))


def unembed(model: nn.Module, params: Params, hidden: chex.Array) -> chex.Array:
  """Hidden states [..., D] -> soft-capped logits [..., V], in float32."""
  table = params["embedder"]["input_embedding"]
  logits = jnp.dot(hidden, table.T, preferred_element_type=jnp.float32)
  cap = model.config.final_logit_softcap
  return logits if cap is None else jnp.tanh(logits / cap) * cap


def prefill(
  model: nn.Module,
  params: Params,
  prompts: chex.Array,
  prompt_lengths: chex.Array,
  *,
  room: int,
) -> tuple[chex.Array, Cache]:
  """Reads the prompts.

  Args:
    model: a model of `get_model`.
    params: its parameters.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32, 1..P.
    room: for how many completion tokens the cache keeps room.

  Returns:
    The hidden state [B, D] that predicts the first completion token, and the
    cache of P + room slots.
  """
  chex.assert_rank([prompts, prompt_lengths], [2, 1])
  B, P = prompts.shape
  cache = model.init_cache(
    batch_size=B, dtype=model.dtype, cache_length=P + room
  )
  slot = jnp.arange(P + room)
  causal = slot <= jnp.arange(P)[:, None]
  mask = causal & (slot < prompt_lengths[:, None, None])
  out = model.apply(
    {"params": params},
    prompts,
    positions=jnp.broadcast_to(jnp.arange(P), (B, P)),
    cache=cache,
    attention_mask=mask,
    return_hidden_states=True,
  )
  last = (prompt_lengths - 1)[:, None, None]
  hidden = jnp.take_along_axis(out.hidden_states, last, axis=1)
  return hidden[:, 0], out.cache


def extend(
  model: nn.Module,
  params: Params,
  tokens: chex.Array,
  cache: Cache,
  prompt_lengths: chex.Array,
  *,
  prompt_slots: int,
  start: chex.Numeric,
) -> tuple[chex.Array, Cache]:
  """Reads the next L completion tokens of every row.

  Args:
    model: a model of `get_model`.
    params: its parameters.
    tokens: [R, L] int32, completion tokens start .. start + L - 1.
    cache: as `prefill` made it, of R rows, with the completion tokens before
      `start` in it.
    prompt_lengths: [R] int32.
    prompt_slots: P, the padded length of the prompts in the cache.
    start: how many completion tokens the cache holds; may be traced.

  Returns:
    Hidden states [R, L, D], each of which predicts the token after it; and the
    cache with the L tokens added.
  """
  chex.assert_rank([tokens, prompt_lengths], [2, 1])
  R, L = tokens.shape
  slots = cache["layer_0"]["k"].shape[1]
  slot, index = jnp.arange(slots), start + jnp.arange(L)
  in_prompt = slot < prompt_lengths[:, None, None]
  so_far = slot <= (prompt_slots + index)[:, None]
  mask = in_prompt | ((slot >= prompt_slots) & so_far)
  out = model.apply(
    {"params": params},
    tokens,
    positions=prompt_lengths[:, None] + index,
    cache=cache,
    attention_mask=jnp.broadcast_to(mask, (R, L, slots)),
    return_hidden_states=True,
  )
  return out.hidden_states, out.cache


def repeat_cache(cache: Cache, n: int) -> Cache:
  """Cache of B rows -> of B * n rows, each row n times in a row."""
  return jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), cache)
