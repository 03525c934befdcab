"""Chips and their arrangements: peak figures, public facts of their makers.

Sources: Google Cloud's pages on each TPU version; NVIDIA's data sheets of A100
(SXM4, 80 GB), H100 (SXM5), H200 and B200, and their architecture papers for
what the compiler wants to know of a multiprocessor.
"""

import math
from typing import Any, NamedTuple

GIB = 2**30
# What a program may have of a GPU's memory, by
# XLA_PYTHON_CLIENT_MEM_FRACTION=.92 (jax's default is .75): the rest is the
# driver's and NCCL's.
_GPU_SHARE = 0.92


class Card(NamedTuple):
  """What XLA's GPU compiler asks of a card.

  Attributes:
    name: as the driver has it.
    capability: major version of compute capability; the minor one is 0.
    cores: streaming multiprocessors.
    clock: of a multiprocessor at best, GHz.
    cache: of the second level, bytes.
    shared: memory of a multiprocessor for its blocks, bytes.
    memory: bytes.
  """

  name: str
  capability: int
  cores: int
  clock: float
  cache: int
  shared: int
  memory: int


class Chip(NamedTuple):
  """One chip.

  Attributes:
    hbm: memory that programs may have, bytes. For TPUs it is what the compiler
      names when a program does not fit, a little under the chip's.
    flops: bfloat16 operations a second.
    hbm_bandwidth: bytes a second from memory.
    links: bytes a second that it sends to its neighbours: over all links of a
      TPU, over NVLink to the cards of its host.
    between_hosts: bytes a second that it sends to other hosts; TPUs of a slice
      reach them by the same links.
    card: of a GPU.
  """

  hbm: float
  flops: float
  hbm_bandwidth: float
  links: float
  between_hosts: float
  card: Card | None = None


def _gpu(
  card: Card, flops: float, bandwidth: float, links: float, between: float
) -> Chip:
  return Chip(_GPU_SHARE * card.memory, flops, bandwidth, links, between, card)


_A100 = Card(
  "NVIDIA A100-SXM4-80GB", 8, 108, 1.41, 40 << 20, 167_936, 84_942_979_072
)
_H100 = Card(
  "NVIDIA H100 80GB HBM3", 9, 132, 1.98, 50 << 20, 233_472, 84_942_979_072
)
_H200 = _H100._replace(name="NVIDIA H200", memory=151_397_597_184)
_B200 = Card(
  "NVIDIA B200", 10, 148, 1.965, 132_644_864, 233_472, 191_514_411_008
)

# By the name that begins a topology, "v5e:8x16" or "h100:1x8".
CHIPS = {
  "v5e": Chip(15.75 * GIB, 197e12, 819e9, 1600e9 / 8, 1600e9 / 8),
  "v5p": Chip(95.74 * GIB, 459e12, 2765e9, 4800e9 / 8, 4800e9 / 8),
  "v6e": Chip(31.25 * GIB, 918e12, 1640e9, 3584e9 / 8, 3584e9 / 8),
  "a100-80": _gpu(_A100, 312e12, 2039e9, 300e9, 25e9),
  "h100": _gpu(_H100, 989e12, 3350e9, 450e9, 50e9),
  "h200": _gpu(_H200, 989e12, 4800e9, 450e9, 50e9),
  "b200": _gpu(_B200, 2250e12, 7700e9, 900e9, 50e9),
}


class Topology(NamedTuple):
  """An arrangement of chips.

  Attributes:
    name: such as "v5e:8x16", sides of the slice; or "h100:2x8", hosts times
      cards of each.
    chip: its kind.
    sides: the numbers of the name.
  """

  name: str
  chip: Chip
  sides: tuple[int, ...]

  @property
  def size(self) -> int:
    """The number of chips."""
    return math.prod(self.sides)

  @property
  def neighbours(self) -> int:
    """How many chips are reached by `chip.links`: of a slice, or of a host."""
    return self.sides[1] if self.chip.card else self.size

  def devices(self) -> list[Any]:
    """Abstract devices for which jax compiles."""
    from jax.experimental import topologies

    if not self.chip.card:
      found = topologies.get_topology_desc(
        platform="tpu", topology_name=self.name
      )
    else:
      hosts, cards = self.sides
      found = topologies.get_topology_desc(
        platform="cuda",
        target_config=target_config(self.chip),
        topology=f"1x{hosts}x{cards}",
      )
    return found.devices


def topology(name: str) -> Topology:
  """The topology of a name such as "v5e:8x16" or "h100:1x8".

  Raises:
    ValueError: the chip's figures are not known here, or these are no sides.
  """
  kind, _, sides = name.partition(":")
  if kind not in CHIPS:
    raise ValueError(
      f"No peak figures for topology {name!r}; known: {sorted(CHIPS)}."
    )
  numbers = sides.split("x")
  chip = CHIPS[kind]
  allowed = (2,) if chip.card else (2, 3)
  if len(numbers) not in allowed or not all(
    x.isdecimal() and int(x) for x in numbers
  ):
    shape = "hosts x cards, as in h100:1x8" if chip.card else "as in v5e:8x16"
    raise ValueError(f"Topology {name!r} needs its sides: {shape}.")
  return Topology(name, chip, tuple(map(int, numbers)))


def target_config(chip: Chip) -> str:
  """A card as XLA's GPU compiler reads it (`GpuTargetConfigProto`, as text)."""
  card = chip.card
  assert card is not None
  accelerated = (
    "feature_extension: ACCELERATED_FEATURES" if card.capability >= 9 else ""
  )
  facts = {
    "name": f'"{card.name}"',
    "core_count": card.cores,
    "clock_rate_ghz": card.clock,
    "memory_bandwidth": int(chip.hbm_bandwidth),
    "device_memory_size": card.memory,
    "l2_cache_size": card.cache,
    "shared_memory_per_core": card.shared,
    "shared_memory_per_block_optin": card.shared - 1024,
    # The same for all of these generations.
    "shared_memory_per_block": 48 << 10,
    "fpus_per_core": 64 if card.capability == 8 else 128,
    "threads_per_warp": 32,
    "threads_per_block_limit": 1024,
    "threads_per_core_limit": 2048,
    "registers_per_block_limit": 65_536,
    "registers_per_core_limit": 65_536,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65_535,
    "block_dim_limit_z": 65_535,
    "thread_dim_limit_x": 1024,
    "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
    "device_address_bits": 64,
    "driver_version": '"13.0.0"',
    "runtime_version": '"13.0.0"',
    "compile_time_toolkit_version": '"13.0.0"',
    "dnn_version": '"9.10.0"',
    "cuda_compute_capability": f"{{ major: {card.capability} {accelerated} }}",
    "device_interconnect_info": "{ active_links: 18 }",
  }
  lines = "\n".join(
    f"  {key}{'' if str(value).startswith('{') else ':'} {value}"
    for key, value in facts.items()
  )
  return f'gpu_device_info {{\n{lines}\n}}\nplatform_name: "CUDA"\n'
