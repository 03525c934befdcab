r"""Tells whether an answer is worked out: the form that was asked for.

`work` names what is left to do in a value as it is written, such as the sum in
2 + 3, the root in \sqrt{18} or the power in 2^{10}. An answer may leave to do
what its reference leaves to do, and nothing else. Some forms are a matter of
taste, such as \frac{1}{\sqrt 2}: they are right, unless the question has an
expression that equals the reference. Then the form is all that was asked for.
"""

import math
import re

import sympy

from pkpo_jax.tasks.grading.latex import convert, question, units, values
from pkpo_jax.tasks.grading.latex.parse import Leaf, Node, Relation
from pkpo_jax.tasks.grading.latex.spelling import UnfitError, skeleton

# A matter of taste where the question does not have the value already.
_TASTE = frozenset({"unreduced fraction", "root below", "expand"})
_FRACTION = re.compile(
  # The parser cancels in \frac{10x}{2} while it reads.
  r"\\frac\{\s*-?(\d+)(?:[A-Za-z]|\\pi|\\sqrt\{\w+\}|\s)*\}\{\s*-?(\d+)\s*\}"
  r"|(\d+)\s*/\s*(\d+)"
)
_LOGARITHM = re.compile(r"\\(?:ln|log|lg)(?![A-Za-z])")
_LARGEST_RADICAND = 10**12


def is_worked_out(
  gold: Node, answer: Node, asked: str, about: units.Asked = units.NOTHING
) -> bool:
  """Tells whether an answer that equals the reference has a form like its own.

  Args:
    gold: the reference.
    answer: what equals it.
    asked: the question, or "".
    about: what it says about units.
  """
  if isinstance(answer, Relation) and not isinstance(gold, Relation):
    answer = answer.parts[-1] if answer.is_equation() else answer
  golds, found = _leaves(gold, about), _leaves(answer, about)
  if _are_plain(golds) and _are_plain(found):
    return True
  try:
    left = _work(found) - _work(golds)
    if left - _TASTE:
      return False
    copied = question.equal_to(gold, asked)
    if not copied:
      return True
    if left or any(_is_copy(found, golds, text) for text in copied):
      return False
    return _is_as_simple(golds, found) and _has_its_shape(gold, answer)
  except UnfitError:
    return True  # Words, times, sets with names: nothing to work out.


def _leaves(node: Node, about: units.Asked = units.NOTHING) -> list[str]:
  """The LaTeX of what may need work: values without names and units."""
  if isinstance(node, Leaf):
    return [units.split(node.text, about).value]
  parts = node.parts
  if (
    isinstance(node, Relation)
    and node.is_equation()
    and (node.name or node.is_chain_of_values())
  ):
    parts = node.parts[-1:]  # Of x = 2 + 3 = 5, that is the answer.
  return [text for part in parts for text in _leaves(part, about)]


def _are_plain(texts: list[str]) -> bool:
  """Tells whether all leaves are integers or decimals."""
  return all(values.number(text) is not None for text in texts)


def _work(texts: list[str]) -> frozenset[str]:
  """All work that is left in some leaves."""
  found: set[str] = set()
  by_case = convert.has_both_cases(" ".join(texts))
  for text in texts:
    found |= _in_text(text)
    if values.literal(text) or values.is_text(text) or ":" in text:
      continue
    try:
      value = convert.as_written(text, by_case=by_case)
    except UnfitError:
      continue
    found |= work(value)
    parts = sympy.preorder_traversal(value)
    logs = sum(isinstance(part, sympy.log) for part in parts)
    if len(_LOGARITHM.findall(text)) > logs:
      found.add("log")  # The parser reads e^{\ln 3} as 3.
  return frozenset(found)


def _in_text(text: str) -> set[str]:
  """Work that the parser does while it reads."""
  found = {name for name in (r"\binom", r"\choose", r"\sqrt{-") if name in text}
  for match in _FRACTION.finditer(text):
    top, bottom = (int(part) for part in match.groups() if part is not None)
    if bottom and top % bottom == 0:
      found.add("product")
    elif math.gcd(top, bottom) > 1:
      found.add("unreduced fraction")
  return found


def work(value: sympy.Basic) -> set[str]:
  """Names the work that is left to do in a value as it is written."""
  found: set[str] = set()
  for part in value.args:
    found |= work(part)
  if isinstance(value, sympy.Add):
    found |= _of_sum(_flat(value, sympy.Add))
  elif isinstance(value, sympy.Mul):
    found |= _of_product(value)
    # 3^{-1} alone is a power; in a product it is a fraction.
    if "reciprocal" in found:
      found.discard("reciprocal")
  elif isinstance(value, sympy.Pow):
    found |= _of_power(*value.args)
  elif isinstance(value, sympy.Function) and _is_number(value):
    found.add(type(value).__name__)
  return found


