"""Compiles the shipped configs for TPUs and GPUs, and writes docs/hardware.md.

Example:
  python -m experiments.hardware.table

Takes minutes for each row. What is compiled is kept in docs/hardware.json, so
that a second call goes on where the first was stopped; delete it to measure
anew.
"""

import importlib
import json
import pathlib
from typing import Any, NamedTuple

import ml_collections

from experiments import command_line
from experiments.hardware import chips, report

GIB = chips.GIB


class Row(NamedTuple):
  """A config on chips, with changes that fit it to them."""

  config: str
  topology: str
  changes: dict[str, Any] = {}  # noqa: RUF012, read alone

  @property
  def key(self) -> str:
    """Its name in docs/hardware.json."""
    changed = "".join(f" {k}={v}" for k, v in self.changes.items())
    return f"{self.config} {self.topology}{changed}"


# MATH and code share their programs: shapes are the same.
_SMALL = Row("gemma2_2b_math", "v5e:4x4")
PODS = (
  Row("gemma2_2b_math", "v5e:8x16"),
  _SMALL,
  Row("gemma2_9b_math", "v5e:8x16"),
  Row("gemma2_9b_math", "v5p:4x4x4"),
  Row("gemma2_2b_arc", "v5e:8x16"),
  Row("gemma2_9b_arc", "v5e:8x16"),
)
# Within a host every card is a neighbour of every other.
_FSDP = {"mesh.fsdp": 8, "mesh.tensor": 1}
# Between hosts gradients are reduced once a microbatch: few, large ones.
_HOSTS = {**_FSDP, "microbatch.rows": 128}
GPUS = (
  Row("gemma2_2b_math", "h100:1x8", _FSDP),
  Row("gemma2_2b_math", "h100:1x8", {"mesh.fsdp": 2, "mesh.tensor": 4}),
  Row("gemma2_2b_math", "h100:4x8", _FSDP),
  Row("gemma2_2b_math", "h100:4x8", _HOSTS),
  Row("gemma2_2b_math", "h200:1x8", _FSDP),
  Row("gemma2_2b_math", "a100-80:2x8", _HOSTS),
  Row("gemma2_2b_math", "b200:1x8", _FSDP),
)
ONE_CARD = tuple(
  Row(f"{model}_gsm8k_lora", topology)
  for model in ("gemma3_1b", "gemma2_2b")
  for topology in ("h100:1x1", "v5e:2x4")
)
# A prompt and two rows of a microbatch a chip: its work stays the same.
WEAK = (
  _SMALL,
  Row(
    "gemma2_2b_math",
    "v5e:16x16",
    {"prompts_per_step": 256, "microbatch.rows": 512},
  ),
)


def measure(path: pathlib.Path) -> dict[str, Any]:
  """Compiles what `path` lacks; key -> what the programs need."""
  done = json.loads(path.read_text()) if path.exists() else {}
  for row in (*PODS, *GPUS, *ONE_CARD, *WEAK):
    if row.key in done:
      continue
    print(f"Compiling {row.key}", flush=True)
    config = importlib.import_module(f"configs.{row.config}").get_config("k8")
    config.update_from_flattened_dict(row.changes)
    done[row.key] = _measured(config, row.topology)
    path.write_text(json.dumps(done, indent=1) + "\n")
  return done


def _measured(config: ml_collections.ConfigDict, topology: str) -> Any:
  try:
    programs = report.compile_all(config, chips.topology(topology))
  except report.DoesNotFitError as error:
    return {"error": str(error)}
  return [program.to_json() for program in programs]


def markdown(done: dict[str, Any]) -> str:
  """The page."""
  sections = [_HEAD]
  for head, rows in (
    (_PODS_HEAD, PODS),
    (_GPUS_HEAD, GPUS),
    (_ONE_CARD_HEAD, ONE_CARD),
  ):
    lines = [line for row in rows for line in _rows(done, row)]
    sections += [head, "\n".join([*_HEADER, *lines])]
  lines = [_weak_row(done, row) for row in WEAK]
  sections += [_WEAK_HEAD, "\n".join([*_WEAK_HEADER, *lines])]
  return "\n\n".join(sections) + "\n"


