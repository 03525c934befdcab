"""pkpo_jax.lm.formats.param_trees."""

import jax
import jax.numpy as jnp
import pytest
from helpers import plain

from pkpo_jax.lm import lora, models, sharding
from pkpo_jax.lm.formats import param_trees

TREE = {"layer_0": {"w": jnp.zeros((2, 3))}, "scale": jnp.ones(4)}


def test_leaves_are_known_by_name():
  assert param_trees.by_name(TREE)["scale"] is TREE["scale"]
  assert param_trees.shapes_by_name(TREE) == {
    "layer_0/w": (2, 3),
    "scale": (4,),
  }


def test_parameters_are_placed_on_one_device_or_on_the_mesh():
  model, params = plain.tiny()
  alone = param_trees.placed_shapes(model, None, "bfloat16")
  assert param_trees.shapes_by_name(alone) == param_trees.shapes_by_name(params)
  for x in jax.tree.leaves(alone):
    assert x.dtype == jnp.bfloat16
    assert x.sharding.device_set == {jax.local_devices()[0]}
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  placed = param_trees.placed_shapes(model, mesh, "float32")
  shardings = sharding.param_shardings(mesh, params)
  assert jax.tree.map(lambda x: x.sharding, placed) == shardings


def test_what_differs_is_listed():
  expected = {"a": (1,), "b": (2, 3)}
  param_trees.check_same(expected, dict(expected), "It")
  with pytest.raises(ValueError, match=r"^It does not fit the model: a is m"):
    param_trees.check_same(expected, {"b": (2, 3)}, "It")
  message = r": b has shape \(3, 2\) and not \(2, 3\)\.$"
  with pytest.raises(ValueError, match=message):
    param_trees.check_same(expected, {"a": (1,), "b": (3, 2)}, "It")
  many = expected | {str(i): () for i in range(7)}
  with pytest.raises(ValueError, match=r"4 is left over; and 2 more\.$"):
    param_trees.check_same(expected, many, "It")


def test_parameters_of_another_model_are_refused():
  model, params = plain.tiny()
  param_trees.check_params(model, params)
  other = params | {"layer_9": params["layer_0"]}
  del other["final_norm"]
  with pytest.raises(ValueError, match="final_norm/scale is missing; layer_9"):
    param_trees.check_params(model, other)


def test_adapters_are_refused_with_the_remedy():
  model = plain.tiny_model(lora_rank=2)
  params = models.abstract_params(model)
  with pytest.raises(ValueError, match=r"LoRA are merged by lm\.lora\.merge"):
    param_trees.check_params(model, params)
  param_trees.check_params(
    *lora.merge(model, models.init_params(model, jax.random.key(0)))
  )
