"""The mesh, and where every array of the policy lies on it.

The mesh has three axes. Rows of the batch are split over `data` and `fsdp`;
parameters and optimiser state over `fsdp` and `tensor`, by one rule for each
kind of parameter, which is known by its name. While a mesh is set
(`jax.set_mesh`), activations are constrained to the devices of their rows;
without a mesh, nothing here has an effect.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")

# The end of a parameter's name, and the mesh axis of each dimension. V
# vocabulary, D width, N heads, K key-value heads, H head, F hidden.
_RULES = (
  (r"embedder/input_embedding", ("tensor", "fsdp")),  # V D
  (r"attn/q_einsum/w", ("tensor", "fsdp", None)),  # N D H
  (r"attn/q?kv_einsum/w", (None, "tensor", "fsdp", None)),  # 2or3 K D H
  (r"attn/attn_vec_einsum/w", ("tensor", None, "fsdp")),  # N H D
  (r"mlp/gating_einsum", (None, "fsdp", "tensor")),  # 2 D F
  (r"mlp/linear", ("tensor", "fsdp")),  # F D
  (r"scale", (None,)),
)
_TRANSPOSED_GATING = (None, "tensor", "fsdp")  # 2 F D, as some Gemmas have it
# The name in stacked parameters of layers that run as a scan: their arrays have
# a leading dimension more, see `transformer.Transformer.stack_layers`.
SCANNED = "scanned"
_LORA = r"/lora/[ab]$"  # two thin factors: D or F or heads, and the rank


def make_mesh(
  data: int = 1,
  fsdp: int = -1,
  tensor: int = 1,
  *,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Makes the mesh of a training run.

  One of the three sizes may be -1: as many devices as the others leave.

  Args:
    data: number of replicas of the parameters, each with its own rows.
    fsdp: number of shards of the parameters, each with its own rows.
    tensor: number of parts that heads, hidden units and vocabulary are split
      into.
    devices: the devices to use; by default all.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = dict(zip(AXES, (data, fsdp, tensor)))
  free = [axis for axis, size in sizes.items() if size == -1]
  if len(free) == 1:
    taken = math.prod(size for size in sizes.values() if size != -1)
    sizes[free[0]] = len(devices) // max(taken, 1)
  if math.prod(sizes.values()) != len(devices) or min(sizes.values()) < 1:
    raise ValueError(
      f"A mesh of data={data}, fsdp={fsdp}, tensor={tensor} does not cover"
      f" {len(devices)} devices; the three must multiply to that (one of them"
      " may be -1)."
    )
  shape, types = tuple(sizes.values()), (AxisType.Auto,) * len(AXES)
  try:
    return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
  except NotImplementedError:  # as 2 x 4 x 8 on a torus of 4 x 4 x 4
    torus = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
    return Mesh(torus, AXES, axis_types=types)


def param_shardings(mesh: Mesh, tree: Any) -> Any:
  """Finds the sharding of every parameter, by the end of its name.

  Args:
    mesh: a mesh of `make_mesh`.
    tree: parameters, optimiser state or both; arrays or their shapes.

  Returns:
    A tree of NamedSharding.

  Raises:
    ValueError: an array of more than one number has no rule, or an axis of the
      mesh does not divide the dimension that it splits.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, x: NamedSharding(mesh, _spec(mesh, name_of(path), x)), tree
  )


def shardings_on_mesh(tree: Any) -> Any:
  """Finds `param_shardings` on the mesh that is set; None if none is."""
  mesh = jax.sharding.get_mesh()
  return None if mesh.empty else param_shardings(mesh, tree)


def with_shardings(tree: Any) -> Any:
  """Adds `shardings_on_mesh` to the shapes of a tree; none without a mesh."""
  shardings = shardings_on_mesh(tree)
  if shardings is None:
    return tree
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding
    ),
    tree,
    shardings,
  )


def gather_over_fsdp(tree: Any) -> Any:
  """Gathers parameters over `fsdp`; they stay split over `tensor`.

  Done once before decoding, this saves gathering them again for every token.
  Without a mesh it changes nothing.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return tree
  return jax.tree_util.tree_map_with_path(
    lambda path, x: jax.lax.with_sharding_constraint(
      x, _without_fsdp(_spec(mesh, name_of(path), x))
    ),
    tree,
  )


def constrain_params(tree: Any) -> Any:
  """Constrains parameters, or their gradient, to the devices that keep them."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return tree
  return jax.tree_util.tree_map_with_path(
    lambda path, x: jax.lax.with_sharding_constraint(
      x, _spec(mesh, name_of(path), x)
    ),
    tree,
  )


