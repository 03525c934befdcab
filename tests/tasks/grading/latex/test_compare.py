"""Values compared exactly, and formulas at points."""

import pytest
import sympy

from pkpo_jax.tasks.grading.latex import compare, convert


def same(gold, answer):
  return compare.same(convert.to_sympy(gold), convert.to_sympy(answer))


@pytest.mark.parametrize(
  ("gold", "answer"),
  [
    (r"\sqrt{18}", r"3\sqrt{2}"),
    (r"\sqrt{ab}", r"\sqrt{a}\sqrt{b}"),
    (r"\ln\frac{x}{y}", r"\ln x-\ln y"),
    (r"\sqrt{x^2}", "|x|"),
    ("(x+y+z+u)^2-u^2", r"(x+y+z)^2+2u(x+y+z)"),
    ("2^{1000}", "4^{500}"),
  ],
)
def test_the_same(gold, answer):
  assert same(gold, answer) and same(answer, gold)


@pytest.mark.parametrize(
  ("gold", "answer"),
  [
    (r"\sqrt{2}", r"\sqrt{2}+10^{-500}"),
    ("2^{1000}", "2^{1000}+1"),
    ("|x|", "x"),
    ("|x-2000|", "2000-x"),
    ("|x||y|", "xy"),
    ("|x+y|", "|x|+|y|"),
    ("xyzuv", "|xyzuv|"),
    ("x", r"x+\frac{|x-3|}{10^9}"),
  ],
)
def test_not_the_same(gold, answer):
  assert not same(gold, answer) and not same(answer, gold)


def test_what_has_no_value_is_never_the_same():
  nowhere = sympy.sqrt(-1 - sympy.Symbol("x", real=True) ** 2)
  assert not compare.same(nowhere, nowhere + 1)
  assert not compare.same(sympy.oo, sympy.zoo)


def test_equations_are_the_same_if_one_is_a_multiple():
  x, y = sympy.symbols("x y", real=True)
  assert compare.difference_ratio((2 * x + 3 * y, 5), (4 * x + 6 * y, 10))
  assert not compare.difference_ratio((2 * x + 3 * y, 5), (2 * x + 3 * y, 6))
  assert not compare.difference_ratio((x, y), (x, abs(y)))
  five = sympy.Integer(5)
  assert not compare.difference_ratio((five, five), (five, five))
