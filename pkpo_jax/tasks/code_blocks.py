"""Finds the program in an answer, by its lines alone.

Nothing is parsed here: the parser is native code, and this process must not
feed it what nobody has read. What is found is run with indulgence
(`sandbox.Answer`), so that prose behind it does no harm.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

_PYTHON_TAGS = {"", "python", "py", "ipython", "pycon"}
# The language of a tag: `python` of python3.9, {.python} and python:file.py.
_LANGUAGE = re.compile(r"[{.\s]*+([^\W\d_]*)")
_FENCE = re.compile(r"(?<![`~])(`{3,}+|~{3,}+)([^`~]*+)$")
# What stands before a line, with signs that Python does not take there.
_INDENT = re.compile(
  r"^[ \t]*+(?:[^\S\n\r\f]|[\u200b\u2060\ufeff])++", re.MULTILINE
)
_ZERO_WIDTH = re.compile(r"[\u200b\u2060\ufeff]")
_PROMPT = re.compile(r"(?:>>>|\.\.\.)(?: |$)")
_BEGIN, _END = "[BEGIN]", "[DONE]"
_QUOTES = re.compile(r"\"{3}|'{3}")
# Nothing but these may stand before a fence that opens a block of any kind.
_MARGIN = " \t*-+.)0123456789"
_CODE_LINE = re.compile(
  r"^(?:@\w|(?:async +)?def +\w+ *[(\[]|class +\w+ *[:(\[]"
  r"|import +[\w.]+(?: *, *[\w.]+| +as +\w+)* *(?:#.*)?$"
  r"|from +[\w.]+ +import\b)",
  re.MULTILINE,
)
# What may stand between prose and the first definition, and belong to it.
_CONSTANT = re.compile(r"\s*(?:#.*|\w+ *(?::[^=]+)?=(?!=).*)?")
_NO_BODY = re.compile(r"(?:\.\.\.|pass|raise +NotImplementedError.*)?")
_DOCSTRING = re.compile(
  r"""[rRuU]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')""", re.S
)

_LONGEST_SIGNATURE = 5000

# How sure it is that a block is the solution: it has a definition with a body,
# or a stub, an import or an assignment.
DEFINES, MENTIONS, NOTHING = 2, 1, 0


class Block(NamedTuple):
  """A fenced block of an answer; its tag is "" for Python or for none."""

  code: str
  is_closed: bool
  tag: str = ""


def find(text: str, name: str) -> tuple[str, ...] | None:
  """The program of an answer that defines a name.

  It is the last block that defines it with a body, else one that mentions it,
  else the text without fences. A block that the answer's end cuts short is less
  trusted, and least one with the tag of something else, which must define it.

  Returns:
    earlier blocks without a version of it, which it may need, and the program;
    None if there is none.
  """
  text = cleaned(text)
  blocks = list(fenced_blocks(text))
  ranks = [
    (strength(block.code, name), not block.tag, block.is_closed, i)
    for i, block in enumerate(blocks)
  ]
  usable = [r for r in ranks if r[0] == DEFINES or (r[0] and r[1])]
  if usable:
    *_, best = max(usable)
    parts = (
      block.code
      for block, (rank, *_) in zip(blocks[:best], ranks)
      if rank == NOTHING and block.tag in ("", blocks[best].tag)
    )
    return *parts, blocks[best].code
  bare = without_prose(before_fences(text))
  return (bare,) if strength(bare, name) else None


def cleaned(text: str) -> str:
  """Text with \\n at the ends of its lines, and indents that Python takes.

  A byte order mark goes, and what else has no width; other blanks become one.
  """
  return _INDENT.sub(_plain, text.replace("\r\n", "\n"))


def _plain(indent: re.Match) -> str:
  return re.sub(r"[^\t]", " ", _ZERO_WIDTH.sub("", indent[0]))


def fenced_blocks(text: str) -> Iterator[Block]:
  """The blocks in their order, without their common margin and `>>>`.

  A fence may be longer than three signs, stand behind words or close behind
  the last line of code; one in a docstring is part of it.
  """
  fence, tag, lines = "", "", list[str]()
  in_docstring = ""
  for line in text.split("\n"):
    mark = _mark(line)
    if not fence:
      fence, tag = _opening(line, mark)
      lines, in_docstring = [], ""
    elif not in_docstring and _closes(mark, fence):
      before, now = mark
      if before.strip():
        lines.append(before)
      yield _block(lines, tag, is_closed=True)
      fence, tag = (now[0], now[1]) if now[1] else ("", "")
      lines = []
    else:
      lines.append(line)
      in_docstring = _docstring_after(line, in_docstring)
  if fence:
    yield _block(lines, tag, is_closed=False)