def constrain_rows(x: chex.Array, *others: str | None) -> chex.Array:
  """Constrains the rows of x to the devices of those rows, by `rows_axes`.

  Args:
    x: [rows, ...].
    *others: the mesh axes of the other dimensions; those not given are not
      split.

  Returns:
    x, constrained if a mesh is set.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  spec = PartitionSpec(rows_axes(mesh, x.shape[0]), *others)
  return jax.lax.with_sharding_constraint(x, spec)


def replicate(tree: Any) -> Any:
  """Constrains small arrays to be whole on every device, if a mesh is set."""
  if jax.sharding.get_abstract_mesh().empty:
    return tree
  return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def take_rows(
  x: chex.Array, rows: chex.Array, *others: str | None
) -> chex.Array:
  """Takes rows of x by their index, with a gradient that is cheap everywhere.

  It multiplies by a matrix of zeros and ones: exact, and its gradient is a
  product too. That of an index is a scatter, which CPUs do number by number.

  Args:
    x: [B, ...], finite.
    rows: [R] int32.
    *others: the mesh axes of the other dimensions, see `constrain_rows`.

  Returns:
    [R, ...]: the devices of each row hold it, whichever held it in x.
  """
  if not jax.sharding.get_abstract_mesh().empty:
    whole = PartitionSpec(None, *others)
    x = jax.lax.with_sharding_constraint(x, whole)
  chosen = jax.nn.one_hot(rows, len(x), dtype=x.dtype)
  taken = jnp.tensordot(chosen, x, 1, precision=jax.lax.Precision.HIGHEST)
  return constrain_rows(taken, *others)


def rows_axes(
  mesh: Mesh | jax.sharding.AbstractMesh, rows: int
) -> tuple[str, ...]:
  """Finds the axes over which that many rows are split.

  They are `fsdp` and `data` if both divide the number, or `fsdp`, or none.
  With `fsdp` first, B prompts that `fsdp` alone divides lie on the devices of
  their own samples, so that repeating the prompts moves nothing.
  """
  over_both: tuple[str, ...] = ("fsdp", "data")
  for axes in (over_both, over_both[:1]):
    if rows % math.prod(mesh.shape[axis] for axis in axes) == 0:
      return axes
  return ()


def check_rows(mesh: Mesh, prompts: int, rows: int, what: str) -> None:
  """Checks that no device computes the rows of another one.

  Completions must split over `fsdp` and `data`. Their prompts, of which there
  are fewer, must split over `fsdp` at least: the replicas of `data` each read
  all prompts of their own, which costs little beside the completions.

  Args:
    mesh: a mesh of `make_mesh`.
    prompts: how many are read at once.
    rows: how many completions are computed at once.
    what: the numbers by name, for the message.

  Raises:
    ValueError: they do not split; says what it would cost, and the remedy.
  """
  fsdp, data = mesh.shape["fsdp"], mesh.shape["data"]
  times = (
    fsdp * data // math.prod(mesh.shape[axis] for axis in rows_axes(mesh, rows))
  )
  if times > 1:
    raise ValueError(
      f"{rows} completions ({what}) do not split over the"
      f" {fsdp * data} devices of data={data} x fsdp={fsdp}: each"
      f" completion would be computed {times} times. Let {fsdp * data} divide"
      " them, or give devices to config.mesh.tensor."
    )
  if prompts % fsdp:
    raise ValueError(
      f"{prompts} prompts ({what}) do not split over fsdp={fsdp}: each device"
      f" would read all of them, {fsdp} times the work. Let {fsdp} divide them,"
      " or give devices to config.mesh.data or config.mesh.tensor."
    )


def fewest_prompts(samples: int) -> int:
  """The fewest prompts x samples that split over the mesh, see `check_rows`.

  So do all multiples of it. 1 where no mesh is set.
  """
  mesh = jax.sharding.get_mesh()
  if mesh.empty:
    return 1
  fsdp, data = mesh.shape["fsdp"], mesh.shape["data"]
  return math.lcm(fsdp, fsdp * data // math.gcd(fsdp * data, samples))


def rows_sharding(mesh: Mesh, rows: int) -> NamedSharding:
  """Returns the sharding of arrays [rows, ...] of the batch."""
  return NamedSharding(mesh, PartitionSpec(rows_axes(mesh, rows)))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of arrays that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


class PlacedArray(NamedTuple):
  """Where one array lies on a mesh.

  Attributes:
    name: its path in the tree, such as "params/layer_0/mlp/linear".
    shape: the shape of the whole array.
    dtype: the name of its type.
    spec: the mesh axis of each dimension.
    bytes_per_device: the size of one shard.
    replicas: how many devices hold the same shard.
  """

  name: str
  shape: tuple[int, ...]
  dtype: str
  spec: PartitionSpec
  bytes_per_device: int
  replicas: int


def describe(tree: Any, shardings: Any) -> list[PlacedArray]:
  """Lists where the arrays of a tree lie.

  Args:
    tree: arrays or their shapes.
    shardings: a tree of NamedSharding, of `param_shardings`.
  """

  def row(path, x, sharding) -> PlacedArray:
    shard = sharding.shard_shape(x.shape)
    shards = math.prod(x.shape) // max(math.prod(shard), 1)
    return PlacedArray(
      name_of(path),
      tuple(x.shape),
      str(x.dtype),
      sharding.spec,
      math.prod(shard) * _itemsize(x.dtype),
      sharding.mesh.size // max(shards, 1),
    )

  rows = jax.tree_util.tree_map_with_path(row, tree, shardings)
  return jax.tree.leaves(rows, is_leaf=lambda x: isinstance(x, PlacedArray))


def _itemsize(dtype: Any) -> int:
  """Returns the bytes of one number, or of a random key's data."""
  return getattr(dtype, "itemsize", 8)


