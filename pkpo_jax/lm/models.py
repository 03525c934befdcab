"""A Gemma from a name or a config, its parameters, and its forward passes.

`prefill` reads each prompt once, for all its completions. From the `Prefix`
that it returns, `decode` reads the next tokens of completions while sampling,
and `teacher_force` reads whole completions in training. To the model no token
is special, PAD neither.

Parameters are kept in float32, whatever the model computes in; a program rounds
them once, by `compute_params`, and passes the rounded ones on.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections

from pkpo_jax.lm import attention, model_options, sharding, transformer
from pkpo_jax.lm.gemma_library import gm

Params = Any

PAD = 0  # Gemma's padding token; never sampled.

PRESETS = {
  "gemma2_2b": "Gemma2_2B",
  "gemma2_9b": "Gemma2_9B",
  "gemma2_27b": "Gemma2_27B",
  "gemma3_270m": "Gemma3_270M",
  "gemma3_1b": "Gemma3_1B",
  "gemma3_4b": "Gemma3_4B",
  "gemma3_12b": "Gemma3_12B",
  "gemma3_27b": "Gemma3_27B",
}


class Prompts(NamedTuple):
  """B prompts of different lengths.

  Attributes:
    tokens: [B, P] int32, padded at the right.
    lengths: [B] int32, 1..P.
  """

  tokens: chex.Array
  lengths: chex.Array


class Prefix(NamedTuple):
  """B prompts that were read, from which their completions go on.

  Attributes:
    hidden: [B, D], the states that predict the first completion token.
    kv: the keys and values of the prompts, with P slots.
    lengths: [B] int32, 1..P; the slots from there on are padding.
    rows: [B] int32, which rows of `kv` they are; None if all, in order.
  """

  hidden: chex.Array
  kv: transformer.KVCache
  lengths: chex.Array
  rows: chex.Array | None = None


def get_model(
  spec: str | ml_collections.ConfigDict, **overrides: Any
) -> nn.Module:
  """Builds a Gemma.

  Args:
    spec: a preset ("gemma2_tiny", "gemma2_2b", "gemma2_9b", ...), or a
      ConfigDict with a `name` and optionally
      * `dtype` to compute in ("float32" for gemma2_tiny, else "bfloat16";
        Gemma exceeds the range of float16),
      * `remat`: "none" (default), "dots" or "full", see transformer.py,
      * `lora_rank`: trains adapters of that rank instead of the parameters,
      * any field of gemma's `TransformerConfig` to change, such as `embed_dim`;
        `num_layers` repeats or cuts the pattern of local and global attention.
    **overrides: further fields, which override those of `spec`.

  Returns:
    A `transformer.Transformer`, or a `gm.nn.LoRA` around one; without
    parameters. Hashable: equal specs give equal models.

  Raises:
    ValueError: a name or a field is unknown, or a value out of range.
  """
  fields: dict[str, Any]
  fields = {"name": spec} if isinstance(spec, str) else dict(spec)
  fields.update(overrides)
  name = fields.pop("name", None)
  if name != "gemma2_tiny" and name not in PRESETS:
    known = ", ".join(["gemma2_tiny", *PRESETS])
    raise ValueError(f"Unknown model {name!r}; known: {known}.")
  tiny = name == "gemma2_tiny"
  config = _tiny_config() if tiny else _text_config(PRESETS[name])
  dtype = fields.pop("dtype", "float32" if tiny else "bfloat16")
  dtype = transformer.read_dtype(dtype)
  remat, rank = fields.pop("remat", "none"), fields.pop("lora_rank", None)
  if remat not in transformer.REMAT:
    raise ValueError(
      f"remat={remat!r} must be one of {sorted(transformer.REMAT)}."
    )
  model = transformer.Transformer(
    config=model_options.replace(config, fields),
    dtype=dtype,
    remat=remat,
    lora_rank=rank,
    tokens="batch.tokens",
  )
  if rank is None:
    return model
  model_options.check_count("lora_rank", rank)
  return gm.nn.LoRA(rank=rank, model=model, dtype=dtype)


def family(model: nn.Module) -> str:
  """Returns "gemma3" for models that normalise queries, else "gemma2"."""
  return "gemma3" if model.config.use_qk_norm else "gemma2"


def _text_config(name: str) -> gm.nn.config.TransformerConfig:
  """Returns the config of a class of gemma's, without its vision encoder."""
  config = getattr(gm.nn, name).config
  return dataclasses.replace(config, vision_encoder=None)


