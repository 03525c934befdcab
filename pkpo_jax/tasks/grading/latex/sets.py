r"""Sets of real numbers, in any notation: x > 1, (1, \infty), a union.

A set is a sorted tuple of pieces that do not touch. A relation is a set only if
its variable stands alone, as a solved inequality does: |x - 1| < 2 is work that
is left to do. Nothing is solved here, and so nothing takes long.
"""

import itertools
import re
from typing import NamedTuple

import sympy

from pkpo_jax.tasks.grading.latex import compare, convert, units
from pkpo_jax.tasks.grading.latex.parse import Leaf, Node, Relation
from pkpo_jax.tasks.grading.latex.spelling import UnfitError

INTERVALS = ("()", "(]", "[)", "[]")


class Piece(NamedTuple):
  """An interval or a single number: low, high, and which ends are open."""

  low: sympy.Expr
  high: sympy.Expr
  low_open: bool = False
  high_open: bool = False


Pieces = tuple[Piece, ...]
_VARIABLE = re.compile(
  r"(?:[A-Za-z]|\\(?!(?:pi|infty)\b)[a-z]+)(?:_\w|_\{\w+\})?"
)
_ALL: Pieces = (Piece(-sympy.oo, sympy.oo, True, True),)
_NAMED = {sympy.S.Reals: _ALL, sympy.S.EmptySet: ()}


def same(gold: Node, answer: Node) -> bool:
  """Compares two sets of numbers; False if either node denotes none."""
  first = read(gold)
  if first is None:
    return False
  second = read(answer)
  if second is None or len(first) != len(second):
    return False
  return all(
    a[2:] == b[2:] and _equal(a.low, b.low) and _equal(a.high, b.high)
    for a, b in zip(first, second)
  )


def read(node: Node) -> Pieces | None:
  """Reads a node as a set of numbers; None if it does not denote one."""
  if isinstance(node, Leaf):
    return _named(node.text)
  if isinstance(node, Relation):
    return _solution(node)
  if node.kind in ("union", "either", "both"):
    parts = [read(part) for part in node.parts]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
      return None
    if node.kind != "both":
      return _union([piece for part in known for piece in part])
    common = known[0]
    for part in known[1:]:
      common = _intersection(common, part)
    return common
  if node.kind == "set":
    numbers = _numbers(node.parts)
    if numbers is None:
      return None
    return _union([Piece(number, number) for number in numbers])
  if node.kind == "all but":
    numbers = _numbers(node.parts)
    return None if numbers is None else _all_but(numbers)
  if node.kind in INTERVALS and len(node.parts) == 2:
    numbers = _numbers(node.parts)
    # (2, 1) is a pair, not an empty interval.
    if numbers is None or not _less(*numbers):
      return None
    low, high = numbers
    return (Piece(low, high, node.kind[0] == "(", node.kind[1] == ")"),)
  return None


def _named(text: str) -> Pieces | None:
  """The set with a name such as R."""
  if "\\" not in text:
    return None
  try:
    return _NAMED.get(convert.to_sympy(text))
  except UnfitError:
    return None


def _numbers(nodes: tuple[Node, ...]) -> list[sympy.Expr] | None:
  """Values of the nodes; None unless each is a real number or infinite."""
  numbers = []
  for node in nodes:
    if not isinstance(node, Leaf):
      return None
    try:
      number = convert.expression(units.split(node.text).value)
    except UnfitError:
      return None
    if number.free_symbols or not number.is_extended_real:
      return None
    numbers.append(number)
  return numbers


def _solution(relation: Relation) -> Pieces | None:
  r"""Reads x > 1, 1 < x \le 2 or x \ne 2; None where x does not stand alone."""
  relation = relation.upward()
  alone = [i for i, part in enumerate(relation.parts) if _is_variable(part)]
  if len(alone) != 1 or len(relation.parts) > 3:
    return None
  (place,), operators = alone, relation.operators
  others = _numbers(relation.parts[:place] + relation.parts[place + 1 :])
  if others is None:
    return None
  if operators == ("=",):
    return (Piece(others[0], others[0]),)
  if operators == (r"\ne",):
    return (
      Piece(-sympy.oo, others[0], True, True),
      Piece(others[0], sympy.oo, True, True),
    )
  if not set(operators) <= {"<", r"\le"}:
    return None
  opens = [operator == "<" for operator in operators]
  if len(others) == 2:
    if place != 1 or not _less(*others):
      return None
    return (Piece(others[0], others[1], *opens),)
  if place == 0:
    return (Piece(-sympy.oo, others[0], True, opens[0]),)
  return (Piece(others[0], sympy.oo, opens[0], True),)


def _is_variable(node: Node) -> bool:
  """Tells whether a side is a variable and nothing else."""
  return isinstance(node, Leaf) and _VARIABLE.fullmatch(node.text) is not None


def _equal(first: sympy.Expr, second: sympy.Expr) -> bool:
  if first.is_infinite or second.is_infinite:
    return first == second
  return compare.same_number(first, second)


def _less(first: sympy.Expr, second: sympy.Expr) -> bool:
  """Tells whether one end is below the other."""
  return not _equal(first, second) and _size(first) < _size(second)


def _size(end: sympy.Expr) -> sympy.Expr:
  return end if end.is_infinite else sympy.re(sympy.N(end, 60))


def _union(pieces: list[Piece]) -> Pieces:
  """Merges pieces that overlap or touch."""
  merged: list[Piece] = []
  for piece in sorted(pieces, key=lambda p: (_size(p.low), p.low_open)):
    last = merged[-1] if merged else None
    if last is not None and (
      _less(piece.low, last.high)
      or (
        _equal(piece.low, last.high) and not (piece.low_open and last.high_open)
      )
    ):
      merged[-1] = _reach(last, piece)
    else:
      merged.append(piece)
  return tuple(merged)


def _all_but(numbers: list[sympy.Expr]) -> Pieces:
  """All real numbers but some."""
  ends = [-sympy.oo, *sorted(numbers, key=_size), sympy.oo]
  return tuple(
    Piece(low, high, True, True) for low, high in itertools.pairwise(ends)
  )


def _reach(last: Piece, piece: Piece) -> Piece:
  """Extends a piece by one that begins within it."""
  if _less(last.high, piece.high):
    return last._replace(high=piece.high, high_open=piece.high_open)
  if _equal(last.high, piece.high):
    return last._replace(high_open=last.high_open and piece.high_open)
  return last


def _intersection(first: Pieces, second: Pieces) -> Pieces:
  """Keeps what is in both."""
  found = []
  for a in first:
    for b in second:
      low = max(a, b, key=lambda p: (_size(p.low), p.low_open))
      high = min(a, b, key=lambda p: (_size(p.high), not p.high_open))
      piece = Piece(low.low, high.high, low.low_open, high.high_open)
      whole = not (piece.low_open or piece.high_open)
      if _less(piece.low, piece.high) or (
        whole and _equal(piece.low, piece.high)
      ):
        found.append(piece)
  return tuple(found)