def name_of(path: Sequence[Any]) -> str:
  """Joins the names of a path of `jax.tree_util` by slashes."""
  return "/".join(_parts(path))


def _parts(path: Sequence[Any]) -> Iterator[str]:
  """Yields the key, name or index of each entry of a path."""
  for entry in path:
    for attribute in ("key", "name", "idx"):
      if hasattr(entry, attribute):
        yield str(getattr(entry, attribute))
        break


def _spec(
  mesh: Mesh | jax.sharding.AbstractMesh, name: str, x: Any
) -> PartitionSpec:
  """Finds the mesh axes of a parameter, and checks that they divide it."""
  above, scanned, own = name.rpartition(f"{SCANNED}/")
  if scanned:
    layer = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    return PartitionSpec(None, *_spec(mesh, above + own, layer))
  if math.prod(x.shape) <= 1:
    return PartitionSpec()
  if re.search(_LORA, name):
    return _over_fsdp(mesh, x.shape)
  axes = _rule(name, x.shape)
  for axis, size in zip(axes, x.shape, strict=True):
    if axis and size % mesh.shape[axis]:
      raise ValueError(
        f"{axis}={mesh.shape[axis]} does not divide {size}, a dimension of"
        f" {name} {tuple(x.shape)}; choose another mesh."
      )
  return PartitionSpec(*axes)


def _over_fsdp(
  mesh: Mesh | jax.sharding.AbstractMesh, shape: Sequence[int]
) -> PartitionSpec:
  """Splits the largest dimension that fsdp divides, if there is one."""
  divided = [size if size % mesh.shape["fsdp"] == 0 else 0 for size in shape]
  largest = max(divided)
  where = divided.index(largest) if largest else -1
  return PartitionSpec(
    *("fsdp" if i == where else None for i in range(len(shape)))
  )


def _rule(name: str, shape: Sequence[int]) -> tuple[str | None, ...]:
  """Finds the rule of a parameter; ValueError if there is none."""
  for pattern, axes in _RULES:
    if re.search(rf"(^|/){pattern}$", name) and len(axes) == len(shape):
      transposed = "gating" in name and shape[1] > shape[2]
      return _TRANSPOSED_GATING if transposed else axes
  raise ValueError(
    f"No sharding rule for {name} {tuple(shape)}; add one to"
    " pkpo_jax/lm/sharding.py."
  )


def _without_fsdp(spec: PartitionSpec) -> PartitionSpec:
  """Replaces `fsdp` in a spec by None."""
  return PartitionSpec(*(None if axis == "fsdp" else axis for axis in spec))
