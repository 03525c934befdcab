"""A Gemma from a name or a config, and its forward passes.

For sampling, `prefill` reads a prompt once and leaves a KV cache, and `extend`
reads completion tokens on top of it. For training, `read_completions` reads
prompts and whole completions at once. All masks and positions are explicit, so
no token id is special to the model.

Parameters are float32 masters, whatever the model computes in; a program rounds
them once, by `compute_params`, and passes those on.
"""

import dataclasses
from typing import Any

import chex
import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
from gemma import gm

from pkpo_jax.lm import sharding, transformer

Params = Any
Cache = transformer.Cache

PAD = 0  # Gemma's padding token; never sampled.

PRESETS = {
  "gemma2_2b": "Gemma2_2B",
  "gemma2_9b": "Gemma2_9B",
  "gemma2_27b": "Gemma2_27B",
  "gemma3_270m": "Gemma3_270M",
  "gemma3_1b": "Gemma3_1B",
}


def get_model(
  spec: str | ml_collections.ConfigDict, **overrides: Any
) -> nn.Module:
  """Builds a Gemma.

  Args:
    spec: a preset ("gemma2_tiny", "gemma2_2b", "gemma2_9b", ...), or a
      ConfigDict with a `name` and optionally
      * `dtype` to compute in ("float32" for gemma2_tiny, else "bfloat16"),
      * `remat`: "none" (default), "dots" or "full", see transformer.py,
      * `lora_rank`: trains adapters of that rank instead of the parameters,
      * any field of gemma's `TransformerConfig` to change, such as `embed_dim`;
        `num_layers` repeats or cuts the pattern of local and global attention.
    **overrides: as the fields of `spec`, and stronger.

  Returns:
    A `transformer.Transformer`, or a `gm.nn.LoRA` around one; without
    parameters. Hashable: equal specs give equal models.

  Raises:
    ValueError: unknown name or field, or a value out of range.
  """
  fields: dict[str, Any]
  fields = {"name": spec} if isinstance(spec, str) else dict(spec)
  fields.update(overrides)
  name = fields.pop("name", None)
  if name != "gemma2_tiny" and name not in PRESETS:
    known = ", ".join(["gemma2_tiny", *PRESETS])
    raise ValueError(f"Unknown model {name!r}; known: {known}.")
  tiny = name == "gemma2_tiny"
  config = _tiny_config() if tiny else getattr(gm.nn, PRESETS[name]).config
  dtype = jnp.dtype(fields.pop("dtype", "float32" if tiny else "bfloat16"))
  remat, rank = fields.pop("remat", "none"), fields.pop("lora_rank", None)
  if remat not in transformer.REMAT:
    raise ValueError(
      f"remat={remat!r} must be one of {sorted(transformer.REMAT)}."
    )
  model = transformer.Transformer(
    config=_replace(config, fields),
    dtype=dtype,
    remat=remat,
    tokens="batch.tokens",
  )
  if rank is None:
    return model
  if rank < 1:
    raise ValueError(f"lora_rank={rank} must be at least 1.")
  return gm.nn.LoRA(rank=rank, model=model, dtype=dtype)


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
      f" remat, lora_rank, num_layers, {', '.join(sorted(known))}."
    )
  fields = dict(fields)
  if "num_layers" in fields:
    pattern = fields.get("attention_types", config.attention_types)
    layers = fields.pop("num_layers")
    repeats = -(-layers // len(pattern))
    fields["attention_types"] = (tuple(pattern) * repeats)[:layers]
  return dataclasses.replace(config, **fields)


def init_params(model: nn.Module, key: chex.PRNGKey) -> Params:
  """Random parameters in float32, for training from scratch.

  As gemma initialises them, but for the embedding: with a standard deviation
  of 1/sqrt(D) its rows enter the residual stream at the scale of the blocks'
  normalised outputs, instead of far below.
  """
  model = _in_float32(model)
  params = model.init(key, jnp.ones((1, 1), jnp.int32))["params"]
  table = params["embedder"]["input_embedding"]
  scale = table.shape[-1] ** -0.5 / 0.01
  params["embedder"]["input_embedding"] = table * scale
  return params


def _in_float32(model: nn.Module) -> nn.Module:
  if isinstance(model, gm.nn.LoRA):
    model = model.clone(model=_in_float32(model.model))
  return model.clone(dtype=jnp.float32)


def abstract_params(model: nn.Module) -> Params:
  """Shapes and types of `init_params`, without its arrays."""
  return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def without_adapters(model: nn.Module) -> nn.Module:
  """The model that a `gm.nn.LoRA` wraps; any other as it is."""
  return model.model if isinstance(model, gm.nn.LoRA) else model


def split(model: nn.Module, params: Params) -> tuple[Params, Params]:
  """Parameters -> those that stay as they are, and those that are trained.

  With `lora_rank` the adapters are trained, else all parameters.
  """
  if not isinstance(model, gm.nn.LoRA):
    return {}, params
  flat = flax.traverse_util.flatten_dict(params)
  parts = (
    {name: x for name, x in flat.items() if ("lora" in name) == trained}
    for trained in (False, True)
  )
  frozen, trained = map(flax.traverse_util.unflatten_dict, parts)
  return frozen, trained


def merge(frozen: Params, trained: Params) -> Params:
  """What `split` has split."""
  return gm.peft.merge_params(frozen, trained)


def compute_params(model: nn.Module, params: Params) -> Params:
  """Parameters, rounded to what the model computes in."""
  return jax.tree.map(lambda x: x.astype(model.dtype), params)


def compute_shapes(model: nn.Module, params: Params) -> Params:
  """Shapes and types of `compute_params`, without its arrays."""
  return jax.eval_shape(lambda x: compute_params(model, x), params)


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
    params: of `compute_params`.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32, 1..P.
    room: for how many completion tokens the cache keeps room.

  Returns:
    The hidden state [B, D] that predicts the first completion token, and the
    cache of P + room slots.
  """
  chex.assert_rank([prompts, prompt_lengths], [2, 1])
  B, P = prompts.shape
  cache = transformer.held(
    model.config.init_cache(
      batch_size=B, dtype=model.dtype, cache_length=P + room
    )
  )
  mask = transformer.prompt_mask(prompt_lengths, P)
  mask = jnp.pad(mask, ((0, 0), (0, 0), (0, room)))
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
  return hidden[:, 0], transformer.held(out.cache)


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
    params: of `compute_params`.
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
  L = tokens.shape[1]
  slots = cache["layer_0"]["k"].shape[1]
  mask = transformer.completion_mask(
    prompt_lengths, prompt_slots, L, slots, start
  )
  out = model.apply(
    {"params": params},
    tokens,
    positions=prompt_lengths[:, None] + start + jnp.arange(L),
    cache=cache,
    attention_mask=mask,
    return_hidden_states=True,
  )
  return out.hidden_states, out.cache


def read_completions(
  model: nn.Module,
  params: Params,
  prompts: chex.Array,
  prompt_lengths: chex.Array,
  completions: chex.Array,
) -> chex.Array:
  """Reads n whole completions of every prompt at once: teacher forcing.

  Args:
    model: a model of `get_model`.
    params: of `compute_params`.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32, 1..P.
    completions: [B, n, T] int32.

  Returns:
    Hidden states [B * n, T, D], each of which predicts the completion token at
    its place.
  """
  B, n, T = completions.shape
  first, rest = model.apply(
    {"params": params},
    prompts,
    completions=completions.reshape(B * n, T)[:, :-1],
    prompt_lengths=prompt_lengths,
  )
  last = (prompt_lengths - 1)[:, None, None]
  first = jnp.repeat(jnp.take_along_axis(first, last, axis=1), n, axis=0)
  return sharding.on_rows(jnp.concatenate([first, rest], axis=1))


def repeat_cache(cache: Cache, n: int) -> Cache:
  """Cache of B rows -> of B * n rows, each row n times in a row."""
  return transformer.held(
    jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), cache)
  )