def _tiny_config() -> gm.nn.config.TransformerConfig:
  """Describes a tiny Gemma 2: all that the 2B has, in 0.4 M parameters."""
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


def init_params(model: nn.Module, key: chex.PRNGKey) -> Params:
  """Draws random parameters in float32, for training from scratch.

  They are those of gemma except for the embedding, which gets a standard
  deviation of 1/sqrt(D): so its rows enter the residual stream at the scale of
  the layers' normalised outputs, instead of far below.
  """
  model = _in_float32(model)
  with _gemma_promotes():
    params = model.init(key, jnp.ones((1, 1), jnp.int32))["params"]
  table = params["embedder"]["input_embedding"]
  scale = table.shape[-1] ** -0.5 / 0.01
  params["embedder"]["input_embedding"] = table * scale
  return params


def _in_float32(model: nn.Module) -> nn.Module:
  """Returns the model, computing in float32."""
  if isinstance(model, gm.nn.LoRA):
    model = model.clone(model=_in_float32(model.model))
  return model.clone(dtype=jnp.float32)


def abstract_params(model: nn.Module) -> Params:
  """Returns the shapes and types of `init_params`, and no arrays."""
  return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def without_adapters(model: nn.Module) -> nn.Module:
  """Returns the model that a `gm.nn.LoRA` wraps; any other unchanged."""
  if isinstance(model, gm.nn.LoRA):
    return model.model.clone(lora_rank=None)
  return model


