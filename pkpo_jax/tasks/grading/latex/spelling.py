r"""Rewrites LaTeX that can be spelled in many ways into one spelling.

Text into text: nothing here knows mathematics. Untrusted text is refused where
it could keep a parser busy.
"""

import re

# The longest reference answers of MATH have about 160 characters.
MAX_CHARACTERS = 500
_MAX_DEPTH = 20
_MAX_DIGITS = 200


class UnfitError(ValueError):
  """Refusal of an answer that cannot be judged; the message says why."""


_SYMBOLS = {
  "\u2212": "-",
  "\u2010": "-",
  "\u2011": "-",
  "\u2012": "-",
  "\u2013": "-",
  "\u00d7": r"\times ",
  "\u00f7": r"\div ",
  "\u00b7": r"\cdot ",
  "\u22c5": r"\cdot ",
  "\u03c0": r"\pi ",
  "\u221e": r"\infty ",
  "\u00b0": r"^\circ ",
  "\u00b1": r"\pm ",
  "\u2264": r"\le ",
  "\u2265": r"\ge ",
  "\u2260": r"\ne ",
  "\u2261": r"\equiv ",
  "\u2248": r"\approx ",
  "\u222a": r"\cup ",
  "\u2229": r"\cap ",
  "\u2208": r"\in ",
  "\u211d": r"\mathbb{R} ",
  "\u2205": r"\emptyset ",
  "\u03b8": r"\theta ",
  "\u00b2": "^2",
  "\u00b3": "^3",
  "\u20ac": r"\$",
  "\u00a3": r"\$",
  "\u00a2": r"\text{ cents}",
  "\u00a0": " ",
  "\u2009": " ",
  "\u202f": " ",
  "\u2019": "'",
  "\u201c": '"',
  "\u201d": '"',
  "\u00bd": r"\frac{1}{2}",
  "\u2153": r"\frac{1}{3}",
  "\u2154": r"\frac{2}{3}",
  "\u00bc": r"\frac{1}{4}",
  "\u00be": r"\frac{3}{4}",
  "\u2155": r"\frac{1}{5}",
  "\u215b": r"\frac{1}{8}",
  "\u215c": r"\frac{3}{8}",
  "\u215d": r"\frac{5}{8}",
  "\u215e": r"\frac{7}{8}",
}
_SYMBOLS |= {chr(ord(c) + 0xFEE0): c for c in "0123456789()[]+-=<>,.;:/%"}
_INVISIBLE = "\u200b\u200c\u200d\u200e\u2060\ufeff"
_AT_THE_END = re.compile(rf"[{_INVISIBLE}\u3002]+(?=[\s$.}}]*$)")
_ROOT = re.compile("\u221a\\s*(?:\\(([^()]*)\\)|(\\d+|[A-Za-z])|(?=\\{))")
_FUNCTIONS = (
  "ln|log|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|exp"
)

