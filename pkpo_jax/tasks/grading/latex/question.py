r"""Finds the expressions of a question, to tell copies of them from answers."""

import functools
import re

import sympy

from pkpo_jax.tasks.grading.latex import compare, convert, parse, values
from pkpo_jax.tasks.grading.latex.parse import Leaf, Node, Relation
from pkpo_jax.tasks.grading.latex.spelling import (
  UnfitError,
  clean,
  formulas,
  skeleton,
)

_MAX_CHARACTERS = 8_000
_MAX_EXPRESSIONS = 40
_LONGEST = 160
# Arithmetic outside of dollars, such as 12/18 or (3 + 4) * 2.
_ARITHMETIC = re.compile(
  r"(?<![\w.])[-(]*\d(?:[\d\s.+*/^()!\u00d7\u00f7\u2212-]*[\d)!])?"
)
_TEXT = re.compile(r"\\text\s*\{[^{}]*\}")


@functools.lru_cache(maxsize=256)
def expressions(question: str) -> tuple[str, ...]:
  """The cleaned expressions of a question, and the sides of its relations."""
  inside, outside = formulas(question[:_MAX_CHARACTERS])
  found = dict.fromkeys(piece for text in inside for piece in _pieces(text))
  found |= dict.fromkeys(map(clean, _ARITHMETIC.findall(outside)))
  return tuple(x for x in found if x and len(x) <= _LONGEST)[:_MAX_EXPRESSIONS]


def _pieces(text: str) -> list[str]:
  """A formula, its parts between commas, and the sides of its relations."""
  text = clean(text).strip(" .,?!:")
  found = [text]
  try:
    parts, _ = parse.split(text, (",",))
    for part in parts:
      sides, _ = parse.split(part, parse.RELATIONS)
      found += [part, *sides]
  except UnfitError:
    pass
  return [piece.strip(" .,?!:") for piece in found]


def asks_for(question: str, text: str) -> bool:
  """Tells whether an expression stands in the question by itself.

  In "if x - y = 2, find x + y", that is x + y.
  """
  wanted = skeleton(text)
  inside, _ = formulas(question[:_MAX_CHARACTERS])
  return any(skeleton(clean(x).strip(" .,?!:")) == wanted for x in inside)


def letters(text: str) -> frozenset[str]:
  """The variables in LaTeX."""
  text = _TEXT.sub(" ", text)
  return frozenset(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", text))


def has_both_cases(question: str) -> bool:
  """Tells whether R and r, say, are both letters of a question's formulas."""
  return bool(both_cases(question))


@functools.lru_cache(maxsize=256)
def both_cases(question: str) -> frozenset[str]:
  """Such letters, as small ones."""
  inside, _ = formulas(question[:_MAX_CHARACTERS])
  return convert.both_cases(" ".join(inside))


@functools.lru_cache(maxsize=512)
def equal_to(gold: Node, question: str) -> tuple[str, ...]:
  """The expressions of a question that have the value of the reference."""
  if isinstance(gold, Relation) and gold.name and len(gold.parts) == 2:
    right = equal_to(gold.parts[1], question)
    return right or tuple(_equations(gold, question))
  if isinstance(gold, Relation):
    return tuple(_equations(gold, question))
  if not isinstance(gold, Leaf) or values.is_text(gold.text):
    return ()
  number = values.literal(gold.text)
  by_case = has_both_cases(question) or convert.has_both_cases(gold.text)
  try:
    value = convert.to_sympy(gold.text, by_case=by_case)
  except UnfitError:
    return ()
  variables = letters(gold.text)
  found = []
  for text in expressions(question):
    if not (variables <= letters(text) and re.search(r"\w", text)):
      continue
    theirs = values.literal(text)
    if number is not None and theirs is not None:
      if theirs.value == number.value:
        found.append(text)
      continue
    if any(operator in text for operator in parse.RELATIONS):
      continue
    try:
      other = (
        sympy.Rational(theirs.value)
        if theirs
        else convert.to_sympy(text, by_case=by_case)
      )
      if compare.same(value, other):
        found.append(text)
    except Exception:  # What a question says need not be readable.
      continue
  return tuple(found)


def _equations(gold: Relation, question: str) -> list[str]:
  """The equations of a question that say what the reference says."""
  by_case = has_both_cases(question)
  ours = sides(gold, by_case=by_case)
  if ours is None:
    return []
  found = []
  for text in expressions(question):
    if text.count("=") != 1:
      continue
    try:
      node = parse.parse(text)
      theirs = (
        sides(node, by_case=by_case) if isinstance(node, Relation) else None
      )
      if theirs is not None and compare.difference_ratio(ours, theirs):
        found.append(text)
    except Exception:  # What a question says need not be readable.
      continue
  return found


def sides(
  relation: Relation, *, by_case: bool = False
) -> tuple[sympy.Expr, sympy.Expr] | None:
  """Both sides of an equation as formulas, or None."""
  if relation.operators != ("=",):
    return None
  try:
    found = [
      convert.expression(part.text, by_case=by_case)
      for part in relation.parts
      if isinstance(part, Leaf)
    ]
  except UnfitError:
    return None
  return (found[0], found[1]) if len(found) == 2 else None
