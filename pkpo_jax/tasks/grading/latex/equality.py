r"""Grades mathematical answers: does the answer equal the reference, exactly?

How an answer is judged, in order: `answers.final_answer` finds it in the
completion. `answers.clean` and `fit` rewrite reference and answer into one
spelling, \tfrac to \frac and 1,234 to 1234; if they now read the same, they are
equal. `parse.parse` takes lists, intervals, matrices and relations apart, down
to leaves with one value each. `_same` compares part by part and `_same_leaf`
leaf by leaf: words as words; plain numbers as fractions, without their units.
Other leaves become sympy values in `_to_sympy`, and here `1/2` becomes equal to
`\frac12`: `values.unambiguous` rewrites 1/2 as \frac{1}{2}, the parser of
math-verify reads both as Rational(1, 2), and `_same_value` compares: numbers
exactly where sympy can, and formulas to fifty digits at four points.

Nothing is rounded: 0.333 is not 1/3. What a mathematician would accept passes:

  - A percent sign, a degree sign, a currency sign and a unit may be left out,
    as in the grader that came with MATH: 50% is 50, and not 0.5. A unit that is
    given must not contradict that of the reference.
  - A name may be left out or added: x = 5 is 5.
  - 1, 2 and {2, 1} are the same list of solutions; (1, 2) is a pair or an open
    interval, and its order and brackets matter.
  - Words may be in any case, and so may variables.

Sums, integrals, limits and the like must be worked out unless the reference
has them too; otherwise an answer could repeat the question.

Run it in a `pool`: some answers take hours.
"""

import functools
import itertools
import re

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig

from pkpo_jax.tasks.grading.latex import answers, parse, values
from pkpo_jax.tasks.grading.latex.parse import Group, Leaf, Node, Relation

_MAX_BITS = 100_000
_DIGITS = 60
_TOLERANCE = sympy.Float("1e-50", _DIGITS)


def grade(gold: str, completion: str) -> tuple[float, bool, str]:
  """Grades a completion against the reference answer.

  Returns:
    (reward, valid, reason). The reward is 1.0 or 0.0; valid is always True,
    since an answer that cannot be read is the policy's fault; the reason is
    "right", "wrong", "no answer" or the message of an `UnfitError`.
  """
  answer = answers.final_answer(completion)
  if answer is None:
    return 0.0, True, "no answer"
  try:
    right = is_same(gold, answer)
  except answers.UnfitError as error:
    return 0.0, True, str(error)
  return (1.0, True, "right") if right else (0.0, True, "wrong")


def is_same(gold: str, answer: str) -> bool:
  """Tells whether a final answer equals the reference.

  Raises:
    UnfitError: the answer cannot be judged; the message says why.
  """
  gold, answer = answers.clean(gold), answers.fit(answer)
  if answers.skeleton(gold) == answers.skeleton(answer):
    return True
  if parse.commands(answer) & _UNEVALUATED - parse.commands(gold):
    raise answers.UnfitError("not evaluated")
  return _same(parse.parse(gold), parse.parse(answer))


_UNEVALUATED = frozenset(
  re.findall(
    r"\\\w+",
    r"\sum \prod \int \iint \oint \lim \limsup \liminf \max \min \sup \inf \gcd"
    r" \lcm \det \operatorname \bmod \pmod \mod \argmax \argmin \Pr \Re \Im",
  )
)


def _same(gold: Node, answer: Node) -> bool:
  """Tells whether two parsed answers are equal."""
  gold, answer = _unwrap(gold), _unwrap(answer)
  if isinstance(gold, Leaf) and isinstance(answer, Leaf):
    return _same_leaf(gold.text, answer.text)
  if isinstance(gold, Relation) and isinstance(answer, Relation):
    return _same_relation(gold, answer)
  if isinstance(gold, Group) and isinstance(answer, Group):
    kinds = {gold.kind, answer.kind}
    if len(kinds) == 1 or kinds == {"list", "set"}:
      same = _same_parts(gold, answer)
      return same or (gold.kind == "union" and _same_set(gold, answer))
  for relation, other in ((gold, answer), (answer, gold)):
    if isinstance(relation, Relation) and relation.is_equation():
      values = relation.values()
      return bool(values) and all(_same(other, value) for value in values)
  return _same_set(gold, answer)


def _unwrap(node: Node) -> Node:
  """Replaces a set of one element by that element: {5} -> 5."""
  if isinstance(node, Group) and node.kind == "set" and len(node.parts) == 1:
    return node.parts[0]
  return node


def _same_parts(gold: Group, answer: Group) -> bool:
  """Compares part by part, in any order within lists, sets and unions."""
  if len(gold.parts) != len(answer.parts):
    return False
  if gold.kind not in ("list", "set", "union"):
    return all(map(_same_part, gold.parts, answer.parts))
  left = list(answer.parts)
  for part in gold.parts:
    found = next((other for other in left if _same_part(part, other)), None)
    if found is None:
      return False
    left.remove(found)
  return True


