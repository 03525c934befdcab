r"""Sets of numbers in any notation."""

import pytest

from pkpo_jax.tasks.grading.latex import parse, sets, spelling


def node(text):
  return parse.parse(spelling.clean(text))


@pytest.mark.parametrize(
  ("gold", "answer"),
  [
    (r"(3,\infty)", "x>3"),
    ("[1,2)", r"2>x\ge 1"),
    ("[1,3]", r"[1,2]\cup[2,3]"),
    ("[1,3]", r"[1,2)\cup\{2\}\cup(2,3]"),
    (r"(-\infty,2)\cup(2,\infty)", r"x\ne 2"),
    ("(2,5)", r"x>2 \text{ and } x<5"),
    ("(2,5)", r"x>2 and x\ge 1 and x<5"),
    (r"(-\infty,1)\cup(3,\infty)", r"x<1 \text{ or } x>3"),
    (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"\emptyset", r"\{\}"),
    (r"(\frac12,\sqrt2)", r"\frac{1}{2}<t<\sqrt{2}"),
  ],
)
def test_the_same_set(gold, answer):
  assert sets.same(node(gold), node(answer))
  assert sets.same(node(answer), node(gold))


@pytest.mark.parametrize(
  ("gold", "answer"),
  [
    (r"(3,\infty)", r"x\ge 3"),
    ("[1,3]", r"[1,2)\cup(2,3]"),
    ("(2,5)", r"x>2 \text{ or } x<5"),
    (r"(3,\infty)", "2x>6"),
    ("(-1,5)", "|x-2|<3"),
    ("(1,2)", "(2,1)"),
    (r"\emptyset", "5"),
  ],
)
def test_another_set_or_none(gold, answer):
  assert not sets.same(node(gold), node(answer))


@pytest.mark.parametrize("text", ["2x>6", "x^2<4", "x<y", "1<x<2<3", "x+1>2"])
def test_nothing_is_solved(text):
  assert sets.read(node(text)) is None
