"""A Gemma from a name or a config, and its forward passes.

`prefill` reads a prompt once for all its completions. On top of it,
`decode` reads their next tokens in sampling, and `teacher_force` all of them
at once in training. No token id is special to the model.

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

from pkpo_jax.lm import attention, sharding, transformer

Params = Any

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
  training: bool,
) -> tuple[chex.Array, transformer.KVCache]:
  """Reads B prompts, once for all their completions.

  Args:
    model: a model of `get_model`.
    params: of `compute_params`.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32, 1..P.
    training: whether there will be a backward pass, which `remat` is about.

  Returns:
    The hidden state [B, D] that predicts the first completion token, and the
    keys and values of P slots.
  """
  chex.assert_rank([prompts, prompt_lengths], [2, 1])
  hidden, kv = model.apply({"params": params}, prompts, training=training)
  last = (prompt_lengths - 1)[:, None, None]
  return jnp.take_along_axis(hidden, last, axis=1)[:, 0], kv


def teacher_force(
  model: nn.Module,
  params: Params,
  read: tuple[chex.Array, transformer.KVCache],
  prompt_lengths: chex.Array,
  completions: chex.Array,
) -> chex.Array:
  """Reads n whole completions of every prompt at once: teacher forcing.

  Args:
    model: a model of `get_model`.
    params: of `compute_params`.
    read: the prompts, as `prefill` for training returned them.
    prompt_lengths: [B] int32, 1..P.
    completions: [B, n, T] int32.

  Returns:
    Hidden states [B * n, T, D], each of which predicts the completion token at
    its place.
  """
  B, n, T = completions.shape
  first, kv = read
  first = jnp.repeat(first[:, None], n, axis=0)
  if T == 1:
    return sharding.constrain_rows(first)
  rest, _ = model.apply(
    {"params": params},
    completions.reshape(B * n, T)[:, :-1],
    training=True,
    lengths=prompt_lengths,
    prompts=kv,
  )
  return sharding.constrain_rows(jnp.concatenate([first, rest], axis=1))


def empty_cache(model: nn.Module, rows: int) -> transformer.KVCache:
  """For completion tokens that are read by `decode`; without room for any."""
  config = model.config
  shape = (rows, config.num_kv_heads, 0, config.head_dim)
  empty = jnp.zeros(shape, model.dtype)
  layers = [attention.KeysValues(empty, empty) for _ in config.attention_types]
  return transformer.KVCache([], layers)


def grow_cache(cache: transformer.KVCache, slots: int) -> transformer.KVCache:
  """The cache of completions, made larger: with empty slots after its own."""

  def pad(x):
    return jnp.pad(x, [(0, 0), (0, 0), (0, slots - x.shape[2]), (0, 0)])

  grown = [
    transformer.constrain_kv(jax.tree.map(pad, kv)) for kv in cache.unrolled
  ]
  return transformer.KVCache([], grown)


def decode(
  model: nn.Module,
  params: Params,
  prompts: transformer.KVCache,
  prompt_lengths: chex.Array,
  tokens: chex.Array,
  cache: transformer.KVCache,
  start: chex.Numeric,
) -> tuple[chex.Array, transformer.KVCache]:
  """Reads the next L tokens of completions, as many of each prompt: decoding.

  Args:
    model: a model of `get_model`.
    params: of `compute_params`.
    prompts: keys and values of B prompts, of `prefill` not for training.
    prompt_lengths: [B] int32.
    tokens: [R, L] int32, completion tokens start .. start + L - 1, of R / B
      completions of each prompt.
    cache: of `grow_cache`, with the completion tokens before `start` in it.
    start: how many completion tokens the cache holds; may be traced.

  Returns:
    Hidden states [R, L, D], each of which predicts the token after it; and the
    cache with the L tokens added.
  """
  chex.assert_rank([tokens, prompt_lengths], [2, 1])
  return model.apply(
    {"params": params},
    tokens,
    training=False,
    lengths=prompt_lengths,
    prompts=prompts,
    cache=cache,
    start=start,
  )