def split(model: nn.Module, params: Params) -> tuple[Params, Params]:
  """Splits parameters into those that are frozen and those that are trained.

  With `lora_rank` the adapters are trained, without it all parameters.
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
  """Undoes `split`."""
  return gm.peft.merge_params(frozen, trained)


def compute_params(model: nn.Module, params: Params) -> Params:
  """Rounds parameters to the type that the model computes in."""
  return jax.tree.map(lambda x: x.astype(model.dtype), params)


def stack_layers(model: nn.Module, params: Params) -> Params:
  """Stacks the layers that training runs as a scan, for `remat`.

  An update that reads completions many times stacks them once: tens of arrays
  for the compiler instead of hundreds, and no copies in between.
  """
  return without_adapters(model).stack_layers(params)


def unstack_layers(model: nn.Module, params: Params) -> Params:
  """Undoes `stack_layers`, of parameters or of their gradient."""
  return without_adapters(model).unstack_layers(params)


def compute_shapes(model: nn.Module, params: Params) -> Params:
  """Returns the shapes and types of `compute_params`, and no arrays."""
  return jax.eval_shape(lambda x: compute_params(model, x), params)


def num_params(params: Params) -> int:
  """Counts the numbers in the parameters."""
  return sum(x.size for x in jax.tree.leaves(params))


def unembed(model: nn.Module, params: Params, hidden: chex.Array) -> chex.Array:
  """Maps hidden states [..., D] to soft-capped logits [..., V], float32."""
  table = params["embedder"]["input_embedding"]
  logits = jnp.dot(hidden, table.T, preferred_element_type=jnp.float32)
  cap = model.config.final_logit_softcap
  return logits if cap is None else jnp.tanh(logits / cap) * cap


@contextlib.contextmanager
def _gemma_promotes() -> Iterator[None]:
  """A context in which gemma's layers may promote ranks and types.

  They do, so that without it jax's strict modes would refuse every model.
  """
  with (
    jax.numpy_rank_promotion("allow"),
    jax.numpy_dtype_promotion("standard"),
  ):
    yield


def _apply(model: nn.Module, params: Params, *args: Any, **kwargs: Any) -> Any:
  """Applies a model; arguments and results are those of `Transformer`."""
  with _gemma_promotes():
    return model.apply({"params": params}, *args, **kwargs)


def prefill(
  model: nn.Module, params: Params, prompts: Prompts, *, training: bool
) -> Prefix:
  """Reads B prompts, once for all their completions.

  Args:
    model: a model of `get_model`.
    params: its parameters, of `compute_params`.
    prompts: B prompts.
    training: whether there will be a backward pass, as `teacher_force` needs;
      `decode` needs a prefix that is not for training.

  Returns:
    The prefix of their completions.
  """
  chex.assert_rank([prompts.tokens, prompts.lengths], [2, 1])
  hidden, kv = _apply(model, params, prompts.tokens, training=training)
  last = (prompts.lengths - 1)[:, None, None]
  hidden = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
  return Prefix(hidden, kv, prompts.lengths)


def take(prefix: Prefix, rows: chex.Array) -> Prefix:
  """Takes prompts of a prefix by their index, for `teacher_force`.

  Args:
    prefix: B prompts, of `prefill` for training.
    rows: [R] int32; a prompt may come any number of times.

  Returns:
    The prefix of R prompts. Keys and values stay where they are; each layer
    takes its own when it reads them.
  """
  return Prefix(
    sharding.take_rows(prefix.hidden, rows),
    prefix.kv,
    prefix.lengths[rows],
    rows,
  )


def teacher_force(
  model: nn.Module, params: Params, prefix: Prefix, completions: chex.Array
) -> chex.Array:
  """Reads n whole completions of every prompt at once: teacher forcing.

  Args:
    model: a model of `get_model`.
    params: its parameters, of `compute_params`.
    prefix: the prompts, of `prefill` for training.
    completions: [B, n, T] int32.

  Returns:
    Hidden states [B * n, T, D], each of which predicts the completion token at
    its own place.
  """
  B, n, T = completions.shape
  chex.assert_shape(prefix.lengths, (B,))
  first = jnp.repeat(prefix.hidden[:, None], n, axis=0)
  if T == 1:
    return sharding.constrain_rows(first)
  rest, _ = _apply(
    model,
    params,
    completions.reshape(B * n, T)[:, :-1],
    training=True,
    prompts=prefix.kv,
    lengths=prefix.lengths,
    rows=prefix.rows,
  )
  return sharding.constrain_rows(jnp.concatenate([first, rest], axis=1))


def empty_cache(model: nn.Module, rows: int) -> transformer.KVCache:
  """Makes the cache of completions for `decode`, with no slots yet."""
  config = model.config
  shape = (rows, config.num_kv_heads, 0, config.head_dim)
  empty = jnp.zeros(shape, model.dtype)
  layers = [attention.KeysValues(empty, empty) for _ in config.attention_types]
  return transformer.KVCache([], layers)


def grow_cache(cache: transformer.KVCache, slots: int) -> transformer.KVCache:
  """Adds empty slots to a cache of completions, until it has that many."""

  def pad(x: chex.Array) -> chex.Array:
    return jnp.pad(x, [(0, 0), (0, 0), (0, slots - x.shape[2]), (0, 0)])

  grown = [
    transformer.constrain_kv(jax.tree.map(pad, kv)) for kv in cache.unrolled
  ]
  return transformer.KVCache([], grown)


def decode(
  model: nn.Module,
  params: Params,
  prefix: Prefix,
  tokens: chex.Array,
  cache: transformer.KVCache,
  start: chex.Numeric,
) -> tuple[chex.Array, transformer.KVCache]:
  """Reads the next L tokens of completions, as many of each prompt.

  Args:
    model: a model of `get_model`.
    params: its parameters, of `compute_params`.
    prefix: the B prompts, of `prefill` not for training.
    tokens: [R, L] int32, completion tokens start .. start + L - 1, of R / B
      completions of each prompt.
    cache: the cache of the R completions, of `grow_cache`, which holds their
      tokens before `start` and has room for L more.
    start: how many completion tokens the cache holds; may be traced.

  Returns:
    Hidden states [R, L, D], each of which predicts the token after it; and the
    cache with the L tokens added.
  """
  chex.assert_rank([tokens, prefix.lengths], [2, 1])
  return _apply(
    model,
    params,
    tokens,
    training=False,
    prompts=prefix.kv,
    lengths=prefix.lengths,
    cache=cache,
    start=start,
  )
