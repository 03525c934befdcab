"""Compiles the programs of a config for a TPU slice, without any TPU.

Example:
  python -m experiments.hardware --config=configs/gemma2_2b_math.py \
    --topology=v5e:8x16

The real TPU compiler lowers the very sampler and update that training runs, and
so proves that they fit. Prints, for each of them and for one chip: memory by
kind; floating-point operations; collectives by kind; and the time that one run
takes at least, were all of the chip's peak figures reached. --arrays lists
every array that stays on the chips, with its place on the mesh.
"""

import json
import logging
import pathlib

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/gemma2_2b_math.py", "A training config."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "v5e:8x16", "Kind and arrangement of the chips: v5p:4x4x4, ..."
)
_ARRAYS = flags.DEFINE_bool(
  "arrays", False, "List the arrays that stay on the chips, compile nothing."
)
_JSON = flags.DEFINE_string("json", None, "Also write the figures to a file.")


def main(argv: list[str]) -> None:
  """Compiles and prints."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}")
  logging.getLogger("jax").setLevel(logging.WARNING)
  from experiments.hardware import chips, report

  config, topology = _CONFIG.value, _TOPOLOGY.value
  try:
    report.use_topologies()
    chip = chips.chip_of(topology)
    from pkpo_jax.training import config as config_lib

    config_lib.check(config)
    mesh = report.mesh_of(config, topology)
  except (ImportError, ValueError) as error:
    raise app.UsageError(str(error)) from error
  sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
  print(f"{topology}: {mesh.size} chips as {sizes}")
  if _ARRAYS.value:
    _print_arrays(config, mesh)
    return
  try:
    compiled = report.compile_all(config, topology)
  except report.DoesNotFitError as error:
    raise SystemExit(str(error)) from error
  for program in compiled:
    _print_program(program, chip)
  if _JSON.value:
    text = json.dumps([program.to_json() for program in compiled], indent=1)
    pathlib.Path(_JSON.value).write_text(text + "\n")
  floor = sum(max(program.floor.values()) for program in compiled)
  print(f"\nA step takes {floor:.2f} s at least, at the peak figures of")
  print(
    f"  {chip.flops / 1e12:.0f} TFLOP/s bfloat16,"
    f" {chip.hbm_bandwidth / 1e9:.0f} GB/s of memory,"
    f" {chip.ici_bandwidth / 1e9:.0f} GB/s of network for each chip."
  )


def _print_program(program, chip) -> None:
  gib = 2**30
  print(f"\n{program.name} (compiled in {program.seconds:.0f} s)")
  kinds = ", ".join(
    f"{kind} {size / gib:.2f}"
    for kind, size in program.memory.items()
    if kind != "total"
  )
  total = program.memory["total"] / gib
  print(f"  memory      {total:.2f} of {chip.hbm / gib:.2f} GiB: {kinds}")
  print(
    f"  arithmetic  {program.flops / 1e12:.1f} TFLOP,"
    f" {program.replication:.2f} x the chip's share of the whole"
  )
  for kind, x in program.collectives.items():
    in_decode = f", {x.in_decode} of them in decoding" if x.in_decode else ""
    print(f"  {kind:<19} {x.runs:>6} x, {x.bytes / 1e9:8.3f} GB{in_decode}")
  floors = ", ".join(f"{kind} {x:.3f} s" for kind, x in program.floor.items())
  print(f"  at least    {floors}")


def _print_arrays(config, mesh) -> None:
  from experiments.hardware import programs

  for kind, rows in programs.arrays(config, mesh).items():
    total = sum(row.bytes_per_device for row in rows) / 2**20
    print(f"\n{kind}: {total:.1f} MiB a chip")
    for row in rows:
      spec = ", ".join(str(axis) for axis in row.spec)
      print(
        f"  {row.name:<44} {row.dtype:<9} {row.shape!s:<18} ({spec})"
        f"  {row.bytes_per_device / 2**20:.3f} MiB, {row.replicas} x"
      )


if __name__ == "__main__":
  app.run(main)
