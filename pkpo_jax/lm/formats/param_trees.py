"""Trees of parameters by name: what a checkpoint must hold, and if it does.

All formats check names and shapes with these functions, before anything is
read or written.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from pkpo_jax.lm import models, sharding, transformer
from pkpo_jax.lm.gemma_library import gm

Shapes = Mapping[str, tuple[int, ...]]


def placed_shapes(
  model: nn.Module, mesh: jax.sharding.Mesh | None, dtype: Any
) -> models.Params:
  """Shapes of a model's parameters in that dtype, with their shardings.

  Args:
    model: the model.
    mesh: where the parameters will lie; None means one local device.
    dtype: the type of all of them.

  Raises:
    ValueError: as `transformer.read_dtype`.
  """
  kept = transformer.read_dtype(dtype)
  tree = models.abstract_params(model)
  if mesh is None:
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shardings = jax.tree.map(lambda _: one, tree)
  else:
    shardings = sharding.param_shardings(mesh, tree)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, kept, sharding=s),
    tree,
    shardings,
  )


def by_name(tree: models.Params) -> dict[str, Any]:
  """Maps names such as "layer_0/mlp/linear" to leaves."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {sharding.name_of(path): leaf for path, leaf in leaves}


def shapes_by_name(tree: models.Params) -> dict[str, tuple[int, ...]]:
  """Maps names such as "layer_0/mlp/linear" to shapes."""
  return {name: tuple(x.shape) for name, x in by_name(tree).items()}


def check_same(expected: Shapes, found: Shapes, what: str) -> None:
  """Checks that names and shapes agree.

  Args:
    expected: the model's shapes, by name.
    found: the shapes that are there.
    what: the subject of the message, such as "The checkpoint".

  Raises:
    ValueError: they differ; the message lists the first five differences.
  """
  problems = [
    *(f"{name} is missing" for name in expected if name not in found),
    *(f"{name} is left over" for name in found if name not in expected),
    *(
      f"{name} has shape {found[name]} and not {shape}"
      for name, shape in expected.items()
      if found.get(name, shape) != shape
    ),
  ]
  if problems:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise ValueError(
      f"{what} does not fit the model: {'; '.join(problems[:5])}{more}."
    )


def check_params(model: nn.Module, params: models.Params) -> None:
  """Checks that a model and its parameters can be saved.

  Raises:
    ValueError: the model is no Transformer, such as one with LoRA adapters, or
      the parameters are not those of the model.
  """
  if not isinstance(model, gm.nn.Transformer):
    raise ValueError(
      f"Only a Transformer can be saved, not a {type(model).__name__}; the"
      " adapters of a LoRA are merged by lm.lora.merge first."
    )
  expected = shapes_by_name(models.abstract_params(model))
  check_same(expected, shapes_by_name(params), "The tree of parameters")
