r"""Parses the LaTeX of a final answer into a tree whose leaves have one value.

Groups are lists, sets, intervals and matrices; relations are equations and
inequalities. The text has been through `spelling.clean`. No value is computed
here: `equality` does that, leaf by leaf.
"""

import dataclasses
import itertools
import re

from pkpo_jax.tasks.grading.latex.spelling import UnfitError


@dataclasses.dataclass(frozen=True)
class Leaf:
  """LaTeX that stands for one value."""

  text: str


@dataclasses.dataclass(frozen=True)
class Group:
  """Several parts that belong together.

  Attributes:
    kind: "list"; "either" and "both", lists with "or" and inequalities with
      "and"; "set"; "union"; "matrix", whose parts are rows; "row"; "scaled", a
      number and a matrix; "choice", a letter and what it stands for; "all but",
      numbers that are left out; "modulo", a number and its modulus; or the
      brackets: "()", "(]", "[)", "[]".
    parts: the parts, in their order in the text.
  """

  kind: str
  parts: tuple["Node", ...]


@dataclasses.dataclass(frozen=True)
class Relation:
  """Equation, inequality or chain of them: a = b, a < b <= c and so on.

  Attributes:
    parts: at least two.
    operators: one between each two neighbouring parts.
    name: the LaTeX of the first part if it only names the rest, else "".
  """

  parts: tuple["Node", ...]
  operators: tuple[str, ...]
  name: str = ""

  def is_equation(self) -> bool:
    """Tells whether all operators are =."""
    return set(self.operators) == {"="}

  def is_chain_of_values(self) -> bool:
    """Tells whether it has no variable to solve for, such as 2 + 3 = 5."""
    texts = [part.text for part in self.parts if isinstance(part, Leaf)]
    return not any(re.search(r"(?<![\\A-Za-z])[A-Za-z]", t) for t in texts)

  def values(self) -> tuple["Node", ...]:
    """Returns the parts without the name."""
    return self.parts[1:] if self.name else self.parts

  def upward(self) -> "Relation":
    r"""Turns a > b \ge c into c \le b < a; leaves other relations alone."""
    mirror = {">": "<", r"\ge": r"\le"}
    if not set(self.operators) <= set(mirror):
      return self
    operators = tuple(mirror[op] for op in reversed(self.operators))
    return Relation(self.parts[::-1], operators)


Node = Leaf | Group | Relation

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPEN, _CLOSE = ("(", "[", "{", r"\{"), (")", "]", "}", r"\}")
RELATIONS = ("=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx")
_MATRIX = re.compile(
  r"\\begin\{(?:[pbB]?matrix|array)\}(?:\{[lcr|]*\})?"
  r"((?:(?!\\begin).)*)\\end\{(?:[pbB]?matrix|array)\}"
)
_LETTER = r"(?:\\?[A-Za-z]+|\\text\{[^{}]*\}|\\(?:vec|mathbf|bm)\{\w+\})"
_INDEX = r"(?:_\w|_\{\w+\})?(?:\^\{-1\})?"
_NAME = re.compile(
  rf"{_LETTER}{_INDEX}(?:\([-\w.,\s\\{{}}]*\))?"  # f(x), f(2), P(A \cap B)
  r"|m?\s*\\angle\s*[A-Z]{1,3}|\\overline\{[A-Z]{2}\}|\|[A-Z]{2}\||\[[A-Z]{3,}\]"
  r"|\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\(?[A-Za-z]\)?|\\[a-z]+|\\angle\s*[A-Z]+)"
  r"|\((?:\s*[A-Za-z]\s*,)+\s*[A-Za-z]\s*\)"
)
_INDEXED = re.compile(r"(\\?[A-Za-z]+)_\{?(\d)\}?")
_CONGRUENCE = re.compile(
  rf"(?:(?:{_LETTER}|(?P<left>\d+))\s*\\equiv\s*)?(?P<value>\d+)\s*"
  r"(?:\\pmod\s*\{?\s*|\(\s*\\?b?mod\s*\{?|\\text\s*\{\s*\(mod\s*\}?\s*)"
  r"(?P<modulus>\d+)\s*[})]*"
)
_CHOICE = re.compile(
  r"(?:\\text\s*\{\s*\(?(?P<a>[A-H])\)?[.:]?\s*\}|\((?P<b>[A-H])\))"
  r"\s*[:.=]?\s*(?P<value>[^\s,].*)"
)
_OPTION = re.compile(
  r"(?P<text>\\text\s*\{\s*)?(?:option|choice)\s+(?=\(?[A-H]\b)", re.IGNORECASE
)
_CHOICE_IN_WORDS = re.compile(
  r"(?:(?P<a>[A-H])(?:\)\s*|\.\s+|:\s*(?=[A-Za-z]{2}|\\text))"
  r"|\((?P<b>[A-H])\)\s*(?=[^\s,]))(?P<value>.*)"
)
# (C) and Paris make a choice; C) or D), and C) is wrong, do not.
_UNDECIDED = re.compile(
  r"\\l(?:or|and)\b|(?<![A-Za-z\\])(?:[A-H]|(?i:or|and|not|no|is|nor|but"
  r"|wrong|incorrect|false|maybe|perhaps|possibly))(?![A-Za-z])"
)
_BUILDER = re.compile(
  r"\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\{?R\}?)?\s*[:|]\s*(.+)"
)
_REALS = re.compile(
  r"(?:[a-z] (?:is|can be) )?(?:all|any) real (?:numbers?|values?)"
)
_ALL_BUT = re.compile(
  r"\\mathbb\s*\{?R\}?\s*(?:\\setminus|\\backslash|-)\s*"
  r"\\\{(?P<numbers>.*)\\\}"
)
_SCALED = re.compile(
  r"(?P<factor>[^&=]*?)(?P<matrix>\\begin\{[pbB]?matrix\}.*)"
)
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])")


