"""Collectives of a compiled program, from its text."""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
# What the TPU compiler calls a fusion of an all-reduce and of taking one's own
# part: it sends what a reduce-scatter does.
_SCATTERED = "all-reduce-scatter"
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(-start)?\((.*)")
_CALLED = re.compile(
  r"(?:calls|to_apply|condition|body|branch_computations)="
  r"(\{[^}]*\}|%?[\w.\-]+)"
)
_CONDITION = re.compile(r" while\(.*condition=%?([\w.\-]+)")
_BOUND = re.compile(r"= [su]32\[\]\S* constant\((\d+)\)")
_KNOWN = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_IOTA = re.compile(
  r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?"
)
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
  """All collectives of one kind, in a run of the program, for one chip.

  Attributes:
    runs: how many are executed.
    in_decode: how many of them in the loop over new tokens.
    bytes: sent over the network by the chip, in a ring.
    between_hosts: of these, by rings that leave a host.
    latency: how long they take if nothing but their start counts, as a number
      of collectives among four chips: a ring of twice the chips has twice the
      hops. Those of fewer count as among four.
  """

  runs: int
  in_decode: int
  bytes: float
  between_hosts: float
  latency: float


def collectives(
  text: str,
  *,
  decode_steps: int | None = None,
  neighbours: int | None = None,
  share: float = 1.0,
) -> dict[str, Collective]:
  """Sums up the collectives of a program by kind.

  Args:
    text: of the compiled program.
    decode_steps: how often the loop over new tokens runs, or the shortest of
      several, if there is one; it is known by that.
    neighbours: chips of a host, if hosts are joined by other links.
    share: of its longest that a loop runs which data may end before.
  """
  bodies = dict(_computations(text))
  times = _times(bodies, share)
  totals: dict[str, Collective] = {}
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
      kind, runs, group = match.group(2), times[name], _group(line)
      sent = runs * _sent_by(match)
      if name.startswith(_SCATTERED):
        kind, sent = "reduce-scatter", sent / 2
      leaves = neighbours and len({i // neighbours for i in group}) > 1
      old = totals.get(kind, Collective(0, 0, 0.0, 0.0, 0.0))
      in_decode = decode_steps is not None and runs >= decode_steps
      totals[kind] = Collective(
        old.runs + runs,
        old.in_decode + (runs if in_decode else 0),
        old.bytes + sent,
        old.between_hosts + (sent if leaves else 0.0),
        old.latency + runs * max(1.0, len(group) / 4),
      )
  return totals


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


def _times(bodies: dict[str, list[str]], share: float) -> dict[str, int]:
  """How often every computation runs: loops multiply.

  Of the branches of a conditional the one that sends most runs.
  """
  times: dict[str, int] = defaultdict(int)

  @functools.cache
  def calls(name: str) -> list[tuple[str, int]]:
    """The computations that one calls, and how often each."""
    found = []
    for line in bodies.get(name, ()):
      runs = 1
      if loop := _CONDITION.search(line):
        runs = _trips(line, loop.group(1), bodies, share)
      callees = re.findall(r"[\w.\-]+", " ".join(_CALLED.findall(line)))
      if " conditional(" in line and callees:
        callees = [max(callees, key=sent)]
      found += [(callee, runs) for callee in callees]
    return found

  @functools.cache
  def sent(name: str) -> float:
    """Bytes that a run of a computation sends, about."""
    own = (_COLLECTIVE.search(line) for line in bodies.get(name, ()))
    return sum(_sent_by(match) for match in own if match) + sum(
      runs * sent(callee) for callee, runs in calls(name)
    )

  def visit(name: str, runs: int) -> None:
    if runs <= times[name]:
      return
    times[name] = runs
    for callee, inner in calls(name):
      visit(callee, runs * inner)

  visit("ENTRY", 1)
  return times


def _trips(
  loop: str, condition: str, bodies: dict[str, list[str]], share: float
) -> int:
  """How often a loop runs: what its condition compares the counter with.

  Where there is more to the condition, data may end the loop before.
  """
  if known := _KNOWN.search(loop):
    return int(known.group(1))
  lines = list(bodies[condition])
  for line in bodies[condition]:
    for called in _CALLED.findall(line):
      for callee in re.findall(r"[\w.\-]+", called):
        lines += bodies.get(callee, [])
  text = "\n".join(lines)
  most = max(map(int, _BOUND.findall(text)), default=1)
  return math.ceil(share * most) if " and(" in text else most


def _sent_by(collective: re.Match) -> float:
  """Bytes that one chip sends for one collective, in a ring."""
  result, kind, line = collective[1], collective[2], collective.string
  group = len(_group(line))
  # Started asynchronously, the result is the operands, then the results.
  result = re.sub(r"\{[^}]*\}", "", result)  # layouts have parentheses too
  if "-start(" in line and result.startswith("(("):
    result = result[result.index(")") :]
  arrays = [_bytes(m) for m in _ARRAY.finditer(result)]
  flat = "-start(" in line and kind != "all-reduce" and result.startswith("(")
  size = max(arrays) if flat else sum(arrays)
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


def _group(line: str) -> list[int]:
  """The chips of the first group that takes part together."""
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", line):
    sizes = re.findall(r"'(\w+)'=(\d+)", mesh.group(1))
    axes = re.findall(r"'(\w+)'", mesh.group(2))
    chips = np.arange(math.prod(int(size) for _, size in sizes))
    chips = chips.reshape([int(size) for _, size in sizes])
    first = [slice(None) if axis in axes else 0 for axis, _ in sizes]
    return chips[tuple(first)].ravel().tolist()
  if iota := _IOTA.search(line):
    _, size, sides, order = iota.groups()
    chips = np.arange(math.prod(_numbers(sides))).reshape(_numbers(sides))
    if order:
      chips = chips.transpose(_numbers(order))
    return chips.ravel()[: int(size)].tolist()
  if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
    return _numbers(listed.group(1))
  if pair := re.search(r"source_target_pairs=\{\{([\d,]+)\}", line):
    return _numbers(pair.group(1))
  return [0, 1]


def _numbers(text: str) -> list[int]:
  return [int(x) for x in text.split(",")]
