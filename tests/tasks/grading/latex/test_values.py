r"""Words and plain numbers, and LaTeX with only one reading."""

from fractions import Fraction

import pytest

from pkpo_jax.tasks.grading.latex import spelling, values


@pytest.mark.parametrize(
  ("text", "found"),
  [
    (r"\text{Friday}", "friday"),
    (r"(\text{B})", "b"),
    ("Mr. Smith", "mr smith"),
    ("5", None),
    ("", None),
  ],
)
def test_words_have_one_spelling(text, found):
  assert values.words(text) == found


def test_tells_words_from_products_of_variables():
  assert values.is_text("east") and values.is_text(r"\text{B}")
  assert not values.is_text("xy") and not values.is_text(r"\text{cm}^2")


def test_tells_words_with_capitals_from_products_of_variables():
  words = ("Even", "EVEN", "No", "No solution", "Hardy-Weinberg")
  assert all(map(values.is_word, words))
  assert not any(map(values.is_word, ("RRr", "Rrr", "aBc", "Rr", r"\alpha")))


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("10 - 15", ["-", "10", "15"]),
    ("1.5-2.5", ["-", "1.5", "2.5"]),
    ("2021-05-03", ["-", "2021", "5", "3"]),
    ("05/3/2021", ["/", "5", "3", "2021"]),
    ("1/2", []),
    ("-5", []),
    ("10-x", []),
    ("2^3-1", []),
    (r"3-\sqrt{2}", []),
  ],
)
def test_finds_what_only_looks_like_a_difference_or_a_quotient(text, found):
  assert values.joined(text) == found


def test_finds_numbers_with_a_base():
  assert values.has_base("1011_2") and values.has_base("11 _{10}")
  assert not values.has_base("x_2") and not values.has_base("1011")


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("-05", Fraction(-5)),
    ("+.5", Fraction(1, 2)),
    ("5.", Fraction(5)),
    ("0.1", Fraction(1, 10)),
    ("42e-1", Fraction(21, 5)),
    ("1/2", None),
    ("--5", None),
    ("5 6", None),
    ("5e9999", None),
    ("nan", None),
  ],
)
def test_reads_plain_numbers_exactly(text, value):
  assert values.number(text) == value


@pytest.mark.parametrize(
  ("text", "rewritten"),
  [
    ("1/2", r"\frac{1}{2}"),
    (r"\frac12", r"\frac12"),
    ("2 1/2", r"2\frac{1}{2}"),
    (r"2/3\pi", r"\frac{2}{3}\pi"),
    ("1/2^3", "1/2^3"),
    ("x^1/2", "x^1/2"),
    ("0.5", r"\frac{5}{10}"),
    (".25x", r"\frac{25}{100}x"),
    ("5.", "5"),
    (r"0.\overline{3}", r"\frac{1}{3}"),
    (r"1.2\overline{34}", r"\frac{611}{495}"),
    ("2(3)", r"2\cdot(3)"),
    ("(2)(3)4", r"(2)\cdot(3)\cdot 4"),
    (r"\sin 60^\circ", r"\sin \frac{60\pi}{180}"),
    ("x_1 2", "x_{1}2"),
  ],
)
def test_leaves_the_parser_one_reading(text, rewritten):
  assert values.unambiguous(text) == rewritten


@pytest.mark.parametrize("text", ["4 2", "42'", 'x"', r"\frac12 3 4"])
def test_refuses_numbers_side_by_side_and_quotes(text):
  with pytest.raises(spelling.UnfitError, match="unreadable"):
    values.unambiguous(text)
