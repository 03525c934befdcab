"""Hugging Face's config.json of a Gemma, to and from gemma's own config."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from pkpo_jax.lm import model_options, models, transformer
from pkpo_jax.lm.gemma_library import gm

_LOCAL = gm.nn.config.AttentionType.LOCAL_SLIDING
_GLOBAL = gm.nn.config.AttentionType.GLOBAL
_LAYER_TYPES = {"sliding_attention": _LOCAL, "full_attention": _GLOBAL}
_QUERY = gm.nn.config.QueryPreAttentionNormalisation

_CLASSES = {"gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
_MULTIMODAL = "gemma3"  # its config.json has a gemma3_text in `text_config`
# For each model_type: after how many layers a global one comes, the rotary
# base of global layers, and the length of the context.
_PERIODS = {"gemma2": 2, "gemma3_text": 6}
_ROPE_THETA = {"gemma2": 10_000, "gemma3_text": 1_000_000}
_CONTEXT = {"gemma2": 8192, "gemma3_text": 32_768}
_LONG_CONTEXT = 131_072  # where global positions are scaled

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
_SCALAR = "query_pre_attn_scalar"
# What Hugging Face takes for a key that is absent: published files leave out
# what equals it.
_DEFAULTS: dict[str, Any] = {
  "hidden_size": 2304,
  "intermediate_size": 9216,
  "num_hidden_layers": 26,
  "num_attention_heads": 8,
  "num_key_value_heads": 4,
  "head_dim": 256,
  _SCALAR: 256,
  "sliding_window": 4096,
}
_OWN_DEFAULTS: dict[str, dict[str, Any]] = {
  "gemma2": {
    "max_position_embeddings": 8192,
    "vocab_size": 256_000,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
  },
  "gemma3_text": {
    "max_position_embeddings": _LONG_CONTEXT,
    "vocab_size": 262_208,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
  },
}
_CAPS = ("final_logit_softcapping", "attn_logit_softcapping")
# Values that gemma has built in. The first is also Hugging Face's default.
_FIXED: dict[str, tuple] = {
  "hidden_activation": ("gelu_pytorch_tanh",),
  "rms_norm_eps": (1e-6,),
  "attention_bias": (False,),
  "attention_dropout": (0,),
  "tie_word_embeddings": (True, False),  # then the tensors must be equal
  "use_bidirectional_attention": (False, None),
}
# The same, of keys that exports leave out.
_REFUSED: dict[str, tuple] = {
  "quantization_config": (None,),
  "partial_rotary_factor": (None, 1),
  "transformers_weights": (None, "model.safetensors"),
}
_DTYPES = {"float16": "float32", "half": "float32"}  # computed in another


def is_multimodal(config: dict[str, Any]) -> bool:
  """Whether a config.json is of a Gemma with a vision tower."""
  return config.get("model_type") == _MULTIMODAL


def text_config(config: dict[str, Any]) -> dict[str, Any]:
  """Finds the part of a config.json that is about the text model.

  Args:
    config: the contents of the file, as old or new versions of `transformers`
      write it.

  Returns:
    The config with all defaults filled in; for a multimodal model that of its
    text tower, with the tokens and the dtype that the whole model names.

  Raises:
    ValueError: it is another kind of model.
  """
  whole = config
  if is_multimodal(config):
    config = {"model_type": "gemma3_text"} | (config.get("text_config") or {})
    shared = ("eos_token_id", "bos_token_id", "pad_token_id")
    config |= {key: whole[key] for key in shared if key in whole}
    for key in ("dtype", "torch_dtype", *_REFUSED, "tie_word_embeddings"):
      if key in whole and whole[key] is not None:
        config[key] = whole[key]
  kind = config.get("model_type")
  if kind not in _CLASSES:
    raise ValueError(
      f"config.json has model_type={kind!r}; what can be read is gemma2 and"
      " gemma3_text, and the text tower of gemma3."
    )
  return _DEFAULTS | _OWN_DEFAULTS[kind] | config


def read_config(
  config: dict[str, Any], dtype: Any = None
) -> transformer.Transformer:
  """Makes the model that a config.json describes.

  Args:
    config: the contents of the file; see `text_config`.
    dtype: the type the model computes in; by default the config's. Gemma
      exceeds the range of float16, so such a model computes in float32.

  Returns:
    The model. For a published checkpoint it equals that of `models.get_model`
    but for the number of embeddings, which Hugging Face does not pad.

  Raises:
    ValueError: it is another kind of model, or has a value that gemma cannot
      represent.
  """
  config = text_config(config)
  kind = config["model_type"]
  _check(config, kind)
  (local, local_factor), (global_, global_factor) = _rope(config, kind)
  ours = gm.nn.config.TransformerConfig(
    **{ours: config[theirs] for ours, theirs in _RENAMED.items()},
    use_post_attn_norm=True,
    use_post_ffw_norm=True,
    use_qk_norm=kind == "gemma3_text",
    attention_types=_attention_types(config, kind),
    query_pre_attn_norm=_query_norm(config),
    transpose_gating_einsum=kind == "gemma3_text",
    local_base_frequency=local,
    local_scale_factor=local_factor,
    global_base_frequency=global_,
    global_scale_factor=global_factor,
  )
  return transformer.Transformer(
    config=_as_preset(ours),
    dtype=transformer.read_dtype(_dtype(config) if dtype is None else dtype),
    tokens="batch.tokens",
  )


def stored_dtype(config: dict[str, Any]) -> str:
  """The dtype that a config.json names, such as "bfloat16"."""
  name = config.get("dtype") or config.get("torch_dtype") or "float32"
  return str(name).removeprefix("torch.")


def _dtype(config: dict[str, Any]) -> str:
  """The type to compute in."""
  name = stored_dtype(config)
  name = _DTYPES.get(name, name)
  _allow("dtype", name, ("bfloat16", "float32"))
  return name


def _check(config: dict[str, Any], kind: str) -> None:
  """Raises ValueError for values that gemma cannot represent."""
  _check_number(_SCALAR, config[_SCALAR], whole=True)
  for key in _CAPS:
    if config[key] is not None:
      _check_number(key, config[key])
  names = _RENAMED | {"num_layers": "num_hidden_layers"}
  try:
    sizes = {ours: config[theirs] for ours, theirs in names.items()}
    model_options.check(sizes, names)
  except ValueError as error:
    raise ValueError(f"config.json: {error}") from error
  for key, allowed in _FIXED.items():
    _allow(key, config.get(key, allowed[0]), allowed)
  for key, allowed in _REFUSED.items():
    _allow(key, config.get(key), allowed)
  if kind == "gemma3_text":  # which has the key and leaves it unused
    key = "attn_logit_softcapping"
    _allow(key, config[key], (None,))


def _check_number(key: str, value: Any, *, whole: bool = False) -> None:
  """Raises ValueError unless the value is a positive number."""
  kind = int if whole else (int, float)
  if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
    what = "whole number" if whole else "number"
    raise ValueError(
      f"config.json has {key}={value!r}, which must be a positive {what}."
    )


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
    period = _PERIODS[kind]
    if kind == "gemma3_text":  # Gemma 2 does not listen to the key
      period = config.get("sliding_window_pattern", period)
      _check_number("sliding_window_pattern", period, whole=True)
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
  scalar, head_dim = config[_SCALAR], config["head_dim"]
  width = config["hidden_size"] // config["num_attention_heads"]
  _allow(_SCALAR, scalar, (head_dim, width))
  if scalar == head_dim:
    return _QUERY.BY_ONE_OVER_SQRT_HEAD_DIM
  return _QUERY.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS


def _rope(
  config: dict[str, Any], kind: str
) -> tuple[tuple[float, float], tuple[float, float]]:
  """Reads base and factor of the positions of local and of global layers.

  New configs have `rope_parameters`, old ones three separate keys.
  """
  new, scaling = config.get("rope_parameters"), config.get("rope_scaling")
  if new and scaling:
    raise ValueError(
      "config.json has rope_parameters and rope_scaling, which versions of"
      " transformers read differently; keep one of them."
    )
  new = new or {}
  base = {"rope_theta": config.get("rope_theta", _ROPE_THETA[kind])}
  if kind == "gemma2":
    both = _base_and_factor(base | (scaling or new))
    return both, both
  for key in new:
    _allow("rope_parameters", key, tuple(_LAYER_TYPES))
  if scaling and "type" in scaling and "rope_type" not in scaling:
    raise ValueError(
      f"config.json has rope_scaling={scaling}, whose `type` versions of"
      " transformers read differently in Gemma 3; write `rope_type`."
    )
  local = {"rope_theta": config.get("rope_local_base_freq", 10_000)}
  return (
    _base_and_factor(local | (new.get("sliding_attention") or {})),
    _base_and_factor(
      base | (scaling or {}) | (new.get("full_attention") or {})
    ),
  )


def _base_and_factor(rope: dict[str, Any]) -> tuple[float, float]:
  """Reads one entry; a factor counts where the type is linear alone."""
  for key in rope:
    _allow("rope", key, ("rope_theta", "rope_type", "type", "factor"))
  how = rope.get("rope_type", rope.get("type", "default"))
  _allow("rope_type", how, ("default", "linear"))
  _check_number("rope_theta", rope["rope_theta"])
  if how == "default":
    return rope["rope_theta"], 1.0
  _check_number("factor", rope.get("factor"))
  return rope["rope_theta"], rope["factor"]


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


# Keys that an export says in its own way, whatever its source had.
_REPLACED = ("rope_parameters", "rope_scaling", "dtype", "_name_or_path")


def write_config(
  model: gm.nn.Transformer, source: dict[str, Any] | None = None
) -> dict[str, Any]:
  """Writes the config.json of a model, for old and new `transformers`.

  Args:
    model: the model.
    source: the config.json of the checkpoint that it comes from. What the
      model does not determine is taken from it, such as the tokens that end a
      text and the length of the context.

  Raises:
    ValueError: Hugging Face's Gemma 2 and 3 cannot represent the model; or the
      source is of another model.
  """
  ours = model.config
  kind = "gemma3_text" if ours.use_qk_norm else "gemma2"
  long = ours.global_scale_factor != 1
  facts = {
    "hidden_act": "gelu_pytorch_tanh",  # what old readers look for
    "max_position_embeddings": _LONG_CONTEXT if long else _CONTEXT[kind],
    "pad_token_id": models.PAD,
    "eos_token_id": 1,
    "bos_token_id": 2,
  }
  if source is not None:
    _check_same(ours, read_config(source).config, "source= is another model")
    facts |= text_config(source)
  config = {key: x for key, x in facts.items() if key not in _REPLACED}
  config |= {
    "architectures": [_CLASSES[kind]],
    "model_type": kind,
    **{theirs: getattr(ours, name) for name, theirs in _RENAMED.items()},
    **{key: allowed[0] for key, allowed in _FIXED.items()},
    "num_hidden_layers": ours.num_layers,
    "layer_types": [
      next(key for key, value in _LAYER_TYPES.items() if value == kind_of)
      for kind_of in ours.attention_types
    ],
    _SCALAR: round(ours.query_pre_attn_scalar() ** -2),
    "rope_theta": ours.global_base_frequency,
    "torch_dtype": str(jnp.dtype(model.dtype)),
  }
  if kind == "gemma3_text":
    config["rope_local_base_freq"] = ours.local_base_frequency
  if long:
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
  _check_same(ours, read, "Not a Gemma of Hugging Face")


def _check_same(
  ours: gm.nn.config.TransformerConfig,
  read: gm.nn.config.TransformerConfig,
  what: str,
) -> None:
  """Raises ValueError unless two configs differ in layout alone."""
  for field in dataclasses.fields(ours):
    values = [getattr(one, field.name) for one in (ours, read)]
    if field.name == "query_pre_attn_norm":
      values = [one.query_pre_attn_scalar() for one in (ours, read)]
    same = values[0] == values[1]
    if not same and field.name != "transpose_gating_einsum":
      raise ValueError(
        f"{what}: {field.name}={values[0]!r} would be read as {values[1]!r}."
      )
