"""Compiles the programs of a config for a topology, and says what they need."""

import math
import os
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from experiments.hardware import chips, flops, hlo, programs
from pkpo_jax.lm import sampler, sharding

GIB = chips.GIB
_LIBTPU = pathlib.Path(".libtpu/libtpu/libtpu.so")


class Program(NamedTuple):
  """What one compiled program needs on each chip.

  Attributes:
    name: "sampler" or "update".
    seconds: of compilation.
    memory: bytes by kind; "beside" is what other programs keep there.
    flops: floating-point operations.
    replication: how many times the arithmetic is done, 1 if no chip repeats
      the work of another.
    collectives: by kind.
    floor: seconds that arithmetic, memory and network take at least.
  """

  name: str
  seconds: float
  memory: dict[str, float]
  flops: float
  replication: float
  collectives: dict[str, hlo.Collective]
  floor: dict[str, float]

  def to_json(self) -> dict[str, Any]:
    """Plain data."""
    kinds = {kind: x._asdict() for kind, x in self.collectives.items()}
    return self._asdict() | {"collectives": kinds}


class DoesNotFitError(ValueError):
  """A program needs more memory than a chip has."""


def use_topologies() -> None:
  """Lets jax compile for TPUs that are not here; call before using jax.

  Raises:
    ImportError: the TPU compiler is not installed.
  """
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  # Two compilations at once don't fight for a TPU: there is none.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  os.environ["JAX_PLATFORMS"] = "cpu"
  try:
    import libtpu  # noqa: F401
  except ImportError:
    path = pathlib.Path(os.environ.get("TPU_LIBRARY_PATH", _LIBTPU))
    if not path.exists():
      raise ImportError(
        "The TPU compiler is missing; `make .libtpu/installed` gets it, or"
        " pip install libtpu."
      ) from None
    os.environ["TPU_LIBRARY_PATH"] = str(path.absolute())


def mesh_of(
  config: ml_collections.ConfigDict, topology: str
) -> jax.sharding.Mesh:
  """The mesh of the config on the chips of a topology such as "v5e:8x16"."""
  from jax.experimental import topologies

  devices = topologies.get_topology_desc(
    platform="tpu", topology_name=topology
  ).devices
  return sharding.make_mesh(**config.mesh, devices=devices)


def compile_all(
  config: ml_collections.ConfigDict, topology: str
) -> list[Program]:
  """The sampler and the update of a config, compiled for a topology.

  Raises:
    DoesNotFitError: one of them does not; with what to change.
  """
  mesh = mesh_of(config, topology)
  with jax.set_mesh(mesh):
    return [
      _compile("sampler", config, topology, mesh),
      _compile("update", config, topology, mesh),
    ]


def _compile(
  name: str,
  config: ml_collections.ConfigDict,
  topology: str,
  mesh: jax.sharding.Mesh,
) -> Program:
  start = time.perf_counter()
  if name == "sampler":
    traced = programs.trace_sampler(config, mesh)
  else:
    traced = programs.trace_update(config)
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise DoesNotFitError(_remedy(name, topology, _reason(error))) from error
  seconds = time.perf_counter() - start
  memory = _memory(compiled, _beside(name, config, mesh))
  chip = chips.chip_of(topology)
  if memory["total"] > chip.hbm:
    reason = f"needs {memory['total'] / GIB:.2f} GiB of {chip.hbm / GIB:.2f}"
    raise DoesNotFitError(_remedy(name, topology, reason))
  decoding = sampler.stages(config.max_new_tokens) if name == "sampler" else []
  operations, replication = _operations(traced, compiled, mesh, bool(decoding))
  moved = hlo.collectives(
    compiled.as_text(),
    decode_steps=min((end - start for start, end in decoding), default=None),
  )
  if decoding:
    accessed = sum(
      (end - start) * _read_by_a_token(config, mesh, slots=end)
      for start, end in decoding
    )
  else:
    accessed = compiled.cost_analysis()["bytes accessed"]
  floor = {
    "arithmetic": operations / chip.flops,
    "memory": accessed / chip.hbm_bandwidth,
    "network": sum(x.bytes for x in moved.values()) / chip.ici_bandwidth,
  }
  return Program(name, seconds, memory, operations, replication, moved, floor)


def _memory(compiled: Any, beside: float) -> dict[str, float]:
  """Bytes on a chip by kind."""
  stats = compiled.memory_analysis()
  memory = {
    "arguments": stats.argument_size_in_bytes,
    "results": stats.output_size_in_bytes - stats.alias_size_in_bytes,
    "temporaries": stats.temp_size_in_bytes,
    "code": stats.generated_code_size_in_bytes,
    "beside": beside,
  }
  return memory | {"total": sum(memory.values())}


def _beside(
  name: str, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> float:
  """Bytes that stay on a chip while the program runs, without being its own."""
  if name == "update":
    return 0.0
  kept = programs.arrays(config, mesh)
  return float(
    sum(
      row.bytes_per_device
      for kind, rows in kept.items()
      for row in rows
      if kind in ("optimizer", "reference")
    )
  )


def _operations(
  traced: jax.stages.Traced,
  compiled: jax.stages.Compiled,
  mesh: jax.sharding.Mesh,
  decoding: bool,
) -> tuple[float, float]:
  """Operations on a chip, and how often the same is done on several.

  XLA counts what a chip does, but every loop once, also those that it makes of
  a product to gather its factors meanwhile: it may count less than the chip's
  share, which is the least there is. What its loops do after their first run
  is taken to be repeated as all the rest; but not in decoding, where rows are
  split over all chips.
  """
  once = flops.count(traced.jaxpr, once=True)
  total = flops.count(traced.jaxpr)
  counted = compiled.cost_analysis()["flops"]
  replication = max(counted / (once / mesh.size), 1.0)
  done_once = total - once if decoding else 0.0
  repeated = replication * (total - done_once)
  return (repeated + done_once) / mesh.size, replication


def _read_by_a_token(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, slots: int
) -> float:
  """Bytes that one step of decoding reads on a chip: parameters and cache."""
  model = programs.model_of(config)
  itemsize = jnp.dtype(model.dtype).itemsize
  rows = programs.arrays(config, mesh)
  numbers = sum(
    math.prod(row.shape)
    for kind in ("parameters", "frozen")
    for row in rows.get(kind, ())
  )
  layers = len(model.config.attention_types)
  per_slot = 2 * layers * model.config.num_kv_heads * model.config.head_dim
  B, n = config.prompts_per_step, config.n
  read = sum(
    rows * length / math.prod(mesh.shape[x] for x in axes)
    for rows, length in (
      (B, config.max_prompt_tokens),  # which their completions share
      (B * n, slots),
    )
    for axes in [sharding.rows_axes(mesh, rows)]
  )
  cache = per_slot * read
  return (numbers + cache) * itemsize / mesh.shape["tensor"]


def _reason(error: Exception) -> str:
  """The line of the compiler that says how much is missing."""
  lines = [x.strip() for x in str(error).splitlines() if "hbm" in x.lower()]
  return lines[0] if lines else str(error).splitlines()[0]


def _remedy(name: str, topology: str, reason: str) -> str:
  remedies = {
    "sampler": "raise config.mesh.tensor, lower config.prompts_per_step or the"
    " limits on tokens, or take more chips",
    "update": "lower config.microbatch.rows, set config.model.remat='full',"
    " lower config.logits_chunk, raise config.mesh.fsdp, or take more chips",
  }
  return f"The {name} does not fit on {topology}: {reason}. {remedies[name]}."
