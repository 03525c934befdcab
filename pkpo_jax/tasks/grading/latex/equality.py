r"""Grades mathematical answers: does the answer equal the reference, exactly?

How an answer is judged, in order: `answers.final_answer` finds it in the
completion. `spelling.clean` and `fit` rewrite reference and answer into one
spelling, \tfrac to \frac and 1,234 to 1234; if they now read the same, they are
equal. `parse.parse` takes lists, intervals, matrices and relations apart, down
to leaves with one value each. `_Comparison` compares part by part, and leaf by
leaf: words as words; plain numbers as fractions, without their units; sets of
numbers piece by piece (`sets`). Other leaves become sympy values (`convert`),
which `compare` compares: numbers exactly where sympy can, and formulas to fifty
digits at points. What is equal must be worked out as well: see `forms`.

Nothing is rounded: 0.333 is not 1/3. What a mathematician would accept passes:

  - A percent sign, a degree sign, a currency sign and a unit may be left out,
    as in the grader that came with MATH: 50% is 50, and not 0.5. A unit that is
    given must not contradict the reference or the question; see `units`.
  - A name may be left out or added: x = 5 is 5.
  - 1, 2 and {2, 1} are the same list of solutions; (1, 2) is a pair or an open
    interval, and its order and brackets matter.
  - Words may be in any case, and so may variables, unless the reference, the
    answer or the question has a variable in both cases, such as R and r.

Run it in a `pool`. Answers are refused by their size, so that few take long.
"""

import dataclasses
import re
from fractions import Fraction

from pkpo_jax.tasks.grading.latex import (
  answers,
  compare,
  convert,
  forms,
  parse,
  question,
  sets,
  units,
  values,
)
from pkpo_jax.tasks.grading.latex.parse import Group, Leaf, Node, Relation
from pkpo_jax.tasks.grading.latex.spelling import (
  UnfitError,
  clean,
  fit,
  skeleton,
)


def grade(
  gold: str, completion: str, asked: str = ""
) -> tuple[float, bool, str]:
  """Grades a completion against the reference answer.

  Args:
    gold: the reference answer.
    completion: what ends in an answer.
    asked: the question, which tells units and copies; "" if there is none.

  Returns:
    (reward, valid, reason). The reward is 1.0 or 0.0; valid is always True,
    since an answer that cannot be read is the policy's fault; the reason is
    "right", "wrong", "no answer" or the message of an `UnfitError`.
  """
  answer = answers.final_answer(completion)
  if answer is None:
    return 0.0, True, "no answer"
  try:
    right = is_same(gold, answer, asked)
  except UnfitError as error:
    return 0.0, True, str(error)
  except MemoryError:
    raise
  except Exception:  # Of sympy and its parser, which raise all kinds.
    return 0.0, True, "unreadable"
  return (1.0, True, "right") if right else (0.0, True, "wrong")


def is_same(gold: str, answer: str, asked: str = "") -> bool:
  """Tells whether a final answer equals the reference and is worked out.

  Raises:
    UnfitError: the answer cannot be judged; the message says why.
  """
  if all(map(_PLAIN_INTEGER.fullmatch, (gold, answer))):
    return gold == answer  # Most answers, and no time is to be lost on them.
  gold, answer = clean(gold), fit(answer)
  if skeleton(gold) == skeleton(answer):
    return True
  if len(answer) > 4 * len(gold) + 200:
    raise UnfitError("too long")
  theirs = parse.parse(answer)
  is_modulo = isinstance(theirs, Group) and theirs.kind == "modulo"
  if not is_modulo and (
    parse.commands(answer) & _UNEVALUATED - parse.commands(gold)
  ):
    raise UnfitError("not evaluated")
  ours = parse.parse(gold)
  comparison = _Comparison.of(gold, answer, asked)
  if not comparison.same(ours, theirs):
    return False
  theirs = _unwrap(theirs, ours)
  ours = _unwrap(ours, theirs)
  if not forms.is_worked_out(ours, theirs, asked, comparison.about):
    raise UnfitError("not worked out")
  return True


_UNEVALUATED = frozenset(
  re.findall(
    r"\\\w+",
    r"\sum \prod \int \iint \oint \lim \limsup \liminf \max \min \sup \inf \gcd"
    r" \lcm \det \operatorname \bmod \pmod \mod \argmax \argmin \Pr \Re \Im",
  )
)
_PLAIN_INTEGER = re.compile(r"-?[1-9]\d{0,30}|0", re.ASCII)
_LISTS = frozenset({"list", "set", "either"})
_NONE = re.compile(
  r"(?:(?:there (?:is|are|exists?)|it has|has) )?no (?:real )?"
  r"(?:solution|root)s?(?: exists?)?|none|(?:the )?empty set"
)