def _is_number(value: sympy.Basic) -> bool:
  """Tells whether a value has no variables but i."""
  return all(symbol.name == "i" for symbol in value.free_symbols)


def _is_i(value: sympy.Basic) -> bool:
  """Tells whether a value is the imaginary unit, as the parser reads it."""
  return isinstance(value, sympy.Symbol) and value.name == "i"


def _flat(value: sympy.Expr, kind: type[sympy.Expr]) -> list[sympy.Expr]:
  """Arguments of sums in sums, or of products in products."""
  if not isinstance(value, kind):
    return [value]
  return [part for argument in value.args for part in _flat(argument, kind)]


def _computed(value: sympy.Basic) -> sympy.Basic:
  """Lets sympy do the arithmetic that it does by itself."""
  if not value.args:
    return value
  return value.func(*map(_computed, value.args))


def _of_sum(terms: list[sympy.Expr]) -> set[str]:
  """Finds like terms: 2 + 3, 2x + 3x, \\sqrt 2 + \\sqrt 8."""
  seen: set[sympy.Expr] = set()
  for term in terms:
    rest = _computed(term).as_coeff_Mul()[1]
    if rest in seen:
      return {"sum"}
    seen.add(rest)
  return set()


def _of_product(value: sympy.Mul) -> set[str]:
  """Finds numbers to multiply, to cancel or to expand."""
  factors = _flat(value, sympy.Mul)
  found: set[str] = set()
  tops, bottoms, sums, roots = [], [], 0, 0
  bases: dict[sympy.Expr, list[sympy.Expr]] = {}
  for factor in factors:
    base, exponent = factor.as_base_exp()
    if isinstance(factor, sympy.Rational):
      tops += [abs(factor.p)] * (abs(factor.p) != 1)
      bottoms += [factor.q] * (factor.q != 1)
    elif isinstance(base, sympy.Integer) and exponent == -1:
      bottoms.append(abs(int(base)))
    elif isinstance(base, sympy.Add) and _is_number(base):
      sums += exponent == 1
    elif isinstance(base, sympy.Rational) and not exponent.is_integer:
      roots += exponent.is_positive is not False
    elif not isinstance(base, sympy.Rational):
      bases.setdefault(base, []).append(exponent)
  if len(tops) > 1 or len(bottoms) > 1 or roots > 1:
    found.add("product")
  elif tops and bottoms and math.gcd(tops[0], bottoms[0]) > 1:
    whole = tops[0] % bottoms[0] == 0
    found.add("product" if whole or _is_beside(value) else "unreduced fraction")
  if any(
    len(exponents) > 1 and all(e.is_number for e in exponents)
    for exponents in bases.values()
  ):
    found.add("product")
  if sums > 1 or (sums and any(_is_i(base) for base in bases)):
    found.add("product of sums")
  found |= _of_content(factors, bottoms)
  symbolic = [f for f in factors if f.has(sympy.Add) and not _is_number(f)]
  if symbolic:
    found.add("expand")
  return found


def _is_beside(value: sympy.Mul) -> bool:
  r"""Tells 6 \cdot \frac{\pi}{4}, a product, from \frac{6\pi}{4}."""
  factors = _flat(value, sympy.Mul)
  return any(
    isinstance(x, sympy.Rational) and x.q != 1 for x in factors
  ) or any(isinstance(x, sympy.Integer) and abs(x) != 1 for x in value.args)


def _of_content(factors: list[sympy.Expr], bottoms: list[int]) -> set[str]:
  """Finds what cancels between the terms of a sum and what is below it."""
  if len(bottoms) != 1:
    return set()
  for factor in factors:
    if isinstance(factor, sympy.Add):
      numbers = [
        _computed(x).as_coeff_Mul()[0] for x in _flat(factor, sympy.Add)
      ]
      if all(isinstance(number, sympy.Integer) for number in numbers):
        shared = math.gcd(*map(int, numbers), bottoms[0])
        if shared == bottoms[0]:
          return {"product"}
        if shared > 1:
          return {"unreduced fraction"}
  return set()


def _of_power(base: sympy.Expr, exponent: sympy.Expr) -> set[str]:
  """Finds powers and roots that can be worked out."""
  if isinstance(base, sympy.Pow) and exponent.is_integer and exponent != -1:
    return {"power"}
  if not _is_number(base):
    if exponent.is_negative and not base.has(sympy.Function):
      return {"variable below"}
    return {"expand"} if isinstance(base, sympy.Add) else set()
  if _is_i(base):
    return {"power"}
  if isinstance(base, sympy.Mul) and exponent.is_integer and exponent != -1:
    return {"power"}
  if isinstance(base, sympy.Pow) and _undoes(exponent, base.exp):
    return {"root"}
  if isinstance(base, sympy.Rational) and isinstance(exponent, sympy.Rational):
    if exponent == -1:
      return {"reciprocal"}
    if exponent.is_integer:
      return {"power"}
    return _of_root(base, exponent)
  if exponent.is_negative and base.is_Pow:
    return {"root below"} if exponent == -1 else {"power"}
  if exponent.is_negative and base.has(sympy.Pow, sympy.Symbol):
    return {"sum below"} if base.has(sympy.Add) else {"root below"}
  if isinstance(base, sympy.Add) and exponent.is_number:
    return {"power of a sum" if exponent.is_integer else "root of a sum"}
  if base.is_Pow and exponent.is_integer and not base.has(sympy.E):
    return {"power"}
  return set()


