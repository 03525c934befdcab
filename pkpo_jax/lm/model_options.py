"""Changes fields of a model's config, which a user may have got wrong."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pkpo_jax.lm.gemma_library import gm

_MOST_LAYERS = 1000  # The largest Gemma has 62.
_COUNTS = (
  "num_layers",
  "num_embed",
  "embed_dim",
  "hidden_dim",
  "num_heads",
  "head_dim",
  "num_kv_heads",
  "sliding_window_size",
)
_CAPS = ("final_logit_softcap", "attn_logits_soft_cap")  # which may be None
_POSITIVE = (
  "local_base_frequency",
  "global_base_frequency",
  "local_scale_factor",
  "global_scale_factor",
)


def replace(
  config: gm.nn.config.TransformerConfig, fields: dict[str, Any]
) -> gm.nn.config.TransformerConfig:
  """Changes fields of a config.

  Raises:
    ValueError: it has no such field, or the value is of another type or out of
      range.
  """
  known = {f.name for f in dataclasses.fields(config)} - {"vision_encoder"}
  unknown = set(fields) - known - {"num_layers"}
  if unknown:
    raise ValueError(
      f"Unknown model options {sorted(unknown)}; known: name, dtype,"
      f" remat, lora_rank, num_layers, {', '.join(sorted(known))}."
    )
  fields = dict(fields)
  for name, value in fields.items():
    _check_type(name, value, getattr(config, name))
  pattern = tuple(fields.get("attention_types", config.attention_types))
  layers = fields.pop("num_layers", len(pattern))
  check(vars(config) | fields | {"num_layers": layers})
  repeats = -(-layers // len(pattern))
  fields["attention_types"] = (pattern * repeats)[:layers]
  return dataclasses.replace(config, **fields)


def check(values: Mapping[str, Any], names: Mapping[str, str] = {}) -> None:
  """Checks the sizes of a model, for which gemma would fail late or silently.

  Args:
    values: fields of a model's config and `num_layers`, or some of them.
    names: what some of them are called where a user finds them.

  Raises:
    ValueError: one is out of range, or two do not go together.
  """
  named = {name: names.get(name, name) for name in values}
  for name in filter(values.__contains__, _COUNTS):
    check_count(named[name], values[name])
  layers, heads = values["num_layers"], values["num_heads"]
  if layers > _MOST_LAYERS:
    raise ValueError(
      f"{named['num_layers']}={layers} must be at most {_MOST_LAYERS}: more are"
      " a mistake."
    )
  if heads % (kv_heads := values["num_kv_heads"]):
    raise ValueError(
      f"{named['num_kv_heads']}={kv_heads} must divide"
      f" {named['num_heads']}={heads}: each key head has as many queries."
    )
  if (width := values["head_dim"]) % 2:
    raise ValueError(
      f"{named['head_dim']}={width} must be even: positions turn pairs."
    )
  for name in filter(values.__contains__, (*_CAPS, *_POSITIVE)):
    value = values[name]
    if not (name in _CAPS and value is None) and not 0 < value < math.inf:
      raise ValueError(f"{named[name]}={value!r} must be above 0, and finite.")


def check_count(name: str, value: Any) -> None:
  """Raises ValueError unless the value is a whole number of at least 1."""
  if isinstance(value, bool) or not isinstance(value, int) or value < 1:
    raise ValueError(f"{name}={value!r} must be an integer of at least 1.")


def _check_type(name: str, value: Any, like: Any) -> None:
  """Raises ValueError unless both are numbers, whole ones, or truth values.

  Soft-caps are numbers or None, and a pattern has kinds of attention.
  """
  allowed: tuple[type, ...]
  if name in _CAPS:
    allowed, kind = (int, float, type(None)), "float or None"
  else:
    kind = type(like).__name__
    allowed = (int, float) if isinstance(like, float) else (type(like),)
  right = isinstance(value, allowed)
  if isinstance(value, bool):
    right = bool in allowed
  if name == "attention_types":
    one = type(like[0])
    right = right and bool(value) and all(isinstance(x, one) for x in value)
    kind = f"{kind} of {one.__name__}"
  if not right:
    raise ValueError(f"{name}={value!r} must be of type {kind}.")
