r"""Finds the final answer in a completion: text into text, no mathematics.

The final answer is the content of the last \boxed{...}; without a box, what
follows the last #### that is no heading; without that, what follows the last
"answer is", "answer:" or heading "Answer". What a completion says after it has
asked itself another question is not read.
"""

import re

from pkpo_jax.tasks.grading.latex import units
from pkpo_jax.tasks.grading.latex.spelling import MAX_CHARACTERS

# Both a backslash and a doubled one, as JSON and Python write it, open a box.
_BRACES = re.compile(
  r"(?P<box>\\{1,4}(?:boxed|fbox)\s*\{)|\\.|[{}]",
  re.DOTALL,
)
_BARE_BOX = re.compile(r"\\{1,4}(?:boxed|fbox)(?:\s+([^\s{$][^$\n]*)|(\d+))")
_NEXT_QUESTION = re.compile(
  r"\n[ \t>*#]*(?:Question|Problem|Exercise|Example|Q|Human|User|Instruction)"
  r"[ \t]*\d*[ \t]*(?:\*\*)?[:.)]",
)
_ASIDE = r"(?:[\s*]*\([^()\n]{0,80}\))?"
_TO_WHAT = (
  r"(?:,?\s+(?:to|for|in|of|as|at|on|with|from|by|we|you|I|that|which|rounded"
  r"|expressed|written|given|after|when|here|choice|option|value)\b"
  r"[^.:=?!\n]{0,80}?)?"
)
_IS = (
  r"(?:\s+(?:is|are|was|equals|becomes|(?:will|would|should|must)\s+be)\b"
  r"(?:\s+(?:therefore|thus|simply|just|then|also|hence|indeed|now|equal\s+to)"
  r"\b)*(?:\s*\**\s*[:=])?|\s*\**\s*[:=])"
)
_STATED = re.compile(
  # To answer, and we will answer, is something else.
  r"(?P<verb>\b(?:to|will|can|could|must|should|we|you|please|now)\s+)?"
  rf"\banswers?\b{_ASIDE}{_TO_WHAT}{_ASIDE}{_IS}"
  r"|^[#*_>\s]*(?:the\s+)?(?:final\s+|correct\s+)?answer[*_ \t]*(?=\n)"
  r"|^[#*_>\s]*(?:the\s+)?(?:final\s+|correct\s+)?answer[*_ \t]+(?=[-\d$\\])",
  re.IGNORECASE | re.MULTILINE,
)
_HASHES = re.compile("#{4,}")
_DISPLAY = re.compile(r"(?:\$\$|\\{1,2}\[)(.*?)(?:\$\$|\\{1,2}\])", re.DOTALL)
_SENTENCE_END = re.compile(r"[.?](?:\$|\\{1,2}[)\]]|\*)*(?:\s|$)")
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=[\d$\\])")
_EXCLAMATION = re.compile(r"(?<=\w)!+[* ]*$")
_CLAUSE = re.compile(
  r",\s+(?:so|because|since|which|therefore|thus|hence|as)\b(?P<rest>.*)$"
)


def final_answer(text: str) -> str | None:
  """Finds the final answer of a completion; None if there is none.

  If there are several boxes, the last one counts, and if that one was never
  closed, there is no answer. A box in a box counts as its content.
  """
  start = 0
  for cut in (*_NEXT_QUESTION.finditer(text), None):
    found = _in_part(text[start : cut.start() if cut else len(text)])
    if found is not None:
      return found.strip() or None
    start = cut.start() if cut else start
  return None


def _in_part(text: str) -> str | None:
  """Finds the answer of a text with one question; "" for a broken one."""
  found = boxed(text)
  if found is None:
    found = _after_hashes(text, headings=False)
  if found is None:
    found = _last_stated(text)
  if found is None:
    found = _after_hashes(text, headings=True)
  return found


def boxed(text: str) -> str | None:
  r"""Content of the last \boxed{...}, "" if unclosed; None without a box."""
  box = _last_box(text)
  if box is None and (bare := _BARE_BOX.findall(text)):
    return "".join(bare[-1])
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
    return _last_box(found) if len(found) <= MAX_CHARACTERS else found
  return found


def _after_hashes(text: str, *, headings: bool) -> str | None:
  """Rest of the line after the last #### that is a heading, or that is none.

  A heading begins with a word, and more text follows it.
  """
  end = len(text.rstrip())
  for mark in reversed([*_HASHES.finditer(text)]):
    line = text[mark.end() :].partition("\n")[0]
    below = mark.end() + len(line) < end
    is_heading = bool(re.match(r"[\s*:]*[A-Za-z]{2}", line)) and below
    if is_heading == headings:
      stated = None if is_heading else _last_stated(line)
      rest = text[mark.end() : mark.end() + 4 * MAX_CHARACTERS]
      return stated or _sentence(rest)
  return None


def _last_stated(text: str) -> str | None:
  """The sentence after the last "answer is", "answer:" or heading."""
  last = None
  for match in _STATED.finditer(text):
    if not match.groupdict()["verb"]:
      last = match
  return None if last is None else _sentence(text[last.end() :])


def _sentence(text: str) -> str:
  """The first sentence of a text, which may begin on a later line."""
  text = text.lstrip(" \t\r\n*_:`")[: 2 * MAX_CHARACTERS]
  if display := _DISPLAY.match(text):
    return display[1].strip()
  line = text.partition("\n")[0].strip(" *_`")
  line = _SENTENCE_END.split(line)[0]
  line = _ARTICLE.sub("", line)
  line = _EXCLAMATION.sub("", line).strip(" *_`")
  clause = _CLAUSE.search(line)
  if clause and not units.changes_a_number(clause["rest"]):
    line = line[: clause.start()]
  return line
