"""Changes fields of a model's config, which a user may have got wrong."""

import dataclasses
from typing import Any

from pkpo_jax.lm.gemma_library import gm


def replace(
  config: gm.nn.config.TransformerConfig, fields: dict[str, Any]
) -> gm.nn.config.TransformerConfig:
  """Changes fields of a config.

  Raises:
    ValueError: it has no such field, or the value is of another type.
  """
  known = {f.name for f in dataclasses.fields(config)}
  unknown = set(fields) - known - {"num_layers"}
  if unknown:
    raise ValueError(
      f"Unknown model options {sorted(unknown)}; known: name, dtype,"
      f" remat, lora_rank, num_layers, {', '.join(sorted(known))}."
    )
  fields = dict(fields)
  for name, value in fields.items():
    _check_type(name, value, getattr(config, name))
  if "num_layers" in fields:
    pattern = fields.get("attention_types", config.attention_types)
    layers = fields.pop("num_layers")
    repeats = -(-layers // len(pattern))
    fields["attention_types"] = (tuple(pattern) * repeats)[:layers]
  return dataclasses.replace(config, **fields)


def _check_type(name: str, value: Any, like: Any) -> None:
  """Raises ValueError unless both are numbers, whole ones, or truth values.

  In place of a number that is not whole, such as a soft-cap, None is none.
  """
  kinds: dict[type, Any] = {
    bool: bool,
    int: int,
    float: (int, float, type(None)),
  }
  allowed = kinds.get(type(like), object)
  of_truth = isinstance(value, bool) and type(like) in (int, float)
  if of_truth or not isinstance(value, allowed):
    raise ValueError(f"{name}={value!r} must be of type {type(like).__name__}.")
