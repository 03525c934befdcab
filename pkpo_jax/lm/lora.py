"""Adds the adapters of LoRA (Hu et al. 2021) to the parameters they adapt."""

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp

from pkpo_jax.lm import models
from pkpo_jax.lm.gemma_library import gm

# What is adapted -> how the change of its parameter is made of A and B, whose
# rank is r: of the width d, heads n and k, their dimensions h, hidden units f.
_PRODUCTS = {
  "q_einsum": "dr,rnh->ndh",
  "kv_einsum": "dr,rckh->ckdh",
  "qkv_einsum": "dr,rsnh->sndh",
  "attn_vec_einsum": "nhr,rd->nhd",
  "gating_einsum": "dr,rcf->cdf",
  "linear": "fr,rd->fd",
}
_TRANSPOSED = "dr,rcf->cfd"  # gating_einsum of models with transposed gates


def merge(
  model: nn.Module, params: models.Params
) -> tuple[nn.Module, models.Params]:
  """Adds adapters to what they adapt; the result computes the same.

  Args:
    model: a `gm.nn.LoRA`, or a model without adapters, which stays as it is.
    params: its parameters, all of them.

  Returns:
    The model that the LoRA wraps, and its parameters; those that were adapted
    are float32.
  """
  if not isinstance(model, gm.nn.LoRA):
    return model, params
  product = dict(_PRODUCTS)
  if model.model.config.transpose_gating_einsum:
    product["gating_einsum"] = _TRANSPOSED
  flat = flax.traverse_util.flatten_dict(params)
  merged = {path: x for path, x in flat.items() if "lora" not in path}
  for path, a in flat.items():
    if path[-2:] == ("lora", "a"):
      b = flat[*path[:-1], "b"]
      name, target = _adapted(path)
      change = jnp.einsum(
        product[name], *(x.astype(jnp.float32) for x in (a, b)),
        precision="highest",
      )  # fmt: skip
      merged[target] = merged[target].astype(jnp.float32) + change
  plain = models.without_adapters(model)
  return plain, flax.traverse_util.unflatten_dict(merged)


def _adapted(path: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
  """What the adapter at a path adapts, and the path of its parameter.

  It is (..., "q_einsum", "_LoRAEinsum_0", "lora", "a") for a module with one
  parameter, and (..., "mlp", "_LoRAEinsum_linear", "lora", "a") for one with
  several.
  """
  above, wrapper = path[:-3], path[-3]
  name = wrapper.removeprefix("_LoRAEinsum_")
  if name.isdigit():
    return above[-1], (*above, "w")
  return name, (*above, name)
