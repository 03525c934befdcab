"""pkpo_jax.lm.sharding: which axis splits what; results are in test_layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from pkpo_jax.lm import models, sharding


def abstract_mesh(*sizes):
  return AbstractMesh(sizes, sharding.AXES, axis_types=(AxisType.Auto,) * 3)


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def constraints(function, *args):
  """The specs to which a function constrains arrays, in order."""
  equations = jax.make_jaxpr(function)(*args).eqns
  return [
    e.params["sharding"].spec
    for e in equations
    if e.primitive.name == "sharding_constraint"
  ]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, -1, 1), (-1, 1, 1)])
def test_a_mesh_has_three_axes_and_all_devices(sizes):
  mesh = sharding.make_mesh(*sizes, devices=jax.devices()[:1])
  assert mesh.axis_names == sharding.AXES
  assert mesh.size == 1


@pytest.mark.parametrize(
  "sizes", [(2, 1, 1), (1, 2, -1), (-1, -1, 1), (0, 1, 1)]
)
def test_a_mesh_must_cover_the_devices(sizes):
  with pytest.raises(ValueError, match="does not cover 1 devices"):
    sharding.make_mesh(*sizes, devices=jax.devices()[:1])


@pytest.mark.parametrize(
  ("name", "sizes", "axes"),
  [
    ("embedder/input_embedding", (8, 4), ("tensor", "fsdp")),
    ("layer_0/attn/q_einsum/w", (4, 8, 2), ("tensor", "fsdp", None)),
    ("attn/kv_einsum/w", (2, 4, 8, 2), (None, "tensor", "fsdp", None)),
    ("attn/qkv_einsum/w", (3, 4, 8, 2), (None, "tensor", "fsdp", None)),
    ("attn/attn_vec_einsum/w", (4, 2, 8), ("tensor", None, "fsdp")),
    ("mlp/gating_einsum", (2, 8, 16), (None, "fsdp", "tensor")),
    ("mlp/gating_einsum", (2, 16, 8), (None, "tensor", "fsdp")),
    ("mlp/linear", (16, 8), ("tensor", "fsdp")),
    ("final_norm/scale", (7,), (None,)),
    ("opt_state/0/mu/mlp/linear", (16, 8), ("tensor", "fsdp")),
    ("mlp/linear/lora/a", (16, 3), ("fsdp", None)),
    ("mlp/linear/lora/b", (3, 5), (None, None)),
    ("scanned/0/mlp/linear", (13, 16, 8), (None, "tensor", "fsdp")),
    ("scanned/1/mlp/linear/lora/a", (4, 16, 3), (None, "fsdp", None)),
    ("scanned/1/pre_attention_norm/scale", (13, 7), (None, None)),
    ("step", (), ()),
  ],
)
def test_the_rule_of_each_parameter(name, sizes, axes):
  tree = shape(*sizes)
  for part in reversed(name.split("/")):
    tree = {part: tree}
  found = sharding.param_shardings(abstract_mesh(1, 2, 4), tree)
  (leaf,) = jax.tree.leaves(found)
  assert leaf.spec == PartitionSpec(*axes)


def test_every_parameter_of_a_model_has_a_rule():
  params = models.abstract_params(plain.tiny_model())
  found = sharding.param_shardings(abstract_mesh(1, 2, 2), params)
  for row in sharding.describe(params, found):
    assert row.replicas == (4 if "scale" in row.name else 1), row


def test_no_rule_and_no_divisor_are_errors():
  mesh = abstract_mesh(1, 4, 1)
  with pytest.raises(
    ValueError, match=r"No sharding rule for mlp/new \(4, 4\)"
  ):
    sharding.param_shardings(mesh, {"mlp": {"new": shape(4, 4)}})
  message = r"fsdp=4 does not divide 6, .*mlp/linear \(8, 6\)"
  with pytest.raises(ValueError, match=message):
    sharding.param_shardings(mesh, {"mlp": {"linear": shape(8, 6)}})


@pytest.mark.parametrize(
  ("rows", "axes"), [(8, ("fsdp", "data")), (4, ("fsdp",)), (3, ())]
)
def test_rows_are_split_over_what_divides_them(rows, axes):
  mesh = abstract_mesh(2, 4, 1)
  assert sharding.rows_axes(mesh, rows) == axes
  assert sharding.rows_sharding(mesh, rows).spec == PartitionSpec(axes)


def test_rows_are_taken_exactly_and_their_gradients_add_up():
  x = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
  rows = np.array([2, 0, 2], np.int32)
  ours, pull = jax.vjp(lambda x: sharding.take_rows(x, rows), jnp.asarray(x))
  np.testing.assert_array_equal(ours, x[rows])
  (gradient,) = pull(jnp.asarray(x[:3]))
  np.testing.assert_array_equal(
    gradient, [x[1], np.zeros((3, 2)), x[0] + x[2], np.zeros((3, 2))]
  )


@pytest.mark.parametrize(
  ("sizes", "prompts", "samples"),
  [
    ((1, 1, 1), 3, 5),  # one device takes anything
    ((8, 16, 1), 16, 16),  # the paper's slice: all prompts in each replica
    ((8, 4, 4), 16, 16),
    ((8, 1, 1), 2, 4),
    ((1, 1, 8), 1, 1),
  ],
)
def test_rows_that_no_device_repeats(sizes, prompts, samples):
  rows = prompts * samples
  sharding.check_rows(abstract_mesh(*sizes), prompts, rows, "n")


@pytest.mark.parametrize(
  ("sizes", "prompts", "samples", "message"),
  [
    ((2, 4, 1), 4, 5, r"20 completions .*8 devices .*computed 2 times.*mesh"),
    ((2, 4, 1), 3, 5, r"\(its name\) .* computed 8 times. Let 8 divide"),
    ((1, 8, 1), 4, 4, r"4 prompts \(its name\) .* fsdp=8: .*8 times the work"),
  ],
)
def test_rows_that_devices_would_repeat(sizes, prompts, samples, message):
  with pytest.raises(ValueError, match=message):
    sharding.check_rows(
      abstract_mesh(*sizes), prompts, prompts * samples, "its name"
    )


def test_describe_counts_bytes_and_copies():
  tree = {"mlp": {"linear": shape(16, 8)}, "key": jax.random.key(0)}
  found = sharding.param_shardings(abstract_mesh(2, 4, 1), tree)
  key, linear = sharding.describe(tree, found)
  assert (key.name, key.replicas) == ("key", 8)
  assert linear == sharding.PlacedArray(
    *("mlp/linear", (16, 8), "float32", PartitionSpec("tensor", "fsdp")),
    bytes_per_device=16 * 2 * 4,
    replicas=2,
  )


def test_names_of_paths():
  tree = {"a": [{"b": 1}], "c": (2,)}
  paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
  assert [sharding.name_of(path) for path in paths] == ["a/0/b", "c/0"]


def test_nothing_happens_without_a_mesh():
  tree, x = {"mlp": {"linear": jnp.ones((4, 2))}}, jnp.ones((3, 2))
  assert sharding.shardings_on_mesh(tree) is None
  assert sharding.with_shardings(tree) is tree
  assert sharding.gather_over_fsdp(tree) is tree
  assert sharding.constrain_rows(x) is x


def test_on_a_mesh_values_stay():
  tree = {"mlp": {"linear": jnp.arange(8.0).reshape(4, 2)}}
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  with jax.set_mesh(mesh):
    abstract = sharding.with_shardings(tree)["mlp"]["linear"]
    gathered = jax.jit(sharding.gather_over_fsdp)(tree)["mlp"]["linear"]
    rows = jax.jit(sharding.constrain_rows)(tree["mlp"]["linear"])
  assert abstract.sharding.spec == PartitionSpec("tensor", "fsdp")
  for values in (gathered, rows):
    np.testing.assert_array_equal(values, tree["mlp"]["linear"])
  assert "fsdp" not in jax.tree.leaves(tuple(gathered.sharding.spec))


def test_parameters_are_gathered_over_fsdp_alone():
  tree = {"mlp": {"linear": jnp.ones((8, 4))}, "scale": jnp.ones(4)}
  with jax.sharding.use_abstract_mesh(abstract_mesh(1, 2, 4)):
    found = constraints(sharding.gather_over_fsdp, tree)
  assert found == [PartitionSpec("tensor", None), PartitionSpec(None)]


def test_rows_are_constrained_to_the_axes_that_divide_them():
  with jax.sharding.use_abstract_mesh(abstract_mesh(2, 4, 3)):
    rows = constraints(sharding.constrain_rows, jnp.ones((8, 6)))
    few = constraints(
      lambda x: sharding.constrain_rows(x, "tensor"), jnp.ones((4, 6))
    )
  assert rows == [PartitionSpec(("fsdp", "data"))]
  assert few == [PartitionSpec(("fsdp",), "tensor")]