def commands(text: str) -> frozenset[str]:
  r"""Finds the \commands in a text."""
  return frozenset(re.findall(r"\\[A-Za-z]+", text))


def parse(text: str) -> Node:
  """Parses an answer.

  Raises:
    UnfitError: brackets do not match, or a side of a relation is empty.
  """
  text = text.strip()
  if match := re.fullmatch(r"\\text\s*\{([^{}]*,[^{}]*)\}", text):
    text = match[1]
  if match := _OPTION.match(text):
    text = (match["text"] or "") + text[match.end() :]
  if match := _MATRIX.fullmatch(text):
    return _matrix(match[1])
  if (special := _special(text)) is not None:
    return special
  parts, separators = split(text, (",", r"\lor", r"\land"))
  if len(parts) > 1:
    return _listed(parts, {*separators})
  if (inside := _inside(text)) is not None:
    return _bracketed(text, inside)
  parts, operators = split(text, (r"\in",))
  if len(parts) == 2 and _NAME.fullmatch(parts[0]):
    return _relation(parts, operators)
  parts, _ = split(text, (r"\cup",))
  if len(parts) > 1:
    return Group("union", tuple(parse(part) for part in parts))
  parts, operators = split(text, RELATIONS)
  if operators:
    return _relation(parts, operators)
  signs = len(_PLUS_MINUS.findall(text))
  if signs in (1, 2):
    return Group("list", tuple(Leaf(t) for t in _choices(text, signs)))
  return Leaf(text)


def _special(text: str) -> Node | None:
  """Parses what has a form of its own: a congruence, a choice, a set."""
  match = _CONGRUENCE.fullmatch(text)
  if match and _is_reduced(*match.group("left", "value", "modulus")):
    return Group("modulo", (Leaf(match["value"]), Leaf(match["modulus"])))
  if match := _CHOICE.fullmatch(text):
    letter = match["a"] or match["b"]
    return Group("choice", (Leaf(letter), parse(match["value"])))
  if (choice := _choice_in_words(text)) is not None:
    return choice
  if _REALS.fullmatch(re.sub(r"\\text|[{}]", "", text).strip().lower()):
    return Leaf(r"\mathbb{R}")
  if match := _ALL_BUT.fullmatch(text):
    parts, _ = split(match["numbers"], (",",))
    return Group("all but", tuple(map(parse, parts)))
  match = _SCALED.fullmatch(text)
  if match and match["factor"].strip() and _MATRIX.fullmatch(match["matrix"]):
    factor = match["factor"].strip().removesuffix(r"\cdot")
    return Group("scaled", (parse(factor), parse(match["matrix"])))
  return None


def _choice_in_words(text: str) -> Node | None:
  r"""Parses C), C. Paris and \text{(C) Paris}."""
  inside = re.fullmatch(r"\\text\s*\{\s*([^{}]*?)\s*\}", text)
  match = _CHOICE_IN_WORDS.fullmatch(inside[1] if inside else text)
  if match is None or _UNDECIDED.search(match["value"]):
    return None
  letter = Leaf(match["a"] or match["b"])
  if not match["value"]:
    return letter
  return Group("choice", (letter, parse(match["value"])))


def _is_reduced(left: str | None, value: str, modulus: str) -> bool:
  """Tells whether a remainder is one, and that of the left side."""
  if int(value) >= int(modulus):
    return False
  return left is None or int(left) % int(modulus) == int(value)


def _listed(parts: list[str], separators: set[str]) -> Group:
  """Parses what stands between commas, or between "or" or "and"."""
  parts = [part for part in parts if part] if len(separators) > 1 else parts
  elements = _elements(parts)
  if separators == {r"\lor"}:
    return Group("either", elements)
  if separators == {r"\land"} and all(
    isinstance(x, Relation) and not x.is_equation() for x in elements
  ):
    return Group("both", elements)
  return Group("list", elements)