def _rows(done: dict[str, Any], row: Row) -> list[str]:
  """A line for each program, and one for the step."""
  measured = done.get(row.key)
  name = " ".join([row.config, *(f"{k}={v}" for k, v in row.changes.items())])
  begin = f"| {name} | {row.topology} |"
  if measured is None or "error" in measured:
    reason = measured["error"] if measured else "not compiled yet"
    return [f"{begin} {reason} |" + " |" * 8]
  programs = [report.Program.from_json(x) for x in measured]
  lines = []
  for x in programs:
    limit = chips.topology(row.topology).chip.hbm
    cells = (
      x.name,
      f"{x.memory['total'] / GIB:.2f} of {limit / GIB:.2f}",
      f"{x.all.flops / 1e12:.1f}",
      "-" if x.replication is None else f"{x.replication:.2f}",
      f"{sum(c.bytes for c in x.collectives.values()) / 1e9:.2f}",
      str(sum(c.in_decode for c in x.collectives.values())),
      f"{x.all.arithmetic:.2f} / {x.all.memory:.2f} / {x.all.network:.2f}",
      " / ".join(f"{alpha * x.all.latency:.2f}" for alpha in report.ALPHAS),
      "",
    )
    lines.append(f"{begin} {' | '.join(cells)} |")
  every, quarter = (
    " / ".join(
      f"**{report.floor(programs, alpha, quarter=quarter):.2f}**"
      for alpha in report.ALPHAS
    )
    for quarter in (False, True)
  )
  old = f"**{report.floor(programs):.2f}**"
  return [*lines, f"{begin} step | | | | | | {old} | {every} | {quarter} |"]


def _weak_row(done: dict[str, Any], row: Row) -> str:
  measured = done.get(row.key)
  size = chips.topology(row.topology).size
  if measured is None or "error" in measured:
    return f"| {row.topology} | {size} | not compiled yet | | | |"
  cells = [row.topology, str(size)]
  for program in measured:
    kinds = program["collectives"]
    cells.append(f"{sum(x['bytes'] for x in kinds.values()) / 1e9:.2f}")
    cells.append(
      ", ".join(f"{k} {x['bytes'] / 1e9:.2f}" for k, x in sorted(kinds.items()))
    )
  return "| " + " | ".join(cells) + " |"


_HEAD = """# What the compilers say

Compiled by libtpu==0.0.52 for TPUs, and by XLA for GPUs, that were not there:
`python -m experiments.hardware.table` writes this page, and
`python -m experiments.hardware --config=... --topology=...` prints one
row of it in full. All figures are for one chip and one step: 16 prompts, 16
completions each, 512 + 1024 tokens (ARC 1024 + 256), bfloat16 on float32
parameters, AdamW. Every completion is taken to be used, and to be as long as
it may be, but for the last column.

- *GiB*: everything that is in the chip's memory while the program runs.
- *TFLOP*: operations of a chip; *share*: 1 if no chip repeats another's work;
  above it where prompts are fewer than chips, and several chips read each.
- *GB sent* over the network by all collectives; *in decode*: how many of them
  are in the loop over new tokens: one of a single byte each time, which asks
  whether all rows are done; with tensor parallelism two in every layer, and
  some to draw.
- *seconds at least*, for arithmetic / memory / network, at the chip's peak
  figures (experiments/hardware/chips.py): floors, which nothing reaches. In
  the row of the step, the sum of both programs' largest.
- *latency*, seconds for the starts of all collectives, if one among four chips
  takes 2 / 6 / 10 microseconds and one among eight twice that (sources in
  experiments/hardware/report.py); in the row of the step, with everything.
- *25 % used*: the step with latency, where one completion in four has a weight,
  as when a fourth of all answers is right: the update passes a fourth of its
  microbatches."""
_PODS_HEAD = """## TPU slices: the runs of the paper"""
_GPUS_HEAD = """## GPUs

Hosts times cards, joined by NVLink within a host and 400 Gb/s a card (A100:
200) between hosts. XLA's GPU compiler counts neither operations nor bytes: an
even share of the operations stands for the first, every temporary written and
read once for the second. It tunes nothing without a card, and NCCL's own
buffers come on top of the memory, which is that of
XLA_PYTHON_CLIENT_MEM_FRACTION=.92."""
_ONE_CARD_HEAD = """## One card, or eight small chips

LoRA on GSM8K: 16 prompts, 16 completions each, 256 + 512 tokens. What one H100
takes in fact is in [pods.md](pods.md#gpus), measured."""
_HEADER = (
  "| config | chips | program | GiB | TFLOP | share | GB sent | in decode |"
  " seconds at least | latency | 25 % used |",
  "|---|---|---|---|---|---|---|---|---|---|---|",
)
_WEAK_HEAD = """## Weak scaling

Gemma 2 2B on MATH with one prompt a chip, the mesh growing in data: GB that a
chip sends in a step. The update sends more as prompts get more: rows of a
microbatch may belong to prompts of any chip, so that the keys and values of all
prompts are gathered for each, and their gradients added up."""
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
