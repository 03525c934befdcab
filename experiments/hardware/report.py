"""Compiles the programs of a config for a topology, and says what they need."""

import functools
import importlib.util
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from experiments.hardware import chips, flops, hlo, programs
from pkpo_jax.lm import sampler, sharding

GIB = chips.GIB
_LIBTPU = pathlib.Path(".libtpu/libtpu/libtpu.so")
_GPU_COMPILER = pathlib.Path(".gpu_compiler")
# Seconds that an all-reduce of a few bytes takes among four chips: six hops of
# a ring. The lowest is what direct links and small messages may reach; "How to
# Scale Your Model" (Austin et al. 2025, on sharded matrices) has about a
# microsecond for a hop between TPUs; NCCL's users report ten and more.
ALPHAS = (2e-6, 6e-6, 10e-6)


class Cost(NamedTuple):
  """What a program costs a chip, at least.

  Attributes:
    flops: floating-point operations.
    arithmetic: seconds that these take, at the chip's peak.
    memory: seconds, to read and write it.
    network: seconds, to send what its collectives send.
    latency: collectives among four chips whose starts take as long as those of
      all its collectives.
  """

  flops: float
  arithmetic: float
  memory: float
  network: float
  latency: float

  def seconds(self, alpha: float) -> float:
    """At least; the three overlap, but not the starts of collectives.

    Args:
      alpha: seconds that a collective among four chips takes to start.
    """
    longest = max(self.arithmetic, self.memory, self.network)
    return longest + alpha * self.latency


class Program(NamedTuple):
  """What one compiled program needs on each chip.

  Attributes:
    name: "sampler" or "update".
    seconds: of compilation.
    memory: bytes by kind; "beside" is what other programs keep there.
    replication: how many times the arithmetic is done, 1 if no chip repeats
      the work of another; None where the compiler counts none.
    collectives: by kind.
    all: if every completion is used.
    quarter: if one completion in four is used in the update.
  """

  name: str
  seconds: float
  memory: dict[str, float]
  replication: float | None
  collectives: dict[str, hlo.Collective]
  all: Cost
  quarter: Cost

  def to_json(self) -> dict[str, Any]:
    """Plain data."""
    kinds = {kind: x._asdict() for kind, x in self.collectives.items()}
    costs = {"all": self.all._asdict(), "quarter": self.quarter._asdict()}
    return self._asdict() | {"collectives": kinds} | costs

  @classmethod
  def from_json(cls, data: dict[str, Any]) -> "Program":
    """What `to_json` made."""
    kinds = data["collectives"].items()
    found = {kind: hlo.Collective(**x) for kind, x in kinds}
    costs = {name: Cost(**data[name]) for name in ("all", "quarter")}
    return cls(**data | {"collectives": found} | costs)


class DoesNotFitError(ValueError):
  """A program needs more memory than a chip has."""


def use_topologies() -> None:
  """Lets jax compile for chips that are not here; call before using jax."""
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  # Else libtpu warns that it finds neither; any will do.
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
  # Two compilations at once don't fight for a TPU: there is none.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  jax.config.update("jax_platforms", "cpu")
  if _LIBTPU.exists() and not importlib.util.find_spec("libtpu"):
    os.environ.setdefault("TPU_LIBRARY_PATH", str(_LIBTPU.absolute()))
  if _GPU_COMPILER.exists():
    sys.path.append(str(_GPU_COMPILER.absolute()))


def mesh_of(
  config: ml_collections.ConfigDict, topology: chips.Topology
) -> jax.sharding.Mesh:
  """The mesh of the config on the chips of a topology.

  Raises:
    ImportError: the compiler for such chips is not installed.
  """
  if topology.chip.card:
    if not importlib.util.find_spec("jax_plugins.xla_cuda13"):
      raise ImportError(
        "The GPU compiler is missing; `make .gpu_compiler/installed` gets it,"
        " or pip install jax-cuda13-plugin jax-cuda13-pjrt."
      )
  elif not (
    importlib.util.find_spec("libtpu") or "TPU_LIBRARY_PATH" in os.environ
  ):
    raise ImportError(
      "The TPU compiler is missing; `make .libtpu/installed` gets it."
    )
  return sharding.make_mesh(**config.mesh, devices=topology.devices())


