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


@pytest.mark.parametrize(
  ("text", "both"),
  [
    ("R^2-r^2", True),
    ("mgR+r", True),
    (r"\Delta x+\delta", True),
    ("x_N+n", True),
    ("R^2-s^2", False),
    (r"\text{Area of a}+x", False),
    (r"R \Rightarrow \mathbb{C}+c", False),
    (r"\sin R", False),
  ],
)
def test_finds_letters_in_both_cases(text, both):
  assert convert.has_both_cases(text) is both


def test_capitals_are_small_letters_unless_told_otherwise():
  assert convert.to_sympy("X+1") == X + 1
  for text in (
    "R-r", "R_1-r_1", "x^N-x^n", r"\frac{1}{R}-\frac{1}{r}", "a_N-a_n",
    r"\Delta-\delta", r"\log_N x-\log_n x", "a_{N+1}-a_{n+1}", "F(x)-f(x)",
    r"\sin A-\sin a",
  ):  # fmt: skip
    assert convert.to_sympy(text, by_case=True) != 0, text
  assert convert.to_sympy("RS-SR", by_case=True) == 0
  assert convert.expression("R", by_case=True).is_Symbol


def test_capitals_are_no_constants():
  assert not convert.to_sympy("I").has(sympy.I)
  assert convert.to_sympy(r"\Pi") != sympy.pi


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
