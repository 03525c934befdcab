"""Converts LaTeX that stands for one value to sympy, exactly."""

import functools
import re

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig

from pkpo_jax.tasks.grading.latex import values
from pkpo_jax.tasks.grading.latex.spelling import UnfitError

_MAX_BITS = 100_000
_MAX_OPERATORS = 120
NOT_FINITE = (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan)
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


_GREEK = "Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
_NO_LETTERS = (
  r"\\(?:text|mathbb|mathcal|mathfrak|begin|end)\s*\{[^{}]*\}"
  rf"|\\(?!(?i:{_GREEK})(?![A-Za-z]))[A-Za-z]+"
)
_LETTER = re.compile(rf"{_NO_LETTERS}|\\?(?P<letter>[A-Za-z]+)")
_CAPITAL = re.compile(
  rf"{_NO_LETTERS}|\\[a-z]+"
  # With its index, since the new name has one of its own.
  rf"|(?P<name>\\(?:{_GREEK})(?![A-Za-z])|[A-Z])"
  r"(?:\s*_\s*(?:(?P<index>\w)|\{(?P<indices>[^{}]*)\}))?"
  r"|(?<!\\log)_\s*(?:(?P<below>[A-Z])|\{(?P<belows>[^{}]*)\})"
)


def has_both_cases(text: str) -> bool:
  """Tells whether a letter is in LaTeX both as a capital and as a small one."""
  return bool(both_cases(text))


def both_cases(text: str) -> frozenset[str]:
  """The small letters in LaTeX that are there as capitals, too."""
  names = set()
  for match in _LETTER.finditer(text):
    if found := match["letter"]:
      names |= {found} if match[0][0] == "\\" else {*found}
  return frozenset({n.lower() for n in names if not n.islower()} & names)


@functools.lru_cache(maxsize=4096)
def as_written(text: str, *, by_case: bool = False) -> sympy.Basic:
  """Converts LaTeX and computes as little as the parser can.

  Args:
    text: the LaTeX.
    by_case: whether capitals are other variables than small letters.

  Raises:
    UnfitError: it cannot be read, or its value would be huge.
  """
  text = values.unambiguous(text)
  # The parser takes I for the imaginary unit, and \Pi for the number.
  if by_case or "I" in text or r"\Pi" in text:
    text = _CAPITAL.sub(_renamed, text)
  if sum(text.count(x) for x in "+-*/^|\\") > _MAX_OPERATORS:
    raise UnfitError("too long")
  found = math_verify.parse(
    f"${text}$",
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
    raise UnfitError("unreadable")
  if bits(found[0]) > _MAX_BITS:
    raise UnfitError("too large")
  return found[0]


def _renamed(match: re.Match[str]) -> str:
  """Names a capital by small letters, all that the parser knows."""
  found = match.groupdict("")
  if name := found["name"].removeprefix("\\"):
    name = f"z_{{{_spelled(name + found['index'] + found['indices'])}}}"
    before = match.string[: match.start()].rstrip()
    return f"{{{name}}}" if before.endswith(("^", "_")) else name
  index = found["below"] + found["belows"]
  return f"_{{{_spelled(index)}}}" if index else match[0]


def _spelled(name: str) -> str:
  return re.sub("[A-Z]", lambda capital: f"cap{capital[0].lower()}", name)


@functools.lru_cache(maxsize=4096)
def to_sympy(text: str, *, by_case: bool = False) -> sympy.Basic:
  """Converts LaTeX to sympy with real variables and the imaginary unit i.

  Raises:
    UnfitError: it cannot be read, or its value would be huge.
  """
  value = as_written(text, by_case=by_case)
  return value.xreplace(
    {symbol: _symbol(symbol.name) for symbol in value.free_symbols}
  )


def expression(text: str, *, by_case: bool = False) -> sympy.Expr:
  """Reads LaTeX as a number or a formula.

  Raises:
    UnfitError: it cannot be read, or its value is a set or a matrix.
  """
  value = to_sympy(text, by_case=by_case)
  if not isinstance(value, sympy.Expr):
    raise UnfitError("unreadable")
  return value


def _symbol(name: str) -> sympy.Expr:
  """Makes every variable real, and i the imaginary unit."""
  return sympy.I if name == "i" else sympy.Symbol(name, real=True)


def bits(value: sympy.Basic) -> float:
  """Estimates the bits of an exact value before sympy computes it."""
  if isinstance(value, sympy.Rational):
    return value.p.bit_length() + value.q.bit_length()
  parts = [bits(part) for part in value.args]
  largest = max(parts, default=1.0)
  if largest > _MAX_BITS:
    return largest
  if isinstance(value, sympy.Pow | sympy.exp):
    exponent = value.args[-1]
    if exponent.is_number and not exponent.has(*NOT_FINITE):
      return largest * max(1.0, float(abs(sympy.N(exponent))))
  if isinstance(value, sympy.factorial | sympy.binomial | sympy.gamma):
    argument = value.args[0]
    if argument.is_number:
      return float(abs(sympy.N(argument))) * 16
  return sum(parts) + 1