def compile_all(
  config: ml_collections.ConfigDict, topology: chips.Topology
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


def floor(
  compiled: list[Program], alpha: float = 0.0, *, quarter: bool = False
) -> float:
  """Seconds that a step takes at least: sampler and update, one by one.

  Args:
    compiled: the programs of the step.
    alpha: seconds that a collective among four chips takes to start.
    quarter: whether one completion in four is used, instead of all.
  """
  costs = (x.quarter if quarter else x.all for x in compiled)
  return sum(cost.seconds(alpha) for cost in costs)


def meshes(
  config: ml_collections.ConfigDict, topology: chips.Topology
) -> Iterator[dict[str, int]]:
  """Every mesh of the chips over which the model and its rows could split."""
  heads = programs.model_of(config).config.num_heads
  rows = config.prompts_per_step * config.n
  for tensor in _divisors(math.gcd(topology.size, heads)):
    across = topology.size // tensor
    for fsdp in _divisors(across):
      if rows % across == 0:
        yield {"data": across // fsdp, "fsdp": fsdp, "tensor": tensor}


def _divisors(number: int) -> list[int]:
  return [x for x in range(1, number + 1) if number % x == 0]


def _compile(
  name: str,
  config: ml_collections.ConfigDict,
  topology: chips.Topology,
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
    reason = _reason(error)
    raise DoesNotFitError(_remedy(name, topology.name, reason)) from error
  seconds = time.perf_counter() - start
  memory = _memory(compiled, _beside(name, config, mesh))
  if memory["total"] > topology.chip.hbm:
    total, limit = (x / GIB for x in (memory["total"], topology.chip.hbm))
    reason = f"needs {total:.2f} GiB of {limit:.2f}"
    raise DoesNotFitError(_remedy(name, topology.name, reason))
  decoding = sampler.stages(config.max_new_tokens) if name == "sampler" else []
  count = functools.partial(
    hlo.collectives,
    compiled.as_text(),
    decode_steps=min((end - start for start, end in decoding), default=None),
    neighbours=topology.neighbours,
  )
  if decoding:
    accessed = _read_in_decoding(config, mesh, decoding)
  else:
    accessed = _accessed(compiled, memory)

  def cost(share: float) -> Cost:
    done, _ = _operations(traced, compiled, mesh, share)
    return _cost(topology.chip, done, accessed, count(share=share))

  return Program(
    name=name,
    seconds=seconds,
    memory=memory,
    replication=_operations(traced, compiled, mesh)[1],
    collectives=count(),
    all=cost(1.0),
    # Sampling does not know yet which completions will have a weight.
    quarter=cost(1.0 if decoding else 0.25),
  )


def _cost(
  chip: chips.Chip,
  operations: float,
  accessed: float,
  moved: dict[str, hlo.Collective],
) -> Cost:
  """The cost of operations, of bytes accessed, and of what is moved."""
  between = sum(x.between_hosts for x in moved.values())
  within = sum(x.bytes for x in moved.values()) - between
  return Cost(
    flops=operations,
    arithmetic=operations / chip.flops,
    memory=accessed / chip.hbm_bandwidth,
    network=within / chip.links + between / chip.between_hosts,
    latency=sum(x.latency for x in moved.values()),
  )


def _accessed(compiled: Any, memory: dict[str, float]) -> float:
  """Bytes that a program reads and writes.

  The GPU compiler counts none; what stands here in their place is the least
  there is, every temporary written and read once.
  """
  if (counted := compiled.cost_analysis()) is not None:
    return counted["bytes accessed"]
  return memory["arguments"] + memory["results"] + 2 * memory["temporaries"]


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
  share: float = 1.0,
) -> tuple[float, float | None]:
  """Operations on a chip, and how often the same is done on several.

  XLA counts what a chip does, but every loop once, also those that it makes of
  a product to gather its factors meanwhile: it may count less than the chip's
  share, which is the least there is. In the loops over new tokens and over
  microbatches rows are split over all chips, see `sharding.check_rows`: what
  is done more than once is outside, the prefill of few prompts.
  """
  count = functools.partial(flops.count, traced.jaxpr)
  total = count(share=share)
  if (cost := compiled.cost_analysis()) is None:  # as on GPUs
    return total / mesh.size, None
  outside = count(once=True, share=0.0)
  inside = count(once=True) - outside
  again = max(cost["flops"] * mesh.size - inside - outside, 0.0)
  done = total + again * count(share=0.0) / max(outside, 1.0)
  return done / mesh.size, done / total


def _read_in_decoding(
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  stages: list[tuple[int, int]],
) -> float:
  """Bytes that all steps of decoding read on a chip."""
  return sum(
    (end - start) * _read_by_a_token(config, mesh, slots=end)
    for start, end in stages
  )


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
