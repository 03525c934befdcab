r"""Checks references when they are loaded: could any answer equal them?

A reference that cannot be read makes its problem worth 0 for ever. Most are
read by patterns alone, in no time; the rest go through the parser of answers.
"""

import logging
import re
from collections.abc import Iterable

from pkpo_jax.tasks.grading.latex import parse, units, values
from pkpo_jax.tasks.grading.latex.parse import Leaf, Node
from pkpo_jax.tasks.grading.latex.spelling import UnfitError, clean, fit

_log = logging.getLogger(__name__)
_MAX_WORDS = 12
# What people write where they have no answer.
_PLACEHOLDER = re.compile(
  r"(?:see|refer to)\b.*|n/?a|nan|null|tbd|todo|proof\b.*|\?+|-+|\.+",
  re.IGNORECASE,
)
# Formulas that the parser is known to read: letters, numbers, a few commands.
_PLAIN = re.compile(
  r"(?:[\d.]+|[a-zA-Z](?![a-zA-Z]{2})|\\(?:frac|sqrt|pi|theta|alpha|beta)\b"
  r"|\^|[{}()]|\s|\\cdot\b|(?<=[\w)}])\s*[-+]\s*(?=[\w\\(])|^-)+"
)


def check(
  references: Iterable[tuple[str, str]], *, tolerated: float = 0.0
) -> None:
  """Looks for references that no answer could equal.

  Args:
    references: (where it stands, reference) of each problem.
    tolerated: the fraction of such references that is only logged.

  Raises:
    ValueError: there are more.
  """
  failed, total = [], 0
  for where, gold in references:
    total += 1
    if reason := problem_with(gold):
      failed.append((where, gold, reason))
  if not failed:
    return
  more = f" {len(failed)} of {total} references are so."
  message = refusal(*failed[0]) + more
  if len(failed) > tolerated * total:
    raise ValueError(message)
  _log.warning(message)


def refusal(where: str, gold: str, reason: str) -> str:
  """What to say about a reference that cannot be used."""
  return (
    f"{where}: the math grader cannot use the answer {gold[:80]!r} ({reason});"
    " it must be one final answer in ASCII, or a solution that ends in"
    " \\boxed{...} or in #### and the answer."
  )


def problem_with(gold: str) -> str:
  """Says why no answer could equal a reference; "" if one could."""
  try:
    if not clean(gold):
      return "no answer"
    if _PLACEHOLDER.fullmatch(gold.strip()):
      return "no answer"
    if len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\\w+", "", gold))) > (
      _MAX_WORDS
    ):
      return "too many words"
    _read(parse.parse(fit(gold)))
  except UnfitError as error:
    return str(error)
  return ""


def _read(node: Node) -> None:
  """Reads every leaf as it is read when an answer is graded."""
  if not isinstance(node, Leaf):
    for part in node.parts:
      _read(part)
    return
  text = units.split(node.text).value
  if not text:
    raise UnfitError("unreadable")
  if (
    values.literal(text)
    or values.is_text(node.text)
    or ":" in text
    or values.has_base(text)
    or _PLAIN.fullmatch(text)
  ):
    return
  # Only now: it takes a second to import, and most references do without.
  from pkpo_jax.tasks.grading.latex import convert

  try:
    convert.to_sympy(text)
  except UnfitError:
    raise
  except Exception as error:  # Of sympy and its parser.
    raise UnfitError(f"unreadable: {type(error).__name__}") from error
