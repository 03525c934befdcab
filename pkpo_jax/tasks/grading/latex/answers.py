r"""Finds the final answer in a completion, and cleans up its LaTeX.

Everything here turns text into text and knows no mathematics. The final answer
is the content of the last \boxed{...}; without a box, what follows the last
####; without that, what follows the last "answer is" or "answer:".
"""

import re

# The longest reference answers of MATH have about 160 characters.
_MAX_CHARACTERS = 500
_MAX_DEPTH = 20
_MAX_DIGITS = 200


class UnfitError(ValueError):
  """Refusal of an answer that cannot be judged; the message says why."""


_BRACES = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s+([^\s{$][^$\n]*)")
_STATED = re.compile(r"\banswer\b(?:\s+is\b)?(?:\**\s*[:=])?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)")


def final_answer(text: str) -> str | None:
  """Finds the final answer of a completion; None if there is none.

  If there are several boxes, the last one counts, and if that one was never
  closed, there is no answer. A box in a box counts as its content.
  """
  box = boxed(text)
  if box is None:
    box = _after_hashes(text)
  if box is None:
    box = _last_stated(text)
  return (box or "").strip() or None


def boxed(text: str) -> str | None:
  r"""Content of the last \boxed{...}, "" if unclosed; None without a box."""
  box = _last_box(text)
  if box is None and (bare := _BARE_BOX.findall(text)):
    return bare[-1]
  return box


def _last_box(text: str) -> str | None:
  """Content of the last box with braces; "" if that box is never closed.

  One pass over the text, however deep the nesting; None without a box.
  """
  found, end, last_start = None, -1, -1
  stack: list[int] = []  # Where a box's content begins; -1: a mere brace.
  for match in _BRACES.finditer(text):
    if match["box"]:
      last_start = match.end()
      stack.append(last_start)
    elif match[0] == "{":
      stack.append(-1)
    elif match[0] == "}" and stack:
      start = stack.pop()
      if start >= 0:
        found, end = text[start : match.start()].strip(), match.end()
  if found is None:
    return None if last_start < 0 else ""
  if last_start > end:
    return ""
  inner = _BRACES.match(found)
  if inner and inner["box"] and found.endswith("}"):
    # Longer text is no answer, and unwrapping it could take hours.
    return _last_box(found) if len(found) <= _MAX_CHARACTERS else found
  return found


def _after_hashes(text: str) -> str | None:
  """Rest of the line after the last ####; None without a ####."""
  _, mark, rest = text.rpartition("####")
  return rest.partition("\n")[0] if mark else None


def _last_stated(text: str) -> str | None:
  """Rest of the sentence after the last "answer", "answer is" or "answer:"."""
  *_, last = (None, *_STATED.finditer(text))
  if last is None:
    return None
  line = text[last.end() :].partition("\n")[0].strip(" *")
  return _SENTENCE_END.split(line)[0].strip(" *")


_SYMBOLS = {
  "\u2212": "-",
  "\u2013": "-",
  "\u00d7": r"\times ",
  "\u00f7": r"\div ",
  "\u00b7": r"\cdot ",
  "\u03c0": r"\pi ",
  "\u221a": r"\sqrt ",
  "\u221e": r"\infty ",
  "\u00b0": r"^\circ ",
  "\u00b1": r"\pm ",
  "\u2264": r"\le ",
  "\u2265": r"\ge ",
  "\u2260": r"\ne ",
  "\u222a": r"\cup ",
  "\u2229": r"\cap ",
  "\u2208": r"\in ",
  "\u03b8": r"\theta ",
  "\u00b2": "^2",
  "\u00b3": "^3",
  "\u20ac": r"\$",
  "\u00a3": r"\$",
  "\u00a0": " ",
  "\u2009": " ",
}

# Applied in this order.
_REWRITES = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r"\\\\", r"\\cr "),  # First, so that \\ 2 is not read as "\ 2".
    (r"\\(?:left|right|displaystyle|limits)(?![A-Za-z])", ""),
    (r"\\[,:!$()\[\]]|\\;|\$", ""),
    (r"\\q?quad(?![A-Za-z])|\\ |~", " "),
    (r"\{,\}", ","),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\(?:mbox|textbf|textit|textrm|textnormal|mathrm)\s*\{", r"\\text{"),
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
    (r"\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}", ","),
    (r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])", ","),
    (r";", ","),
    (r",(?:\s*,)+", ","),
    (r"\s+", " "),
  )
)
_THOUSANDS = re.compile(
  r"(?<![\d.,])(?<!\d )\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?![\d,]| \d)"
)


def clean(text: str) -> str:
  """Rewrites what LaTeX can spell in many ways into one spelling."""
  for character, replacement in _SYMBOLS.items():
    text = text.replace(character, replacement)
  for pattern, replacement in _REWRITES:
    text = pattern.sub(replacement, text)
  text = text.strip().rstrip(".").strip()
  if not text.startswith(("(", "[", r"\{")):  # (1,234) is a pair.
    text = _THOUSANDS.sub(lambda match: re.sub("[, ]", "", match[0]), text)
  return text


def fit(text: str) -> str:
  """Cleans an untrusted text, or refuses it.

  Raises:
    UnfitError: the text could keep a parser busy, or it is not printable.
  """
  if len(text) > _MAX_CHARACTERS:
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
