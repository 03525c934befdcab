"""Compares two values: numbers exactly, formulas at points."""

import itertools
import random
import re

import sympy

from pkpo_jax.tasks.grading.latex import convert
from pkpo_jax.tasks.grading.latex.convert import NOT_FINITE

_DIGITS = 60
_TOLERANCE = sympy.Float("1e-50", _DIGITS)
# More digits than this prove nothing that fewer do not.
_MOST_DIGITS = 3_000
_MAGNITUDES = (sympy.Rational(1, 3), sympy.Integer(2), sympy.Integer(40))
_POINTS = 24


def same(gold: sympy.Basic, answer: sympy.Basic) -> bool:
  r"""Compares two values as read; 1/2 and \frac12 are both Rational(1, 2)."""
  if gold == answer:
    return True
  if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
    return False
  if gold.has(*NOT_FINITE) or answer.has(*NOT_FINITE):
    return False
  if gold.free_symbols or answer.free_symbols:
    return _same_function(gold, answer)
  return same_number(gold, answer)


def same_number(gold: sympy.Expr, answer: sympy.Expr) -> bool:
  """Compares two expressions without variables."""
  gold, answer = gold.doit(), answer.doit()
  if gold.is_Rational and answer.is_Rational:
    return gold == answer
  if not _agree(gold, answer):
    return False
  # An answer that agrees to fifty digits and differs later is a cheat: look
  # as far as numbers of their size can differ.
  digits = int((convert.bits(gold) + convert.bits(answer)) * 0.31) + _DIGITS
  return bool(_agree(gold, answer, min(digits, _MOST_DIGITS)))


def _same_function(gold: sympy.Expr, answer: sympy.Expr) -> bool:
  """Compares two formulas at points where both are real.

  The points have all sign patterns and several magnitudes, and differ from
  pair to pair. A point where either side is not real says nothing, unless a
  side has the imaginary unit in it.
  """
  symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
  is_complex = gold.has(sympy.I) or answer.has(sympy.I)
  verdicts = []
  roots = [] if is_complex else [*_must_be_positive(gold, answer)]
  for point in _points(symbols, f"{gold} {answer}"):
    if any(sympy.N(root.xreplace(point)).is_negative for root in roots):
      continue
    sides = gold.xreplace(point), answer.xreplace(point)
    verdict = _agree(*sides, real=not is_complex)
    if verdict is False:
      return False
    verdicts.append(verdict)
  return True in verdicts


def _must_be_positive(*sides: sympy.Expr) -> set[sympy.Expr]:
  r"""What stands under roots and logarithms.

  \sqrt a \sqrt b has a real value for negative a and b, but no real parts.
  """
  found = set()
  for part in itertools.chain(*map(sympy.preorder_traversal, sides)):
    if isinstance(part, sympy.Pow) and not part.exp.is_integer:
      found.add(part.base)
    elif isinstance(part, sympy.log):
      found.add(part.args[0])
  return {part for part in found if part.free_symbols}


def _points(
  symbols: list[sympy.Symbol], seed: str
) -> list[dict[sympy.Symbol, sympy.Rational]]:
  """Draws points of all sign patterns and several magnitudes."""
  draw = random.Random(seed)
  # |x - 1000| and 1000 - x differ beyond 1000 only.
  numbers = [int(n) for n in re.findall(r"\d{2,6}", seed)]
  far = [sympy.Integer(3 * max(numbers))] if numbers else []
  magnitudes = [*_MAGNITUDES, *far]
  patterns = [*itertools.product((1, -1), repeat=min(len(symbols), 6))]
  # A side may be real at large points only, or near 0 only.
  cases = [*itertools.product(magnitudes, patterns)]
  if len(cases) > _POINTS:
    cases = draw.sample(cases, _POINTS)
  return [
    {
      symbol: signs[i % len(signs)]
      * magnitude
      * sympy.Rational(draw.randrange(700, 1300), 997)
      for i, symbol in enumerate(symbols)
    }
    for magnitude, signs in cases
  ]


def _agree(
  gold: sympy.Expr,
  answer: sympy.Expr,
  digits: int = _DIGITS,
  *,
  real: bool = False,
) -> bool | None:
  """Compares two numbers, ten digits short; None if either has no value."""
  left, right = sympy.N(gold, digits), sympy.N(answer, digits)
  if not (left.is_number and right.is_number):
    return None
  if left.has(*NOT_FINITE) or right.has(*NOT_FINITE):
    return None
  if real and (_is_complex(left) or _is_complex(right)):
    return None
  size = max(abs(left), abs(right))
  tolerance = sympy.Float(f"1e-{digits - 10}", digits)
  return bool(abs(left - right) <= size * tolerance)


def _is_complex(value: sympy.Expr) -> bool:
  """Tells whether a number has an imaginary part beyond rounding."""
  imaginary = abs(sympy.im(value))
  return bool(imaginary > abs(value) * _TOLERANCE)


def difference_ratio(
  gold: tuple[sympy.Expr, sympy.Expr], answer: tuple[sympy.Expr, sympy.Expr]
) -> bool:
  """Tells whether the equations a = b and c = d are multiples of each other."""
  first, second = gold[0] - gold[1], answer[0] - answer[1]
  symbols = sorted(first.free_symbols | second.free_symbols, key=str)
  if not symbols:
    return False
  ratio = None
  for point in _points(symbols, f"{first} {second}")[:12]:
    sides = [sympy.N(x.xreplace(point), _DIGITS) for x in (first, second)]
    if not all(side.is_number for side in sides) or any(
      side.has(*NOT_FINITE) or _is_complex(side) or side == 0 for side in sides
    ):
      continue
    here = sides[0] / sides[1]
    if ratio is not None and abs(here - ratio) > abs(ratio) * _TOLERANCE:
      return False
    ratio = here
  return ratio is not None