def _undoes(root: sympy.Expr, power: sympy.Expr) -> bool:
  r"""Tells whether a root takes back a power, as in \sqrt{(3\sqrt 3)^2}."""
  return (
    isinstance(root, sympy.Rational)
    and not root.is_integer
    and isinstance(power, sympy.Integer)
    and abs(power) > 1
    and power % root.q == 0
  )


def _of_root(base: sympy.Rational, exponent: sympy.Rational) -> set[str]:
  """Finds roots of what has a square in it: \\sqrt{18}, 8^{1/3}."""
  if base < 0:
    return {"root of a negative"}
  for part in (abs(base.p), base.q):
    if part > _LARGEST_RADICAND:
      continue
    powers = sympy.factorint(part).values()
    if any(power >= exponent.q for power in powers):
      return {"root"}
  if base.q != 1 or exponent.is_negative:
    return {"root below"}
  return set()


def _is_copy(found: list[str], golds: list[str], text: str) -> bool:
  """Tells whether an answer stands in the question, and the reference not."""
  said = {skeleton(leaf) for leaf in found}
  if said == {skeleton(leaf) for leaf in golds}:
    return False
  if skeleton(text) in said:
    return True
  if (literal := values.literal(text)) is not None:
    return _form(found) == literal.form != _form(golds)
  try:
    theirs = _sorted(convert.as_written(text))
    return any(
      theirs == _sorted(convert.as_written(leaf))
      and theirs != _sorted(convert.as_written(other))
      for leaf, other in zip(found, golds)
      if values.literal(leaf) is None
    )
  except UnfitError:
    return False


def _form(texts: list[str]) -> str:
  """The form of a plain number, or ""."""
  literal = values.literal(texts[0]) if texts else None
  return literal.form if literal else ""


def _sorted(value: sympy.Basic) -> str:
  """A text of a value as written, whatever the order of its sums."""
  if not value.args:
    return str(value)
  parts = [
    _sorted(part)
    for part in (
      _flat(value, type(value))
      if isinstance(value, sympy.Add | sympy.Mul)
      else value.args
    )
  ]
  if isinstance(value, sympy.Add | sympy.Mul):
    parts.sort()
  return f"{type(value).__name__}({','.join(parts)})"


def _is_as_simple(golds: list[str], found: list[str]) -> bool:
  """Compares sizes, and numbers of factors where the reference is factored."""
  for gold, text in zip(golds, found):
    first, second = convert.as_written(gold), convert.as_written(text)
    needed = factors(first)
    if needed > 1 and factors(second) < needed:
      return False
    if _size(second) > 1.5 * _size(first) + 1:
      return False
  return True


def factors(value: sympy.Basic) -> int:
  """Counts the factors of a product, a power as often as it says."""
  if isinstance(value, sympy.Mul):
    return sum(factors(part) for part in value.args)
  if isinstance(value, sympy.Pow):
    base, exponent = value.args
    if isinstance(exponent, sympy.Integer) and exponent > 0:
      return factors(base) * int(min(exponent, 1_000))
    return int(not _is_number(value))
  if isinstance(value, sympy.Integer):
    return int(abs(value) != 1)
  return int(not isinstance(value, sympy.Rational))


def _size(value: sympy.Basic) -> int:
  """Counts numbers and letters."""
  if isinstance(value, sympy.Rational):
    return 1 if value != -1 else 0
  return sum(map(_size, value.args)) or 1


def _has_its_shape(gold: Node, answer: Node) -> bool:
  """Tells whether an equation names the same side as the reference does."""
  if not isinstance(gold, Relation):
    return True
  if isinstance(answer, Relation) and not answer.is_chain_of_values():
    if bool(gold.name) != _is_solved(answer):
      return False
    return bool(gold.name) or _right_sides_match(gold, answer)
  return bool(gold.name)


def _is_solved(relation: Relation) -> bool:
  """Tells whether a variable stands alone on one side: y = 2x + 3."""
  last = relation.parts[-1]
  if relation.name:
    return True
  return isinstance(last, Leaf) and re.fullmatch("[a-z]", last.text) is not None


def _right_sides_match(gold: Relation, answer: Relation) -> bool:
  """Tells whether both or neither end in a number."""
  ends = [
    isinstance(relation.parts[-1], Leaf)
    and values.literal(relation.parts[-1].text) is not None
    for relation in (gold, answer)
  ]
  return ends[0] == ends[1]