# Applied in this order.
_REWRITES = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r"\\\\", r"\\cr "),  # First, so that \\ 2 is not read as "\ 2".
    (r"(?<=\d),\\!\s*(?=\d{3})|(?<=\d)\{,\}\s*(?=\d{3})", ","),
    (
      r"\\(?:left|right|middle|displaystyle|limits|textstyle|[bB]igg?[lr]?)"
      r"(?![A-Za-z])",
      "",
    ),
    (r"\\[,:!()\[\]]|\\;", ""),
    (r"\\?\$", ""),
    (r"\\(?:text)?color\s*\{[^{}]*\}|\\underline(?=\s*\{)", " "),
    (r"\\q?quad(?![A-Za-z])|\\ |~", " "),
    (r"\{,\}", ","),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
    (
      r"\\(?:operatorname\*?|mathrm|text|textrm|mbox)\s*\{\s*"
      rf"({_FUNCTIONS})\s*\}}",
      r"\\\1 ",
    ),
    (r"\\mathrm\s*\{\s*([ei]|\\pi\s*)\s*\}", r"\1 "),
    (r"\\(?:mathbf|boldsymbol|bm)\s*\{\s*([-\d.,]+)\s*\}", r"\1"),
    (
      r"^\s*\\(?:mathbf|boldsymbol|bm)\s*\{\s*(\(?[A-H]\)?)\s*\}\s*$",
      r"\1",
    ),
    (r"\\(?:mbox|textbf|textit|textrm|textnormal|mathrm)\s*\{", r"\\text{"),
    (
      r"(?<=\d)\s*(?:\^\s*)?\{?\s*(?:\^\s*)?(?:\\text\s*\{\s*)?\b"
      r"(?:(?<=1)st|(?<=2)nd|(?<=3)rd|th|st|nd|rd)\b\s*\}?\}?",
      "",
    ),
    (r"(?<=\d)th(?![A-Za-z])|(?<=1)st\b|(?<=2)nd\b|(?<=3)rd\b", ""),
    (
      r"^\s*\\text\s*\{\s*([-+]?[\d.,]*\d)\s*(\\?%)?\s*\}\s*$",
      r"\1\2",
    ),
    (
      r"^\s*\\text\s*\{\s*([-+]?[\d.,]*\d)(\s+[A-Za-z][^{}\d\\]*)\}\s*$",
      r"\1\\text{\2}",
    ),
    (r"\\lbrace(?![A-Za-z])", r"\\{"),
    (r"\\rbrace(?![A-Za-z])", r"\\}"),
    (r"\\langle(?![A-Za-z])", "("),
    (r"\\rangle(?![A-Za-z])", ")"),
    (r"\\(?:[lr]?vert|mid)(?![A-Za-z])", "|"),
    (r"\\leq(?:slant)?(?![A-Za-z])|<=", r"\\le "),
    (r"\\geq(?:slant)?(?![A-Za-z])|>=", r"\\ge "),
    (r"\\lt(?![A-Za-z])", "<"),
    (r"\\gt(?![A-Za-z])", ">"),
    (r"\\neq(?![A-Za-z])|!=", r"\\ne "),
    (
      r"\\(?:varnothing|O)(?![A-Za-z])",
      r"\\emptyset ",
    ),
    (r"\\R(?![A-Za-z])", r"\\mathbb{R}"),
    (r"\\mathbb\s*([A-Z])(?![A-Za-z])", r"\\mathbb{\1}"),
    (r"(?<![\\{])\{\{([^{}]*)(?<!\\)\}\}(?!\})", r"{\1}"),
    (
      r"(?<!\\)\{([^{}]+)\\over(?![A-Za-z])([^{}]+)(?<!\\)\}",
      r"{\\frac{\1}{\2}}",
    ),
    (r"\\vee(?![A-Za-z])", r"\\lor "),
    (r"\\text\s*\{\s*(?:,\s*)?or\s*\}", r"\\lor "),
    (r"\\text\s*\{\s*(?:,\s*)?and\s*\}", r"\\land "),
    (r",?\s*(?<![A-Za-z\\])or(?![A-Za-z])", r" \\lor "),
    (
      # Ranges; 3--2x is a sum.
      r"^\s*(\d[\d.]*)\s*(?:\\text\s*\{\s*(?:to|--?)\s*\}|to\b|--)\s*"
      r"(\d[\d.]*)(?=\s*(?:\\text|$)|\s+[a-z]{3})",
      r"\1-\2",
    ),
    (r"(\d+) dollars? and (\d\d) cents?\b", r"\1.\2 dollars"),
    (
      r",?\s*(?<![A-Za-z\\])(?<!hundred )(?<!thousand )and(?![A-Za-z])",
      r" \\land ",
    ),
    (r";", ","),
    (r",(?:\s*,)+", ","),
    (r"\s+", " "),
  )
)
_THOUSANDS = re.compile(
  r"(?<![\d.,])(?<!\d )\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?![\d,]| \d)"
)
_DOUBLED = re.compile(r"\\\\+(?=[A-Za-z]{2}|[{}%$,;:!()\[\]])")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1}