@dataclasses.dataclass(frozen=True)
class _Comparison:
  """Compares parsed answers, given what the question says.

  Attributes:
    asked: the question.
    about: what it says about units.
    by_case: whether R and r are two variables: where anything has both.
  """

  asked: str
  about: units.Asked
  by_case: bool

  @classmethod
  def of(cls, gold: str, answer: str, asked: str) -> "_Comparison":
    """Reads the question; the words of the reference are asked for, too."""
    by_case = (
      convert.has_both_cases(gold)
      or convert.has_both_cases(answer)
      or question.has_both_cases(asked)
    )
    return cls(asked, units.asked(asked).with_words(gold), by_case)

  def same(self, gold: Node, answer: Node) -> bool:
    """Tells whether two parsed answers are equal."""
    gold, answer = _unwrap(gold, answer), _unwrap(answer, gold)
    if isinstance(gold, Leaf) and isinstance(answer, Leaf):
      return self._same_leaf(gold.text, answer.text)
    if isinstance(gold, Relation) and isinstance(answer, Relation):
      return self._same_relation(gold, answer)
    if isinstance(gold, Group) and isinstance(answer, Group):
      has_names = any(isinstance(part, Relation) for part in gold.parts)
      if gold.kind in _LISTS and not has_names:
        answer = parse.without_indices(answer)
      kinds = {gold.kind, answer.kind}
      if len(kinds) == 1 or kinds <= _LISTS:
        same = self._same_parts(gold, answer)
        return same or (gold.kind == "union" and sets.same(gold, answer))
      if gold.kind == "()" and answer.kind == "list":
        return self._same_named(gold, answer)
    if isinstance(answer, Relation) and answer.is_equation():
      return self._same_chain(gold, self._values(answer))
    if isinstance(gold, Relation) and gold.is_equation():
      found = gold.values()
      return bool(gold.name) and all(self.same(v, answer) for v in found)
    return sets.same(gold, answer)

  def _values(self, relation: Relation) -> tuple[Node, ...]:
    """What an equation says about the value that was asked for."""
    if relation.name or relation.is_chain_of_values():
      return relation.values()
    left = relation.parts[0]
    # x + y = 10, where x + y is asked for; 2x + 1 = 5 is not solved.
    if isinstance(left, Leaf) and question.asks_for(self.asked, left.text):
      return relation.parts[1:]
    return ()

  def _same_chain(self, gold: Node, chain: tuple[Node, ...]) -> bool:
    """Tells whether 2 + 3 = 5 says 5: the last part does, all are equal."""
    if not chain or not self.same(gold, chain[-1]):
      return False
    return all(
      self.same(gold, part) or self._same_value(gold, part)
      for part in chain[:-1]
    )

  def _same_parts(self, gold: Group, answer: Group) -> bool:
    """Compares part by part, in any order within lists, sets and unions."""
    if len(gold.parts) != len(answer.parts):
      return False
    if gold.kind not in _LISTS | {"union"}:
      return all(map(self._same_part, gold.parts, answer.parts))
    left = list(answer.parts)
    for part in gold.parts:
      found = next((x for x in left if self._same_part(part, x)), None)
      if found is None:
        return False
      left.remove(found)
    return True

  def _same_part(self, gold: Node, answer: Node) -> bool:
    """Compares two parts, which need their names: x = 1, y = 2 is not 1, 2."""
    if isinstance(gold, Relation) != isinstance(answer, Relation):
      return False
    return self.same(gold, answer)

  def _same_named(self, gold: Group, answer: Group) -> bool:
    """Compares (2, -3) with x = 2, y = -3."""
    named = {
      part.name: part.parts[-1]
      for part in answer.parts
      if isinstance(part, Relation) and len(part.name) == 1
    }
    if not len(named) == len(answer.parts) == len(gold.parts):
      return False
    return all(map(self.same, gold.parts, [named[x] for x in sorted(named)]))

  def _same_relation(self, gold: Relation, answer: Relation) -> bool:
    """Tells whether two equations or two inequalities say the same."""
    if gold.is_equation() and answer.is_equation():
      return self._same_equation(gold, answer)
    gold, answer = gold.upward(), answer.upward()
    if gold.operators == answer.operators and (
      len(gold.parts) == len(answer.parts)
    ):
      if all(map(self.same, gold.parts, answer.parts)):
        return True
      if gold.operators == (r"\ne",):
        return all(map(self.same, gold.parts, reversed(answer.parts)))
    return sets.same(gold, answer)

  def _same_equation(self, gold: Relation, answer: Relation) -> bool:
    """Compares equations: by their names, or as multiples of each other."""
    if gold.name and answer.name:
      if skeleton(gold.name) == skeleton(answer.name):
        return self._same_chain(gold.parts[-1], answer.values())
    elif gold.name and answer.is_chain_of_values():
      return self._same_chain(gold.parts[-1], answer.parts)
    elif answer.name and gold.is_chain_of_values():
      return all(self.same(v, answer.parts[-1]) for v in gold.parts)
    if gold.name and not question.letters(_text(gold.parts[-1])):
      return False  # 2x = 6 is not solved.
    ours = question.sides(gold, by_case=self.by_case)
    theirs = question.sides(answer, by_case=self.by_case)
    if ours is None or theirs is None:
      return False
    return compare.difference_ratio(ours, theirs)

  def _same_leaf(self, gold: str, answer: str) -> bool:
    """Compares leaves as text, words or plain numbers, else as formulas."""
    if skeleton(gold) == skeleton(answer):
      return True
    if values.is_text(gold) or values.is_text(answer):
      found = values.words(gold), values.words(answer)
      if _is_none(gold) and _is_none(answer):
        claims_less = "real" in (found[1] or "") and "real" not in gold
        return not (claims_less and "complex" in self.asked)
      if None in found or found[0] != found[1]:
        return False
      if not self.by_case or r"\text" in gold + answer:
        return True
      if not (values.is_word(gold) and values.is_word(answer)):
        return False  # RRr is not Rrr, and no word.
      changed = values.recapitalized(gold, answer)
      return not changed & question.both_cases(self.asked)  # Mgh is not mgh
    if ":" in gold + answer:
      return _clock(gold) == _clock(answer)
    if values.has_base(gold + " " + answer):
      return False  # Other bases are compared as text.
    if units.oppose(gold, answer):
      return False
    ours, theirs = (
      units.split(gold, self.about),
      units.split(answer, self.about),
    )
    if units.contradict(ours.unit, theirs.unit, self.about):
      return False
    if joined := values.joined(ours.value):
      return joined == values.joined(theirs.value)
    literal = values.literal(ours.value)
    if literal is not None:
      return _same_literal(
        literal, ours.factor, values.literal(theirs.value), theirs.factor
      )
    if ours.factor != theirs.factor:
      return False
    return self._same_formula(ours.value, theirs.value)

  def _same_value(self, gold: Node, answer: Node) -> bool:
    """Compares two leaves by their values, worked out or not."""
    if not (isinstance(gold, Leaf) and isinstance(answer, Leaf)):
      return False
    return self._same_formula(
      units.split(gold.text).value, units.split(answer.text).value
    )

  def _same_formula(self, gold: str, answer: str) -> bool:
    """Compares LaTeX of two values as sympy reads it."""
    return compare.same(
      convert.to_sympy(gold, by_case=self.by_case),
      convert.to_sympy(answer, by_case=self.by_case),
    )


