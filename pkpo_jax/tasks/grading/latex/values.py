r"""Reads units, words and plain numbers in LaTeX that stands for one value.

The text has been through `answers.clean` and is a `parse.Leaf`. What else may
be in it is left to math-verify's parser; `unambiguous` rewrites it so that the
parser has only one way to read it, for example 1/2 as \frac{1}{2}.
"""

import re
from fractions import Fraction

from pkpo_jax.tasks.grading.latex import answers

_UNITS = {
  "mm": "millimeter millimetre",
  "cm": "centimeter centimetre",
  "m": "meter metre",
  "km": "kilometer kilometre",
  "in": "inch inche",
  "ft": "foot feet",
  "yd": "yard",
  "mi": "mile",
  "mg": "milligram",
  "g": "gram",
  "kg": "kilogram",
  "lb": "pound",
  "oz": "ounce",
  "ml": "mL milliliter",
  "s": "sec second",
  "min": "minute",
  "h": "hr hour",
  "d": "day",
}
_CANONICAL = {
  word: unit
  for unit, others in _UNITS.items()
  for word in (unit, *others.split())
}
_PHRASE = r"[A-Za-z][A-Za-z/. -]*"
_POWER = r"(?:\s*\^\s*\{?(?P<power>[23])\}?)?"
_TEXT_UNIT = re.compile(
  r"(?P<value>.*?[\d}).A-Za-z])\s*\\text\s*\{\s*"
  rf"(?P<unit>{_PHRASE}){_POWER}\s*\}}{_POWER.replace('power', 'power2')}"
)
_BARE_UNIT = re.compile(rf"(?P<value>.*[\d}})])\s*(?P<unit>{_PHRASE}){_POWER}")
# "5 or more" is not 5.
_NOT_UNITS = frozenset(
  re.findall(
    r"\w+",
    "or and not if more less than least most about approximately to no minus"
    " plus times over only except for when is",
  )
)
_SIGN = re.compile(
  r"\s*(?:\\?%|\\text\s*\{\s*%\s*\}|\^\s*\{?\s*\\circ\s*\}?)\s*$"
)
_FUNCTION = r"\\(?:sin|cos|tan|cot|sec|csc)\s*[({]?\s*"
_ANGLE = re.compile(_FUNCTION + r"\d")
_WORDS = re.compile(r"[A-Za-z][A-Za-z .'-]*")


def split_unit(text: str) -> tuple[str, str]:
  """Splits off a unit, a percent sign or a degree sign.

  Returns:
    The text without it; and the unit, "" if there is none or it is not known.
  """
  text = text.strip()
  bare = _SIGN.sub("", text)
  if bare != text and not _ANGLE.search(text):
    return bare, ""
  match, needs_known = _TEXT_UNIT.fullmatch(text), False
  if not match:
    match, needs_known = _BARE_UNIT.fullmatch(text), True
  if not match:
    return text, ""
  found = match.groupdict()
  words = re.findall(r"[A-Za-z]+", found["unit"])
  known = [_CANONICAL.get(w, _CANONICAL.get(w.rstrip("s"), "")) for w in words]
  if _NOT_UNITS & {word.lower() for word in words}:
    return text, ""
  if needs_known and not all(
    unit if len(word) < 3 else len(word) > 1 for word, unit in zip(words, known)
  ):
    return text, ""
  power = found.get("power") or found.get("power2") or ""
  unit = f"{known[0]}{power}" if len(words) == 1 and known[0] else ""
  return split_unit(found["value"])[0], unit


def words(text: str) -> str | None:
  """Words of a text answer in one spelling; None if it is not one."""
  text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
  text = text.strip().removeprefix("(").removesuffix(")").strip()
  if not _WORDS.fullmatch(text):
    return None
  return re.sub(r"[\s.]+", " ", text).strip().casefold()


def is_text(text: str) -> bool:
  """Tells whether the text is words and not a product of variables."""
  has_word = r"\text" in text or re.search(r"[A-Za-z]{3}", text)
  return bool(has_word) and words(text) is not None


def has_base(text: str) -> bool:
  """Tells whether a number has a subscript, such as 1011_2."""
  return bool(re.search(r"\d\s*_", text))


_NUMBER = re.compile(
  r"(?P<sign>[+-]?)\s*(?P<digits>\d+\.?\d*|\.\d+)(?:[eE](?P<e>[+-]?\d{1,3}))?"
)


def number(text: str) -> Fraction | None:
  """Value of a plain number; None if the text is not one."""
  match = _NUMBER.fullmatch(text.strip())
  if not match:
    return None
  value = Fraction(match["digits"]) * Fraction(10) ** int(match["e"] or 0)
  return -value if match["sign"] == "-" else value


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
    raise answers.UnfitError("unreadable")
  return text


def _decimal(match: re.Match[str]) -> str:
  """Writes a decimal number as an exact fraction."""
  if match[3] is not None:
    return match[3]
  whole, places = match[1] or "0", match[2]
  return rf"\frac{{{int(whole + places)}}}{{{10 ** len(places)}}}"


def _repeating(match: re.Match[str]) -> str:
  r"""Writes a repeating decimal, 0.\overline{3}, as an exact fraction."""
  whole, start, period = match[1] or "0", match[2], match[3]
  top = int(whole + start + period) - int(whole + start)
  return rf"\frac{{{top}}}{{{(10 ** len(period) - 1) * 10 ** len(start)}}}"
