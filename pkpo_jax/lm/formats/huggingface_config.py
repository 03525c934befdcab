"""Hugging Face's config.json of a Gemma, to and from gemma's own config."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from gemma import gm

from pkpo_jax.lm import models, transformer

_LOCAL = gm.nn.config.AttentionType.LOCAL_SLIDING
_GLOBAL = gm.nn.config.AttentionType.GLOBAL
_LAYER_TYPES = {"sliding_attention": _LOCAL, "full_attention": _GLOBAL}
_QUERY = gm.nn.config.QueryPreAttentionNormalisation

_CLASSES = {"gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
# For each model_type: after how many layers a global one comes, the rotary
# base of global layers, and the length of the context.
_PERIODS = {"gemma2": 2, "gemma3_text": 6}
_ROPE_THETA = {"gemma2": 10_000, "gemma3_text": 1_000_000}
_CONTEXT = {"gemma2": 8192, "gemma3_text": 32_768}

# Field of gemma's config: the same in Hugging Face's.
_RENAMED = {
  "num_embed": "vocab_size",
  "embed_dim": "hidden_size",
  "hidden_dim": "intermediate_size",
  "num_heads": "num_attention_heads",
  "head_dim": "head_dim",
  "num_kv_heads": "num_key_value_heads",
  "final_logit_softcap": "final_logit_softcapping",
  "attn_logits_soft_cap": "attn_logit_softcapping",
  "sliding_window_size": "sliding_window",
}
_REQUIRED = (
  *_RENAMED.values(),
  "num_hidden_layers",
  "query_pre_attn_scalar",
)
# Values that gemma has built in. The first is also Hugging Face's default.
_FIXED: dict[str, tuple] = {
  "hidden_activation": ("gelu_pytorch_tanh",),
  "rms_norm_eps": (1e-6,),
  "attention_bias": (False,),
  "attention_dropout": (0,),
  "tie_word_embeddings": (True,),
  "use_bidirectional_attention": (False, None),
}


def read_config(
  config: dict[str, Any], dtype: Any = None
) -> transformer.Transformer:
  """Makes the model that a config.json describes.

  Args:
    config: the contents of the file, as old or new versions of `transformers`
      write it.
    dtype: the type the model computes in; by default the config's.

  Returns:
    The model. For a published checkpoint it equals that of `models.get_model`
    but for the number of embeddings, which Hugging Face does not pad.

  Raises:
    ValueError: it is another kind of model, lacks a key, or has a value that
      gemma cannot represent.
  """
  kind = _check(config)
  local, global_ = _rope(config, kind)
  ours = gm.nn.config.TransformerConfig(
    **{ours: config[theirs] for ours, theirs in _RENAMED.items()},
    use_post_attn_norm=True,
    use_post_ffw_norm=True,
    use_qk_norm=kind == "gemma3_text",
    attention_types=_attention_types(config, kind),
    query_pre_attn_norm=_query_norm(config),
    transpose_gating_einsum=kind == "gemma3_text",
    local_base_frequency=local["rope_theta"],
    local_scale_factor=local.get("factor", 1.0),
    global_base_frequency=global_["rope_theta"],
    global_scale_factor=global_.get("factor", 1.0),
  )
  if dtype is None:
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
  return transformer.Transformer(
    config=_as_preset(ours), dtype=jnp.dtype(dtype), tokens="batch.tokens"
  )


def _check(config: dict[str, Any]) -> str:
  """Checks a config and returns its model_type."""
  kind = config.get("model_type")
  if kind not in _CLASSES:
    raise ValueError(
      f"config.json has model_type {kind!r}; known: {', '.join(_CLASSES)}."
    )
  missing = [key for key in _REQUIRED if key not in config]
  if missing:
    raise ValueError(f"config.json lacks {', '.join(missing)}.")
  for key, allowed in _FIXED.items():
    _allow(key, config.get(key, allowed[0]), allowed)
  _allow("quantization_config", config.get("quantization_config"), (None,))
  if kind == "gemma3_text":  # which has the key and leaves it unused
    key = "attn_logit_softcapping"
    _allow(key, config[key], (None,))
  return kind


def _allow(key: str, value: Any, allowed: Sequence[Any]) -> None:
  """Raises ValueError unless the value is one of the allowed ones."""
  if value not in allowed:
    raise ValueError(
      f"config.json has {key}={value!r}, which gemma cannot represent;"
      f" possible: {', '.join(map(repr, allowed))}."
    )


def _attention_types(config: dict[str, Any], kind: str) -> tuple:
  """Reads which layers attend locally and which globally."""
  layers, types = config["num_hidden_layers"], config.get("layer_types")
  if types is None:
    period = config.get("sliding_window_pattern") or _PERIODS[kind]
    types = [
      "sliding_attention" if (i + 1) % period else "full_attention"
      for i in range(layers)
    ]
  if len(types) != layers:
    raise ValueError(
      f"config.json has {len(types)} layer_types for num_hidden_layers="
      f"{layers}."
    )
  for value in types:
    _allow("layer_types", value, tuple(_LAYER_TYPES))
  return tuple(_LAYER_TYPES[value] for value in types)


def _query_norm(config: dict[str, Any]) -> Any:
  """Reads what queries are scaled by, as one of gemma's two ways."""
  scalar, head_dim = config["query_pre_attn_scalar"], config["head_dim"]
  width = config["hidden_size"] // config["num_attention_heads"]
  _allow("query_pre_attn_scalar", scalar, (head_dim, width))
  if scalar == head_dim:
    return _QUERY.BY_ONE_OVER_SQRT_HEAD_DIM
  return _QUERY.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS


