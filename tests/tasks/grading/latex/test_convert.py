"""LaTeX of one value as sympy."""

import pytest
import sympy

from pkpo_jax.tasks.grading.latex import convert, spelling

X = sympy.Symbol("x", real=True)


def test_reads_exactly():
  assert convert.to_sympy("0.1") == sympy.Rational(1, 10)
  assert convert.to_sympy("2x+3") == 2 * X + 3
  assert convert.to_sympy("3i") == 3 * sympy.I
  assert convert.to_sympy(r"\emptyset") == sympy.S.EmptySet


def test_as_written_leaves_the_work_undone():
  assert convert.as_written(r"\sqrt{18}") != convert.to_sympy(r"3\sqrt{2}")
  assert isinstance(convert.as_written("2^{10}"), sympy.Pow)


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("5+", "unreadable"),
    ("9^{9^{9}}", "too large"),
    ("1000000!", "too large"),
    ("+" * 130 + "1", "too long"),
  ],
)
def test_refuses_what_is_broken_or_large(text, reason):
  with pytest.raises(spelling.UnfitError, match=f"^{reason}$"):
    convert.to_sympy(text)


def test_an_expression_is_no_set():
  with pytest.raises(spelling.UnfitError, match="unreadable"):
    convert.expression(r"\mathbb{R}")


def test_bits_grow_with_exponents_before_they_are_computed():
  two = sympy.Integer(2)
  assert convert.bits(sympy.Pow(two, 1000, evaluate=False)) >= 1000
  assert convert.bits(sympy.factorial(10**5, evaluate=False)) > 10**6
