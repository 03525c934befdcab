r"""The expressions of a question."""

import pytest

from pkpo_jax.tasks.grading.latex import parse, question


def test_finds_formulas_their_sides_and_arithmetic():
  found = question.expressions(
    r"If $x-y=2$ and \(x+y = 4\), add 12/18 and 3 + 4; it costs \$5."
  )
  for text in ("x-y=2", "x-y", "2", "x+y", "12/18", "3 + 4"):
    assert text in found


@pytest.mark.parametrize(
  ("gold", "asked", "found"),
  [
    (r"11\sqrt{2}", r"Simplify $\sqrt{242}$.", [r"\sqrt{242}"]),
    ("(x+2)(x+3)", "Factor $x^2+5x+6$.", ["x^2+5x+6"]),
    (r"\frac{2}{3}", "Reduce 24/36.", ["24/36"]),
    ("y=2x+3", "The line $2x-y+3=0$.", ["2x-y+3=0"]),
    ("5", "What is $2+2$?", []),
    (r"\text{Friday}", "Which day is $5$?", []),
    ("x+1", r"What is $\frac{(}{$, or $x \clubsuit$?", []),
  ],
)
def test_finds_what_equals_the_reference(gold, asked, found):
  assert [*question.equal_to(parse.parse(gold), asked)] == found


def test_tells_what_is_asked_for_from_what_is_given():
  asked = "If $x-y=2$, find $x + y$."
  assert question.asks_for(asked, "x+y")
  assert not question.asks_for(asked, "x-y")


def test_letters_are_variables():
  assert question.letters(r"\sin x+\frac{a}{2}\text{ cm}") == {"x", "a"}


def test_finds_letters_in_both_cases_in_formulas_only():
  assert question.has_both_cases("Circles of radius $R$ and $r$.")
  assert not question.has_both_cases("A circle has a radius $R$.")
