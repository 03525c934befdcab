"""Will a config fit a slice, and how fast can it be? It takes no TPU to tell.

Example:
  python -m experiments.hardware --config=configs/gemma2_2b_math.py \
    --topology=v5e:8x16

The real TPU compiler lowers the very sampler and update that training runs, and
so proves that they fit. Prints, for each of them and for one chip: memory by
kind; floating-point operations; collectives by kind; and the time that one run
takes at least, were all of the chip's peak figures reached. It takes minutes.
"""

import argparse
import json
from typing import TYPE_CHECKING

from experiments import command_line

if TYPE_CHECKING:
  import jax
  import ml_collections

  from experiments.hardware import chips, report


def main() -> None:
  """Compiles and prints."""
  parser = command_line.parser(__doc__)
  command_line.add_config(parser, "configs/gemma2_2b_math.py")
  parser.add_argument(
    "--topology",
    default="v5e:8x16",
    help="kind and arrangement of the chips (default: v5e:8x16)",
  )
  parser.add_argument(
    "--arrays",
    action="store_true",
    help="list the arrays that stay on the chips, compile nothing",
  )
  parser.add_argument(
    "--json", type=command_line.path, help="also write the figures to this file"
  )
  args = command_line.parse(parser)
  with command_line.mistakes(parser):
    mesh = _mesh(args)
  sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
  print(f"{args.topology}: {mesh.size} chips as {sizes}")
  if args.arrays:
    _print_arrays(args.config, mesh)
  else:
    _compile(args)


def _mesh(args: argparse.Namespace) -> "jax.sharding.Mesh":
  """The mesh of the config on the chips of the topology."""
  from experiments.hardware import chips, report
  from pkpo_jax.training import config

  report.use_topologies()
  chips.chip_of(args.topology)
  config.check(args.config)
  return report.mesh_of(args.config, args.topology)


def _compile(args: argparse.Namespace) -> None:
  from experiments.hardware import chips, report

  chip = chips.chip_of(args.topology)
  try:
    compiled = report.compile_all(args.config, args.topology)
  except report.DoesNotFitError as error:
    raise SystemExit(str(error)) from error
  for program in compiled:
    _print_program(program, chip)
  if args.json:
    text = json.dumps([program.to_json() for program in compiled], indent=1)
    args.json.write_text(text + "\n")
  floor = sum(max(program.floor.values()) for program in compiled)
  print(f"\nA step takes {floor:.2f} s at least, at the peak figures of")
  print(
    f"  {chip.flops / 1e12:.0f} TFLOP/s bfloat16,"
    f" {chip.hbm_bandwidth / 1e9:.0f} GB/s of memory,"
    f" {chip.ici_bandwidth / 1e9:.0f} GB/s of network for each chip."
  )


def _print_program(program: "report.Program", chip: "chips.Chip") -> None:
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


def _print_arrays(
  config: "ml_collections.ConfigDict", mesh: "jax.sharding.Mesh"
) -> None:
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
  main()