def before_fences(text: str) -> str:
  """All of an answer without fences; else what comes before the first."""
  for mark in ("```", "~~~", _END):
    text = text.partition(mark)[0]
  return text


def without_prose(text: str) -> str:
  """Text from its first line of code on; all of it if it has none."""
  bare = textwrap.dedent(text).lstrip(" \t\n")
  found = _CODE_LINE.search(bare)
  if not found:
    return bare
  before = bare[: found.start()].split("\n")[:-1]
  while before and _CONSTANT.fullmatch(before[-1]):
    before.pop()
  return "\n".join(bare.split("\n")[len(before) :])


def strength(code: str, name: str) -> int:
  """How sure it is that code defines a name: DEFINES, MENTIONS or NOTHING."""
  name = re.escape(name)
  definition = re.compile(rf"^(?:async +def|def|class) +{name}\b", re.MULTILINE)
  # The last few: an answer may be one definition after another.
  for found in list(definition.finditer(code))[-3:]:
    if not _is_stub(code[found.end() :]):
      return DEFINES
  mention = re.compile(
    rf"^[ \t]*(?:async +def|def|class) +{name}\b"
    rf"|^{name} *(?::[^=\n]+)?=(?!=)|^(?:from|import)\b.*\b{name}\b",
    re.MULTILINE,
  )
  return MENTIONS if mention.search(code) else NOTHING


def _mark(line: str) -> tuple[str, tuple[str, str]]:
  """What stands before a fence at the end of a line; the fence and its tag."""
  if (stripped := line.strip()) in (_BEGIN, _END):
    return "", (stripped, "")
  if (found := _FENCE.search(line)) is None:
    return line, ("", "")
  language = _LANGUAGE.match(found[2].lower())
  return line[: found.start()], (found[1], language[1] if language else "")


def _opening(line: str, mark: tuple[str, tuple[str, str]]) -> tuple[str, str]:
  """The fence that a line opens, and its tag; ("", "") if it opens none."""
  before, (fence, tag) = mark
  if not fence or fence == _END:
    return "", ""
  if before.strip(_MARGIN) and (not tag or tag not in _PYTHON_TAGS):
    return "", ""
  return fence, tag


def _closes(mark: tuple[str, tuple[str, str]], fence: str) -> bool:
  """Whether a line closes the block, or opens the next with a tag."""
  before, (now, tag) = mark
  if fence == _BEGIN:
    return now == _END
  if tag and before.strip(_MARGIN):
    return False
  return now.startswith(fence)


def _docstring_after(line: str, quotes: str) -> str:
  """The quotes of the docstring that is open behind a line, or ""."""
  for found in _QUOTES.findall(line):
    quotes = {found: "", "": found}.get(quotes, quotes)
  return quotes


def _block(lines: list[str], tag: str, *, is_closed: bool) -> Block:
  code = textwrap.dedent("\n".join((*lines, "")))
  if code.lstrip().startswith(">>> "):  # a session; it has what it printed, too
    typed = [line for line in code.split("\n") if _PROMPT.match(line)]
    code = "\n".join([line[4:] for line in typed] + [""])
  return Block(code, is_closed, "" if tag in _PYTHON_TAGS else tag)


def _is_stub(rest: str) -> bool:
  """Whether there is no body, from what follows a definition's name."""
  depth, body = 0, ""
  for at, sign in enumerate(rest[:_LONGEST_SIGNATURE]):
    depth += (sign in "([{") - (sign in ")]}")
    if sign == ":" and depth == 0:
      body = rest[at + 1 :]
      break
  end = re.search(r"^[^\s#]", body, re.MULTILINE)
  body = body[: end.start()] if end else body
  body = re.sub(r"^\s*#.*|\s#.*", "", body, flags=re.MULTILINE).strip()
  if found := _DOCSTRING.match(body):
    body = body[found.end() :].strip()
  return _NO_BODY.fullmatch(body) is not None