def _same_part(gold: Node, answer: Node) -> bool:
  """Compares two parts, which need their names: x = 1, y = 2 is not 1, 2."""
  if isinstance(gold, Relation) != isinstance(answer, Relation):
    return False
  return _same(gold, answer)


def _same_relation(gold: Relation, answer: Relation) -> bool:
  """Tells whether two equations or two inequalities say the same."""
  if gold.is_equation() and answer.is_equation():
    if gold.name and answer.name:
      if answers.skeleton(gold.name) == answers.skeleton(answer.name):
        return all(_same(gold.parts[-1], v) for v in answer.values())
    elif gold.name or answer.name:
      named, other = (gold, answer) if gold.name else (answer, gold)
      if other.is_chain_of_values():
        return all(_same(named.parts[-1], v) for v in other.parts)
    return _same_equation(gold, answer)
  gold, answer = gold.upward(), answer.upward()
  if gold.operators == answer.operators and len(gold.parts) == len(
    answer.parts
  ):
    if all(map(_same, gold.parts, answer.parts)):
      return True
    if gold.operators == (r"\ne",):
      return all(map(_same, gold.parts, reversed(answer.parts)))
  return _same_set(gold, answer)


def _same_equation(gold: Relation, answer: Relation) -> bool:
  """Tells whether one equation is a multiple of the other."""
  differences = []
  for relation in (gold, answer):
    sides = _values(relation.parts)
    if sides is None or len(sides) != 2:
      return False
    differences.append(sides[0] - sides[1])
  ratio = sympy.simplify(differences[0] / differences[1])
  return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def _same_set(gold: Node, answer: Node) -> bool:
  """Compares sets of numbers in any notation: x > 1 is (1, oo)."""
  first, second = _as_set(gold), _as_set(answer)
  if first is None or second is None:
    return False
  return first == second or bool(first.symmetric_difference(second).is_empty)


_INTERVALS = ("()", "(]", "[)", "[]")


def _as_set(node: Node) -> sympy.Set | None:
  """Converts a node to a set of numbers; None if it does not denote one."""
  if isinstance(node, Leaf):
    value = _to_sympy(node.text)
    return value if isinstance(value, sympy.Set) else None
  if isinstance(node, Relation):
    return _solutions(node)
  parts = node.parts
  if node.kind == "union":
    sets = [_as_set(part) for part in parts]
    return None if None in sets else sympy.Union(*sets)
  if node.kind != "set" and node.kind not in _INTERVALS:
    return None
  values = _values(parts)
  if values is None or not all(value.is_extended_real for value in values):
    return None
  if node.kind == "set":
    return sympy.FiniteSet(*values)
  # (2, 1) is a pair, not an empty interval.
  if len(values) == 2 and (values[0] < values[1]) is sympy.true:
    return sympy.Interval(*values, node.kind[0] == "(", node.kind[1] == ")")
  return None


_OPERATORS = {"<": sympy.Lt, r"\le": sympy.Le, r"\ne": sympy.Ne}


def _solutions(relation: Relation) -> sympy.Set | None:
  """Solves an inequality in one variable; None if it is not one."""
  relation = relation.upward()
  values, operators = _values(relation.parts), relation.operators
  if values is None or not set(operators) <= set(_OPERATORS):
    return None
  symbols = set().union(*(value.free_symbols for value in values))
  if len(symbols) != 1:
    return None
  if symbols & set(values) and r"\ne" not in operators:
    # 1 < x < 2 can be read off; solving takes long.
    if values[0] in symbols:
      values, operators = [-sympy.oo, *values], ("<", *operators)
    if values[-1] in symbols:
      values, operators = [*values, sympy.oo], (*operators, "<")
    if len(values) == 3 and values[1] in symbols:
      low, high = (operator == "<" for operator in operators)
      return sympy.Interval(values[0], values[2], low, high)
  pairs = zip(operators, itertools.pairwise(values))
  return sympy.And(*(_OPERATORS[op](*pair) for op, pair in pairs)).as_set()


def _values(nodes: tuple[Node, ...]) -> list[sympy.Expr] | None:
  """Values of the nodes; None unless every node is a leaf."""
  if not all(isinstance(node, Leaf) for node in nodes):
    return None
  return [expression(node.text) for node in nodes if isinstance(node, Leaf)]


def _same_leaf(gold: str, answer: str) -> bool:
  """Compares leaves as text, words or plain numbers, else as sympy values."""
  if answers.skeleton(gold) == answers.skeleton(answer):
    return True
  if values.is_text(gold):
    return values.words(gold) == values.words(answer)
  if ":" in gold + answer or values.has_base(gold + " " + answer):
    return False  # Ratios, times and other bases are compared as text.
  gold, gold_unit = values.split_unit(gold)
  answer, unit = values.split_unit(answer)
  if gold_unit and unit and gold_unit != unit:
    return False
  numbers = values.number(gold), values.number(answer)
  if None not in numbers:
    return numbers[0] == numbers[1]
  return _same_value(_to_sympy(gold), _to_sympy(answer))