def _rope(config: dict[str, Any], kind: str) -> tuple[dict, dict]:
  """Reads rope_theta and factor of local and of global layers.

  New configs have `rope_parameters`, old ones three separate keys.
  """
  new = config.get("rope_parameters") or {}
  old = {
    "rope_theta": config.get("rope_theta", _ROPE_THETA[kind]),
    **(config.get("rope_scaling") or {}),
  }
  if kind == "gemma2":
    local = global_ = old | new
  else:
    for key in new:
      _allow("rope_parameters", key, tuple(_LAYER_TYPES))
    base = config.get("rope_local_base_freq", 10_000)
    local = {"rope_theta": base} | new.get("sliding_attention", {})
    global_ = old | new.get("full_attention", {})
  for rope in (local, global_):
    for key in rope:
      _allow("rope", key, ("rope_theta", "rope_type", "type", "factor"))
    how = rope.get("rope_type", rope.get("type", "default"))
    _allow("rope_type", how, ("default", "linear"))
  return local, global_


def _as_preset(
  config: gm.nn.config.TransformerConfig,
) -> gm.nn.config.TransformerConfig:
  """Returns the preset that differs only in layout, or else the config."""
  for name in models.PRESETS:
    preset = models.get_model(name, num_embed=config.num_embed).config
    layout = preset.transpose_gating_einsum
    if preset == dataclasses.replace(config, transpose_gating_einsum=layout):
      return preset
  return config


def write_config(model: gm.nn.Transformer) -> dict[str, Any]:
  """Writes the config.json of a model, for old and new `transformers`.

  Raises:
    ValueError: Hugging Face's Gemma 2 and 3 cannot represent the model.
  """
  ours = model.config
  kind = "gemma3_text" if ours.use_qk_norm else "gemma2"
  config = {
    "architectures": [_CLASSES[kind]],
    "model_type": kind,
    **{theirs: getattr(ours, name) for name, theirs in _RENAMED.items()},
    **{key: allowed[0] for key, allowed in _FIXED.items()},
    "num_hidden_layers": ours.num_layers,
    "layer_types": [
      next(key for key, value in _LAYER_TYPES.items() if value == kind_of)
      for kind_of in ours.attention_types
    ],
    "query_pre_attn_scalar": round(ours.query_pre_attn_scalar() ** -2),
    "rope_theta": ours.global_base_frequency,
    "max_position_embeddings": _CONTEXT[kind],
    "pad_token_id": models.PAD,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "torch_dtype": str(jnp.dtype(model.dtype)),
  }
  if kind == "gemma3_text":
    config["rope_local_base_freq"] = ours.local_base_frequency
  if ours.global_scale_factor != 1:
    scaling = {"rope_type": "linear", "factor": ours.global_scale_factor}
    config["rope_scaling"] = scaling
  _check_lossless(ours, config)
  return config


def _check_lossless(
  ours: gm.nn.config.TransformerConfig, config: dict[str, Any]
) -> None:
  """Raises ValueError unless the config is read back as what it was."""
  try:
    read = read_config(config).config
  except ValueError as error:
    raise ValueError(f"Not a Gemma of Hugging Face: {error}") from error
  for field in dataclasses.fields(ours):
    values = [getattr(one, field.name) for one in (ours, read)]
    if field.name == "query_pre_attn_norm":
      values = [one.query_pre_attn_scalar() for one in (ours, read)]
    same = values[0] == values[1]
    if not same and field.name != "transpose_gating_einsum":
      raise ValueError(
        f"Not a Gemma of Hugging Face: {field.name}={values[0]!r} would be"
        f" read as {values[1]!r}."
      )
