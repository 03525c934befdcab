"""Compiles the shipped configs for their slices, and writes docs/hardware.md.

Example:
  python -m experiments.hardware.table

Takes minutes for each row. What is compiled is kept in docs/hardware.json, so
that a second call goes on where the first was stopped; delete it to measure
anew.
"""

import importlib
import json
import pathlib
from typing import Any

import ml_collections

from experiments import command_line
from experiments.hardware import chips, report

# The fewer the chips, the more samples each has at a time.
SLICES: dict[str, dict[str, dict[str, Any]]] = {
  "2b": {"v5e:4x4": {"microbatch.rows": 64}, "v5e:8x16": {}},
  "9b": {"v5e:8x16": {}, "v5p:4x4x4": {}},
}
# One prompt a chip, so that the work of a chip stays the same.
WEAK: dict[str, dict[str, int]] = {
  "v5e:4x4": {},
  "v5e:8x8": {"microbatch.rows": 256, "prompts_per_step": 64},
  "v5e:16x16": {"microbatch.rows": 1024, "prompts_per_step": 256},
}
GIB = chips.GIB


Row = tuple[str, str, dict[str, Any]]


def rows() -> list[Row]:
  """(config, topology, changes) of everything to compile, dearest last.

  MATH and code share their programs: shapes are the same.
  """
  math: list[Row] = [
    (f"gemma2_{size}_math", topology, changes)
    for size, topologies in SLICES.items()
    for topology, changes in topologies.items()
  ]
  arc: list[Row] = [
    (name.replace("math", "arc"), topology, changes)
    for name, topology, changes in math
  ]
  return [*math, *weak_rows()[1:], *arc]


def weak_rows() -> list[Row]:
  """2B on MATH with one prompt a chip; the first is one of `rows` anyway."""
  return [
    ("gemma2_2b_math", topology, {"microbatch.rows": 64} | more)
    for topology, more in WEAK.items()
  ]


def measure(path: pathlib.Path) -> dict[str, Any]:
  """Compiles what `path` lacks; key -> what the programs need."""
  done = json.loads(path.read_text()) if path.exists() else {}
  for name, topology, changes in rows():
    key = _key(name, topology, changes)
    if key in done:
      continue
    print(f"Compiling {key}", flush=True)
    config = importlib.import_module(f"configs.{name}").get_config("k8")
    config.update_from_flattened_dict(changes)
    done[key] = _measured(config, topology)
    path.write_text(json.dumps(done, indent=1) + "\n")
  return done


def _measured(config: ml_collections.ConfigDict, topology: str) -> Any:
  try:
    programs = report.compile_all(config, topology)
  except report.DoesNotFitError as error:
    return {"error": str(error)}
  return {program.name: program.to_json() for program in programs}


def markdown(done: dict[str, Any]) -> str:
  """The page."""
  lines = [_HEAD, "## The runs of the paper", "", *_HEADER]
  for name, topology, changes in rows():
    if "prompts_per_step" not in changes:
      lines += _rows(done, name, topology, changes)
  lines += ["", _WEAK_HEAD, "", *_WEAK_HEADER]
  for name, topology, changes in weak_rows():
    lines += _weak_row(done, name, topology, changes)
  return "\n".join(lines) + "\n"


def _rows(
  done: dict[str, Any], name: str, topology: str, changes: dict[str, Any]
) -> list[str]:
  measured = done.get(_key(name, topology, changes))
  name = " ".join([name, *(f"{k}={v}" for k, v in changes.items())])
  if measured is None:
    return [f"| {name} | {topology} | not compiled yet |" + " |" * 6]
  if "error" in measured:
    return [f"| {name} | {topology} | {measured['error']} |" + " |" * 6]
  lines = []
  for program in measured.values():
    memory, floor = program["memory"], program["floor"]
    limit = chips.chip_of(topology).hbm
    in_decode = sum(x["in_decode"] for x in program["collectives"].values())
    sent = sum(x["bytes"] for x in program["collectives"].values())
    cells = (
      name,
      topology,
      program["name"],
      f"{memory['total'] / GIB:.2f} of {limit / GIB:.2f}",
      f"{program['flops'] / 1e12:.1f}",
      f"{program['replication']:.2f}",
      f"{sent / 1e9:.2f}",
      str(in_decode),
      " / ".join(
        f"{floor[x]:.2f}" for x in ("arithmetic", "memory", "network")
      ),
    )
    lines.append("| " + " | ".join(cells) + " |")
  return lines


def _weak_row(
  done: dict[str, Any], name: str, topology: str, changes: dict[str, Any]
) -> list[str]:
  measured = done.get(_key(name, topology, changes))
  if measured is None or "error" in measured:
    return [f"| {topology} | {_num_chips(topology)} | not compiled yet | | | |"]
  cells = [topology, str(_num_chips(topology))]
  for program in measured.values():
    kinds = program["collectives"]
    cells.append(f"{sum(x['bytes'] for x in kinds.values()) / 1e9:.2f}")
    cells.append(
      ", ".join(f"{k} {x['bytes'] / 1e9:.2f}" for k, x in sorted(kinds.items()))
    )
  return ["| " + " | ".join(cells) + " |"]


def _key(name: str, topology: str, changes: dict[str, Any]) -> str:
  changed = "".join(f" {k}={v}" for k, v in changes.items())
  return f"{name} {topology}{changed}"


def _num_chips(topology: str) -> int:
  sides = [int(x) for x in topology.split(":")[1].split("x")]
  number = 1
  for side in sides:
    number *= side
  return number


_HEAD = """# What the TPU compiler says

Compiled by libtpu for slices that were not there, with no TPU:
`python -m experiments.hardware.table` writes this page, and
`python -m experiments.hardware --config=... --topology=...` prints one
row of it in full. All figures are for one chip and one step: 16 prompts, 16
completions each, 512 + 1024 tokens (ARC 1024 + 256), bfloat16 on float32
parameters, AdamW.

- *GiB*: everything that is in the chip's memory while the program runs.
- *TFLOP*: operations of a chip; *share*: 1 if no chip repeats another's work.
  On 128 chips the 16 prompts are split over fsdp alone, and so read by several
  chips each: most of what the sampler computes outside its loop.
- *GB sent* over the network by all collectives; *in decode*: how many of them
  are in the loop over new tokens: one of a single byte each time, which asks
  whether all rows are done; with tensor parallelism two in every layer, and
  some to draw.
- *seconds at least*, for arithmetic / memory / network, at the chip's peak
  figures (experiments/hardware/chips.py): floors, which nothing reaches.
"""
_HEADER = (
  "| config | slice | program | GiB | TFLOP | share | GB sent | in decode |"
  " seconds at least |",
  "|---|---|---|---|---|---|---|---|---|",
)
_WEAK_HEAD = """## Weak scaling

Gemma 2 2B on MATH with one prompt a chip, fsdp = 16, the rest in data: GB that
a chip sends in a step."""
_WEAK_HEADER = (
  "| slice | chips | sampler | of which | update | of which |",
  "|---|---|---|---|---|---|",
)


def main() -> None:
  """The command."""
  parser = command_line.parser(__doc__)
  parser.add_argument(
    "--out", type=command_line.path, default="docs", help="folder of the page"
  )
  out = parser.parse_args().out
  report.use_topologies()
  (out / "hardware.md").write_text(markdown(measure(out / "hardware.json")))
  print(f"Wrote {out / 'hardware.md'}")


if __name__ == "__main__":
  main()