def _same_value(gold: sympy.Basic, answer: sympy.Basic) -> bool:
  r"""Compares two values as read; 1/2 and \frac12 are both Rational(1, 2)."""
  if gold == answer:
    return True
  if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
    return False
  if gold.has(*_NOT_FINITE) or answer.has(*_NOT_FINITE):
    return False
  if gold.free_symbols or answer.free_symbols:
    return _same_function(gold, answer)
  return _same_number(gold, answer)


_NOT_FINITE = (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan)


def _same_number(gold: sympy.Expr, answer: sympy.Expr) -> bool:
  """Compares two expressions without variables."""
  gold, answer = gold.doit(), answer.doit()
  if gold.is_Rational and answer.is_Rational:
    return gold == answer
  if not _agree(gold, answer):
    return False
  # They agree to fifty digits; an answer that differs later is a cheat.
  return (gold - answer).equals(0) is not False


def _same_function(gold: sympy.Expr, answer: sympy.Expr) -> bool:
  """Compares two formulas at four arbitrary points, wherever both have a value.

  Different formulas hardly ever agree to fifty digits at even one such point.
  """
  symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
  verdicts = []
  for point in range(4):
    values = {
      symbol: (-1) ** (point + row) * sympy.Rational(97 + 31 * row, 59 + point)
      for row, symbol in enumerate(symbols)
    }
    verdicts.append(_agree(gold.xreplace(values), answer.xreplace(values)))
  if False in verdicts:
    return False
  return True in verdicts or sympy.simplify(gold - answer) == 0


def _agree(gold: sympy.Expr, answer: sympy.Expr) -> bool | None:
  """Compares two numbers to fifty digits; None if either has no value."""
  left, right = sympy.N(gold, _DIGITS), sympy.N(answer, _DIGITS)
  if not (left.is_number and right.is_number):
    return None
  if left.has(*_NOT_FINITE) or right.has(*_NOT_FINITE):
    return None
  size = sympy.Max(abs(left), abs(right))
  return bool(abs(left - right) <= size * _TOLERANCE)


def expression(text: str) -> sympy.Expr:
  """Reads LaTeX, without its unit, as a number or a formula.

  Raises:
    UnfitError: it cannot be read, or its value is a set or a matrix.
  """
  value = _to_sympy(values.split_unit(text)[0])
  if not isinstance(value, sympy.Expr):
    raise answers.UnfitError("unreadable")
  return value


_LATEX = (
  math_verify.LatexExtractionConfig(
    boxed_match_priority=-1,
    normalization_config=NormalizationConfig(
      basic_latex=True,
      units=False,
      malformed_operators=True,
      nits=True,
      boxed="none",
    ),
  ),
)


@functools.lru_cache(maxsize=1024)
def _to_sympy(text: str) -> sympy.Basic:
  """Converts LaTeX to sympy, exactly.

  Raises:
    UnfitError: it cannot be read, or its value would be huge.
  """
  found = math_verify.parse(
    f"${values.unambiguous(text)}$",
    _LATEX,
    fallback_mode="no_fallback",
    extraction_mode="first_match",
    # The pool has a deadline; the parser's own needs the main thread.
    parsing_timeout=None,
  )
  if (
    len(found) != 1
    or not isinstance(found[0], sympy.Basic)
    or found[0].has(sympy.Derivative)
  ):
    raise answers.UnfitError("unreadable")
  if _bits(found[0]) > _MAX_BITS:
    raise answers.UnfitError("too large")
  return found[0].xreplace(
    {symbol: _symbol(symbol.name) for symbol in found[0].free_symbols}
  )


def _symbol(name: str) -> sympy.Expr:
  """Makes every variable real, and i the imaginary unit."""
  return sympy.I if name == "i" else sympy.Symbol(name, real=True)


def _bits(value: sympy.Basic) -> float:
  """Estimates the bits of an exact value before sympy computes it."""
  if isinstance(value, sympy.Rational):
    return value.p.bit_length() + value.q.bit_length()
  parts = [_bits(part) for part in value.args]
  largest = max(parts, default=1.0)
  if largest > _MAX_BITS:
    return largest
  if isinstance(value, sympy.Pow | sympy.exp):
    exponent = value.args[-1]
    if exponent.is_number and not exponent.has(*_NOT_FINITE):
      return largest * max(1.0, float(abs(sympy.N(exponent))))
  if isinstance(value, sympy.factorial | sympy.binomial | sympy.gamma):
    argument = value.args[0]
    if argument.is_number:
      return float(abs(sympy.N(argument))) * 16
  return sum(parts) + 1
