r"""Reads words and plain numbers in LaTeX that stands for one value.

The text has been through `spelling.clean` and is a `parse.Leaf`. What else may
be in it is left to math-verify's parser; `unambiguous` rewrites it so that the
parser has only one way to read it, for example 1/2 as \frac{1}{2}.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from pkpo_jax.tasks.grading.latex.spelling import UnfitError

_FUNCTION = r"\\(?:sin|cos|tan|cot|sec|csc)\s*[({]?\s*"
_WORDS = re.compile(r"[A-Za-z][A-Za-z .'-]*")
_ANSWERS = {"yes", "no", "true", "false", "even", "odd"}


def words(text: str) -> str | None:
  """Words of a text answer in one spelling; None if it is not one."""
  text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
  text = text.strip().removeprefix("(").removesuffix(")").strip()
  if not _WORDS.fullmatch(text):
    return None
  return re.sub(r"[\s.]+", " ", text).strip().casefold()


def is_text(text: str) -> bool:
  """Tells whether the text is words and not a product of variables."""
  has_word = r"\text" in text or re.search(r"[A-Za-z]{3}|^\s*[Nn]o\s*$", text)
  return bool(has_word) and words(text) is not None


def is_word(text: str) -> bool:
  """Tells words with a capital at most in front from variables: Even, not RRr.

  A product such as Rrr has few letters.
  """
  parts = [part for part in re.split(r"[ .'-]+", text) if part]
  letters = {*"".join(parts).casefold()}
  return (len(letters) > 2 or letters == {*"no"}) and all(
    re.fullmatch(r"[A-Z]?[a-z]+|[A-Z]+", part) for part in parts
  )


def recapitalized(one: str, other: str) -> set[str]:
  """The letters, as small ones, whose case tells one product from another.

  Yes and yes are one answer, even where Y and y are variables.
  """
  if one.strip().casefold() in _ANSWERS:
    return set()
  pairs = zip(re.findall("[A-Za-z]", one), re.findall("[A-Za-z]", other))
  return {x.lower() for x, y in pairs if x != y}


def joined(text: str) -> list[str]:
  """Numbers that only look like a difference or a quotient; else [].

  10-15 is a range, and 2021-05-03 and 5/3/2021 are dates.
  """
  text = text.strip()
  if not _JOINED.fullmatch(text):
    return []
  numbers = re.split(r"\s*[-/]\s*", text)
  if len(numbers) == 3:  # 5/3 is 05/03 in a date.
    numbers = [number.lstrip("0") for number in numbers]
  return ["/" if "/" in text else "-", *numbers]


def has_base(text: str) -> bool:
  """Tells whether a number has a subscript, such as 1011_2."""
  return bool(re.search(r"\d\s*_", text))


_JOINED = re.compile(
  r"\d+(?:\.\d+)?(?:\s*-\s*\d+(?:\.\d+)?)+|\d+(?:\s*/\s*\d+){2,}"
)
_NUMBER = re.compile(
  r"(?P<sign>[+-]?)\s*(?P<digits>\d+\.?\d*|\.\d+)(?:[eE](?P<e>[+-]?\d{1,3}))?"
)
_INT = r"\s*[+-]?\s*\d+\s*"
_FRACTION = (
  rf"\\frac\{{({_INT})\}}\{{({_INT})\}}|\(?({_INT})\)?(?:/|\\div)({_INT})"
)
_RATIONAL = re.compile(
  rf"(?P<sign>[+-]?)\s*(?:(?P<whole>\d+)\s*(?=\\frac|\s\d+\s*/))?"
  rf"(?P<fraction>{_FRACTION})"
)
_SCIENTIFIC = re.compile(
  r"(?P<digits>[+-]?\s*(?:\d+\.?\d*|\.\d+))\s*(?:\\times|\\cdot|\*)\s*"
  r"10\s*\^\s*(?:\{\s*(?P<e>[+-]?\d{1,3})\s*\}|(?P<e1>\d))"
)


class Literal(NamedTuple):
  """A rational number that is written down, with nothing left to do.

  Attributes:
    value: exactly.
    form: "decimal", for integers too; "fraction"; "mixed"; "scientific".
  """

  value: Fraction
  form: str


def number(text: str) -> Fraction | None:
  """Value of a plain number; None if the text is not one."""
  match = _NUMBER.fullmatch(text.strip())
  if not match:
    return None
  value = Fraction(match["digits"]) * Fraction(10) ** int(match["e"] or 0)
  return -value if match["sign"] == "-" else value


def literal(text: str) -> Literal | None:
  r"""Reads 5, -0.5, 0.\overline{3}, \frac{1}{2}, 2 1/2, 6 \times 10^6."""
  text = text.strip()
  while text.startswith("{") and text.endswith("}") and "}" not in text[:-1]:
    text = text[1:-1].strip()
  plain = number(text)
  if plain is not None:
    return Literal(plain, "decimal")
  if match := _SCIENTIFIC.fullmatch(text):
    power = Fraction(10) ** int(match["e"] or match["e1"])
    return Literal(
      Fraction(match["digits"].replace(" ", "")) * power, "scientific"
    )
  if match := re.fullmatch(rf"([+-]?)\s*{_REPEATING.pattern}", text):
    sign = -1 if match[1] == "-" else 1
    return Literal(sign * _repeated(*match.groups()[1:]), "decimal")
  if not (match := _RATIONAL.fullmatch(text)):
    return None
  top, bottom = (
    int(part.replace(" ", ""))
    for part in match.groups()[3:]
    if part is not None
  )
  if not bottom or (match["whole"] and (top < 0 or bottom < 0)):
    return None
  value = int(match["whole"] or 0) + Fraction(top, bottom)
  value = -value if match["sign"] == "-" else value
  return Literal(value, "mixed" if match["whole"] else "fraction")


_REPEATING = re.compile(r"(\d+)?\.(\d*)\\overline\s*\{(\d+)\}")
_DECIMAL = re.compile(r"(\d*)\.(\d+)|(\d+)\.(?!\d)")
_UNAMBIGUOUS = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r"_(\w)\s+(\d)", r"_{\1}\2"),
    # 2 1/2 is a mixed number, and 2/3\pi is a fraction times \pi.
    (r"(?<![\d.^_])(\d+) (\d+)/(\d+)(?![\d.])", r"\1\\frac{\2}{\3}"),
    (
      r"(?<![\d.^_}\w)!])(\d+)\s*/\s*(\d+)(?!\d|\.\d|\s*[\^!])",
      r"\\frac{\1}{\2}",
    ),
    # Without the dot, 2(3) would be read as the mixed number 2 + 3.
    (r"(?<![\d_^])(\d+)\s*\(", r"\1\\cdot("),
    (r"\)\s*\(", r")\\cdot("),
    (r"\)\s*(\d)", r")\\cdot \1"),
    (
      rf"({_FUNCTION})(\d+)\s*\^\s*\{{?\\circ\}}?",
      r"\1\\frac{\2\\pi}{180}",
    ),
  )
)


def unambiguous(text: str) -> str:
  """Rewrites LaTeX so that the parser can only read it in the usual way.

  Raises:
    UnfitError: two numbers stand side by side, or there is a quotation mark,
      which the parser would drop.
  """
  text = _REPEATING.sub(_repeating, text)
  for pattern, replacement in _UNAMBIGUOUS:
    text = pattern.sub(replacement, text)
  text = _DECIMAL.sub(_decimal, text)
  if re.search(r"['\"]|\d\s+\d", re.sub(r"\\frac\s*\d\s+\d", "", text)):
    raise UnfitError("unreadable")
  return text


def _decimal(match: re.Match[str]) -> str:
  """Writes a decimal number as an exact fraction."""
  if match[3] is not None:
    return match[3]
  whole, places = match[1] or "0", match[2]
  return rf"\frac{{{int(whole + places)}}}{{{10 ** len(places)}}}"


def _repeating(match: re.Match[str]) -> str:
  r"""Writes a repeating decimal, 0.\overline{3}, as an exact fraction."""
  value = _repeated(*match.groups())
  return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _repeated(whole: str | None, start: str, period: str) -> Fraction:
  """Value of a repeating decimal."""
  whole = whole or "0"
  top = int(whole + start + period) - int(whole + start)
  return Fraction(top, (10 ** len(period) - 1) * 10 ** len(start))