def split(
  text: str, separators: tuple[str, ...]
) -> tuple[list[str], list[str]]:
  """Splits at separators outside brackets: the pieces and the separators."""
  pieces, found, depth = [""], [], 0
  for token in _TOKEN.findall(text):
    depth += (token in _OPEN) - (token in _CLOSE)
    if depth < 0:
      break
    if depth == 0 and token in separators:
      found.append(token)
      pieces.append("")
    else:
      pieces[-1] += token
  if depth != 0:
    raise UnfitError("unbalanced")
  return [piece.strip() for piece in pieces], found


def _inside(text: str) -> str | None:
  """Content of the brackets if one pair is around the whole text, or None."""
  tokens = _TOKEN.findall(text)
  if len(tokens) < 2 or tokens[0] not in _OPEN or tokens[-1] not in _CLOSE:
    return None
  depth = 0
  for token in tokens[:-1]:
    depth += (token in _OPEN) - (token in _CLOSE)
    if depth == 0:
      return None
  return "".join(tokens[1:-1])


def _bracketed(text: str, inside: str) -> Node:
  """Parses a text in brackets, given also what they contain."""
  parts, commas = split(inside, (",",))
  brackets = text[0] + text[-1]
  if brackets == "[]" and _MATRIX.fullmatch(inside.strip()):
    return parse(inside)
  if brackets == r"\}" and (match := _BUILDER.fullmatch(inside)):
    return parse(match[1])
  if brackets == r"\}" or (brackets == "{}" and commas):
    elements = _elements([part for part in parts if part])
    return Group("set", tuple(dict.fromkeys(elements)))
  if brackets in ("()", "{}") and not commas:
    return parse(inside)
  return Group(brackets, tuple(parse(part) for part in parts))


def _matrix(body: str) -> Group:
  """Parses what stands between the begin and the end of a matrix."""
  rows = [row for row in re.split(r"\\cr(?![A-Za-z])", body) if row.strip()]
  return Group(
    "matrix",
    tuple(Group("row", tuple(map(parse, row.split("&")))) for row in rows),
  )


def _elements(texts: list[str]) -> tuple[Node, ...]:
  r"""Parses the elements of a list or a set; one with \pm becomes two."""
  nodes: list[Node] = []
  for text in texts:
    node = parse(text)
    if isinstance(node, Group) and node.kind in ("list", "either"):
      nodes.extend(node.parts)
    else:
      nodes.append(node)
  return _without_names(nodes)


def _without_names(elements: list[Node]) -> tuple[Node, ...]:
  """Drops a common name: x = 1, x = 2 and x = 1, 2 become 1, 2."""
  first = elements[0] if elements else None
  if not (isinstance(first, Relation) and first.name):
    return tuple(elements)
  values: list[Node] = []
  for element in elements:
    if not isinstance(element, Relation):
      values.append(element)
    elif element.name == first.name and len(element.parts) == 2:
      values.append(element.parts[1])
    else:
      return tuple(elements)
  return tuple(values)


def without_indices(group: Group) -> Group:
  """Reads x_1 = 1, x_2 = 2 as 1, 2; leaves all else alone."""
  found = {
    match.groups(): part.parts[1]
    for part in group.parts
    if isinstance(part, Relation) and len(part.parts) == 2
    if (match := _INDEXED.fullmatch(part.name))
  }
  letters = {letter for letter, _ in found}
  if len(letters) != 1 or len(found) != len(group.parts):
    return group
  return Group(group.kind, tuple(found.values()))


def _relation(parts: list[str], operators: list[str]) -> Node:
  """Parses the sides of a relation, and finds its name if it has one."""
  if not all(parts):
    if not parts[0] and len(parts) == 2 and operators[0] in ("=", r"\approx"):
      return parse(parts[1])
    raise UnfitError("unreadable")
  if operators == ["="] and _is_value(parts[0]) and _NAME.fullmatch(parts[1]):
    parts = parts[::-1]  # 5 = x
  name = parts[0] if _NAME.fullmatch(parts[0]) else ""
  if r"\approx" in operators:
    # In 1/3 \approx 0.33 the exact value comes first and counts; in
    # x \approx 0.33 the first part is just a name.
    cut = operators.index(r"\approx")
    if cut == 0 and name:
      return parse(parts[1])
    parts, operators = parts[: cut + 1], operators[:cut]
    if not operators:
      return parse(parts[0])
  if operators[0] == r"\in" and name:
    operators = ["=", *operators[1:]]
  nodes = tuple(parse(part) for part in parts)
  named = name if operators[0] == "=" else ""
  return Relation(nodes, tuple(operators), named)


def _is_value(text: str) -> bool:
  """Tells whether there is no variable in a text."""
  return not re.search(r"(?<![\\A-Za-z])[A-Za-z]", text)


def _choices(text: str, signs: int) -> list[str]:
  r"""Writes each \pm as + and as -: 2 ** signs texts."""
  pieces = _PLUS_MINUS.split(text)
  return [
    "".join(itertools.chain(*zip(pieces, (*choice, ""))))
    for choice in itertools.product("+-", repeat=signs)
  ]