def _is_none(text: str) -> bool:
  """Tells whether a leaf says that there is no solution."""
  none = text.strip() == r"\emptyset"
  return none or bool(_NONE.fullmatch(values.words(text) or ""))


def _same_literal(
  gold: values.Literal,
  gold_factor: Fraction,
  answer: values.Literal | None,
  factor: Fraction,
) -> bool:
  """Compares plain numbers; 10/2 is not worked out where 5 is asked for."""
  if answer is None or gold.value * gold_factor != answer.value * factor:
    return False
  is_integer = gold.form == "decimal" and gold.value.denominator == 1
  return not is_integer or answer.form in ("decimal", "scientific")


def _unwrap(node: Node, other: Node) -> Node:
  """Takes off what the other side lacks: {5} -> 5, (C) 12 -> 12."""
  while isinstance(node, Group):
    kind = node.kind
    if kind == "set" and len(node.parts) < 2:
      node = node.parts[0] if node.parts else Leaf(r"\emptyset")
    elif kind == "choice" and not _is(other, kind):
      is_letter = isinstance(other, Leaf) and re.fullmatch(
        r"[A-H]", values.words(other.text) or "", re.IGNORECASE
      )
      node = node.parts[0 if is_letter else 1]
    elif kind == "modulo" and not _is(other, kind):
      node = node.parts[0]
    elif kind == "scaled" and not _is(other, kind):
      return _multiplied(node)
    else:
      return node
  return node


def _is(node: Node, kind: str) -> bool:
  return isinstance(node, Group) and node.kind == kind


def _multiplied(node: Group) -> Node:
  """Multiplies a matrix of plain numbers by the plain number before it."""
  factor, matrix = node.parts
  scale = values.literal(_text(factor))
  if scale is None or not isinstance(matrix, Group):
    return node
  rows = []
  for row in matrix.parts:
    entries = [values.literal(_text(entry)) for entry in row.parts]  # type: ignore[union-attr]
    if None in entries:
      return node
    rows.append(
      Group(
        "row",
        tuple(_leaf(scale.value * e.value) for e in entries if e is not None),
      )
    )
  return Group("matrix", tuple(rows))


def _leaf(value: Fraction) -> Leaf:
  if value.denominator == 1:
    return Leaf(str(value))
  return Leaf(rf"\frac{{{value.numerator}}}{{{value.denominator}}}")


def _text(node: Node) -> str:
  return node.text if isinstance(node, Leaf) else ""


def _clock(text: str) -> str:
  """A ratio or a time in one spelling: 10:30 PM is 10:30 p.m."""
  text = re.sub(r"\\text|[{}.\s]", "", text)
  return re.sub(r"(?<=\d)[AP]M$", lambda match: match[0].lower(), text)
