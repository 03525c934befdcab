"""Collectives of a compiled program, from its text."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

_KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(-start)?\((.*)")
_CALLED = re.compile(
  r"(?:calls|to_apply|condition|body|branch_computations)="
  r"(\{[^}]*\}|%?[\w.\-]+)"
)
_CONDITION = re.compile(r" while\(.*condition=%?([\w.\-]+)")
_BOUND = re.compile(r"= [su]32\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
  """All collectives of one kind, in a run of the program, for one chip.

  Attributes:
    runs: how many are executed.
    in_decode: how many of them in the loop over new tokens.
    bytes: sent over the network by the chip, in a ring.
  """

  runs: int
  in_decode: int
  bytes: float


def collectives(
  text: str, *, decode_steps: int | None = None
) -> dict[str, Collective]:
  """Sums up the collectives of a program by kind.

  Args:
    text: of the compiled program.
    decode_steps: how often the loop over new tokens runs, or the shortest of
      several, if there is one; it is known by that.
  """
  bodies = dict(_computations(text))
  times = _times(bodies)
  totals: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
  seen = set()
  for name, lines in bodies.items():
    for line in lines:
      match = _COLLECTIVE.search(line)
      if not match or not times[name]:
        continue
      # A collective that overlaps with arithmetic is written once for each
      # fusion that advances it, always with the channel of the whole.
      channel = re.search(r"channel_id=(\d+)", line)
      key = channel.group(1) if channel else line
      if key in seen:
        continue
      seen.add(key)
      kind, runs = match.group(2), times[name]
      total = totals[kind]
      total[0] += runs
      total[1] += runs if decode_steps and runs >= decode_steps else 0
      total[2] += runs * _sent(kind, match.group(1), line)
  return {
    kind: Collective(int(runs), int(decode), sent)
    for kind, (runs, decode, sent) in totals.items()
  }


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
  name: str | None = None
  lines: list[str] = []
  for line in text.splitlines():
    if start := _COMPUTATION.match(line):
      name, lines = ("ENTRY" if start.group(1) else start.group(2)), []
    elif line.startswith("}") and name:
      yield name, lines
      name = None
    elif name:
      lines.append(line)


def _times(bodies: dict[str, list[str]]) -> dict[str, int]:
  """How often every computation runs: loops multiply."""
  times: dict[str, int] = defaultdict(int)

  def visit(name: str, runs: int) -> None:
    if runs <= times[name]:
      return
    times[name] = runs
    for line in bodies.get(name, ()):
      inner = runs
      if loop := _CONDITION.search(line):
        inner *= _trips(bodies[loop.group(1)])
      for called in _CALLED.findall(line):
        for callee in re.findall(r"[\w.\-]+", called):
          visit(callee, inner)

  visit("ENTRY", 1)
  return times


def _trips(condition: list[str]) -> int:
  """How often a loop runs: what its condition compares the counter with."""
  bounds = _BOUND.findall("\n".join(condition))
  return max(map(int, bounds), default=1)


def _sent(kind: str, result: str, line: str) -> float:
  """Bytes that one chip sends for one collective, in a ring."""
  arrays = [_bytes(m) for m in _ARRAY.finditer(result)]
  # Started asynchronously, the result holds the operands as well.
  size = max(arrays) if "-start(" in line else sum(arrays)
  group = _group_size(line)
  share = (group - 1) / group
  return {
    "all-gather": size * share,
    "all-reduce": 2 * size * share,
    "reduce-scatter": size * (group - 1),
    "all-to-all": size * share,
    "collective-permute": float(size),
  }[kind]


def _bytes(array: re.Match) -> float:
  bits = int(array.group(2)) if array.group(2) else 8
  shape = [int(x) for x in array.group(3).split(",") if x]
  return math.prod(shape) * bits / 8


def _group_size(line: str) -> int:
  """How many chips take part together."""
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", line):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh.group(1)))
    axes = re.findall(r"'(\w+)'", mesh.group(2))
    return math.prod(int(sizes[axis]) for axis in axes)
  if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
    return int(iota.group(2))
  if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
    return len(listed.group(1).split(","))
  return 2
