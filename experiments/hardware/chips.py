"""Peak figures of TPU chips, from Google Cloud's pages on each version."""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
  """One chip.

  Attributes:
    hbm: memory that the compiler lets programs have, bytes.
    flops: bfloat16 operations a second.
    hbm_bandwidth: bytes a second from memory.
    ici_bandwidth: bytes a second over all its links to other chips.
  """

  hbm: float
  flops: float
  hbm_bandwidth: float
  ici_bandwidth: float


# By the name that begins a topology, "v5e:8x16". The memory is what the
# compiler names when a program does not fit, a little under the chip's.
CHIPS = {
  "v5e": Chip(15.75 * GIB, 197e12, 819e9, 1600e9 / 8),
  "v5p": Chip(95.74 * GIB, 459e12, 2765e9, 4800e9 / 8),
  "v6e": Chip(31.25 * GIB, 918e12, 1640e9, 3584e9 / 8),
}


def chip_of(topology: str) -> Chip:
  """The chip of a topology such as "v5e:8x16".

  Raises:
    ValueError: its peak figures are not known here.
  """
  name = topology.split(":")[0]
  if name not in CHIPS:
    raise ValueError(
      f"No peak figures for topology {topology!r}; known: {sorted(CHIPS)}."
    )
  return CHIPS[name]
