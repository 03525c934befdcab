"""Will a config fit, and how fast can it be? It takes no TPU or GPU to tell.

Example:
  python -m experiments.hardware --config=configs/gemma2_2b_math.py \
    --topology=v5e:8x16
  python -m experiments.hardware --config=configs/gemma2_2b_math.py \
    --topology=h100:1x8 --config.mesh.fsdp=8 --config.mesh.tensor=1 --sweep

The real compiler lowers the very sampler and update that training runs, and so
proves that they fit. Prints, for each of them and for one chip: memory by kind;
floating-point operations; collectives by kind; and the time that one run takes
at least, were all of the chip's peak figures reached. It takes minutes.

Topologies: v5e, v5p, v6e with the sides of the slice (v5e:8x16); a100-80, h100,
h200, b200 with hosts times cards of each (h100:2x8).
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
  what = parser.add_mutually_exclusive_group()
  what.add_argument(
    "--arrays",
    action="store_true",
    help="list the arrays that stay on the chips, compile nothing",
  )
  what.add_argument(
    "--sweep",
    action="store_true",
    help="compile for every mesh of these chips, and rank them",
  )
  parser.add_argument(
    "--json", type=command_line.path, help="also write the figures to this file"
  )
  args = command_line.parse(parser)
  with command_line.mistakes(parser):
    topology, mesh = _mesh(args)
  sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
  print(f"{topology.name}: {mesh.size} chips as {sizes}")
  if args.arrays:
    _print_arrays(args.config, mesh)
  elif args.sweep:
    _sweep(args, topology)
  else:
    _compile(args, topology, mesh)


def _mesh(
  args: argparse.Namespace,
) -> tuple["chips.Topology", "jax.sharding.Mesh"]:
  """The chips, and the mesh of the config on them."""
  from experiments.hardware import chips, programs, report
  from pkpo_jax.training import config

  report.use_topologies()
  topology = chips.topology(args.topology)
  config.check(args.config)
  programs.model_of(args.config)
  return topology, report.mesh_of(args.config, topology)


def _compile(
  args: argparse.Namespace,
  topology: "chips.Topology",
  mesh: "jax.sharding.Mesh",
) -> None:
  from experiments.hardware import report

  try:
    compiled = report.compile_all(args.config, topology)
  except report.DoesNotFitError as error:
    raise SystemExit(str(error)) from error
  for program in compiled:
    _print_program(program, topology.chip)
  _print_largest(args.config, mesh)
  _write(args, [program.to_json() for program in compiled])
  chip = topology.chip
  print(f"\nA step takes {report.floor(compiled):.2f} s at least, at peaks of")
  between = f", {chip.between_hosts / 1e9:.0f} between hosts" * bool(chip.card)
  print(
    f"  {chip.flops / 1e12:.0f} TFLOP/s bfloat16,"
    f" {chip.hbm_bandwidth / 1e9:.0f} GB/s of memory,"
    f" {chip.links / 1e9:.0f} GB/s of network for each chip{between};"
  )
  for alpha in report.ALPHAS:
    print(
      f"  {report.floor(compiled, alpha):.2f} s if a collective among four"
      f" chips takes {alpha * 1e6:.0f} us to start,"
      f" {report.floor(compiled, alpha, quarter=True):.2f} s if one completion"
      " in four is used."
    )


def _sweep(args: argparse.Namespace, topology: "chips.Topology") -> None:
  """Compiles for every mesh, prints what each needs, and the best ones."""
  from experiments.hardware import report

  found = {}
  for sizes in report.meshes(args.config, topology):
    name = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
    config = args.config.copy_and_resolve_references()
    config.mesh.update(sizes)
    try:
      programs = report.compile_all(config, topology)
    except ValueError as error:  # it does not fit, or does not divide
      print(f"  {name}: {error}", flush=True)
      continue
    seconds = [report.floor(programs, alpha) for alpha in (0, *report.ALPHAS)]
    gib = max(x.memory["total"] for x in programs) / 2**30
    print(
      f"  {name}: {gib:.2f} GiB, at least {seconds[0]:.2f} s; with latency"
      f" {seconds[1]:.2f} / {seconds[2]:.2f} / {seconds[3]:.2f} s",
      flush=True,
    )
    found[name] = (seconds[2], sizes, programs)
  ranking = sorted(found.values(), key=lambda x: x[0])
  _write(
    args,
    [
      {"mesh": sizes, "programs": [x.to_json() for x in programs]}
      for _, sizes, programs in ranking
    ],
  )
  if not ranking:
    raise SystemExit(
      "It fits on no mesh of these chips; the lines above say what to change."
    )
  print("\nBest with a latency of 6 us:")
  for at_least, sizes, _ in ranking[:3]:
    flags = " ".join(f"--config.mesh.{x}={size}" for x, size in sizes.items())
    print(f"  {at_least:.2f} s  {flags}")


def _write(args: argparse.Namespace, figures: list) -> None:
  if args.json:
    args.json.write_text(json.dumps(figures, indent=1) + "\n")


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
  share = "the chip's even share of the whole"
  if program.replication is not None:
    share = f"{program.replication:.2f} x the chip's share of the whole"
  cost = program.all
  print(f"  arithmetic  {cost.flops / 1e12:.1f} TFLOP, {share}")
  for kind, x in program.collectives.items():
    in_decode = f", {x.in_decode} of them in decoding" if x.in_decode else ""
    print(f"  {kind:<19} {x.runs:>6} x, {x.bytes / 1e9:8.3f} GB{in_decode}")
  print(
    f"  at least    arithmetic {cost.arithmetic:.3f} s, memory"
    f" {cost.memory:.3f} s, network {cost.network:.3f} s"
  )


def _print_largest(
  config: "ml_collections.ConfigDict", mesh: "jax.sharding.Mesh", top: int = 5
) -> None:
  """What of the arrays that stay takes most of a chip."""
  from experiments.hardware import programs

  kept = programs.arrays(config, mesh)
  rows = [(kind, row) for kind, rows in kept.items() for row in rows]
  rows.sort(key=lambda x: -x[1].bytes_per_device)
  print("\nlargest arrays that stay")
  for kind, row in rows[:top]:
    print(
      f"  {kind + ' ' + row.name:<56} {row.dtype:<9} {row.shape!s:<18}"
      f" {row.bytes_per_device / 2**20:.1f} MiB"
    )


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