def clean(text: str) -> str:
  """Rewrites what LaTeX can spell in many ways into one spelling."""
  text = _AT_THE_END.sub("", _halve(text)).lstrip(_INVISIBLE)
  text = _ROOT.sub(_root, text)
  for character, replacement in _SYMBOLS.items():
    text = text.replace(character, replacement)
  for pattern, replacement in _REWRITES:
    text = pattern.sub(replacement, text)
  text = _braced(text).strip()
  if len(text) > 1 and text[0] == text[-1] == '"':
    text = text[1:-1]
  text = text.rstrip(".").strip()
  if not text.startswith(("(", "[", r"\{")):  # (1,234) is a pair.
    text = _THOUSANDS.sub(lambda match: re.sub("[, ]", "", match[0]), text)
  return text


_FORMULA = re.compile(
  r"\$\$(.+?)\$\$|\$([^$]+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL
)
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s+(?:[A-Za-z]{2,}|a)\b")


def formulas(text: str) -> tuple[list[str], str]:
  """Splits a text into its formulas and its prose, with ; for formulas.

  What stands between two amounts of dollars is no formula.
  """
  found, rest, start = [], [], 0
  text = text.replace("\\$", " ")
  while match := _FORMULA.search(text, start):
    formula = next(group for group in match.groups() if group is not None)
    end = match.end()
    if match[2] is not None and _PROSE.search(formula):
      end = match.start() + 1
      rest.append(text[start : match.start()] + " $")
    else:
      found.append(formula)
      rest.append(text[start : match.start()] + " ; ")
    start = end
  return found, "".join(rest) + text[start:]


def _halve(text: str) -> str:
  r"""Undoes doubled backslashes: \\frac -> \frac; rows of matrices stay."""
  if r"\\begin" in text:  # All are doubled, and rows end in four.
    return text.replace("\\\\", "\\")
  if r"\begin" in text:
    return text
  return _DOUBLED.sub(lambda match: "\\", text)


def _root(match: re.Match[str]) -> str:
  """Writes a root sign as a command."""
  inside = match[1] or match[2]
  return rf"\sqrt{{{inside}}}" if inside else r"\sqrt"


def _braced(text: str) -> str:
  r"""Puts braces around bare arguments: \frac\pi4 -> \frac{\pi}{4}."""
  if not any(command in text for command in _ARGUMENTS):
    return text
  pieces: list[str] = []
  wanted, optional = 0, 0
  depths: list[int] = []  # Arguments still wanted behind each open brace.
  for token in _TOKEN.findall(text):
    if optional:
      optional += (token == "[") - (token == "]")
    elif token == "[" and pieces and pieces[-1] == r"\sqrt":
      optional = 1
    elif wanted and token == " ":
      continue
    elif token == "{":
      depths.append(max(0, wanted - 1))
      wanted = 0
    elif token == "}":
      wanted = depths.pop() if depths else 0
    elif wanted and token not in _ARGUMENTS and re.match(r"\w|\\\w", token):
      token, wanted = f"{{{token.strip()}}}", wanted - 1
    elif token in _ARGUMENTS:
      wanted = _ARGUMENTS[token]
    else:
      wanted = 0
    pieces.append(token)
  return "".join(pieces)


def fit(text: str) -> str:
  """Cleans an untrusted text, or refuses it.

  Raises:
    UnfitError: the text could keep a parser busy, or it is not printable.
  """
  if len(text) > MAX_CHARACTERS:
    raise UnfitError("too long")
  text = clean(text)
  if not (text.isascii() and text.isprintable()):
    raise UnfitError("unreadable")
  if any(len(digits) > _MAX_DIGITS for digits in re.findall(r"\d+", text)):
    raise UnfitError("too many digits")
  depth = 0
  for character in text:
    depth += (character in "{[(") - (character in "}])")
    if depth > _MAX_DEPTH:
      raise UnfitError("too deep")
  return text


def skeleton(text: str) -> str:
  """Drops blanks and needless braces, so that texts can be compared."""
  text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
  # A blank between digits stays: 4 2 is not 42.
  text = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)
  return re.sub(r"(?<=[\^_])\{(.)\}", r"\1", text)
