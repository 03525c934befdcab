r"""What is left to do in a value as written, and copies of the question."""

import pytest

from pkpo_jax.tasks.grading.latex import convert, forms, parse, spelling


@pytest.mark.parametrize(
  ("text", "left"),
  [
    ("2+3", {"sum"}),
    (r"1+\sqrt{2}", set()),
    (r"\sqrt{2}+\sqrt{8}", {"sum", "root"}),
    (r"\sqrt{18}", {"root"}),
    (r"11\sqrt{2}", set()),
    (r"\sqrt{2}\sqrt{3}", {"product"}),
    (r"2\cdot 3\cdot\pi", {"product"}),
    (r"\frac{2\pi}{3}", set()),
    (r"\frac{4\pi}{6}", {"unreduced fraction"}),
    (r"\frac{1}{2}\cdot 6\sqrt{3}", {"product"}),
    (r"\frac{1}{4}\cdot 6\cdot\sqrt{3}", {"product"}),
    (r"30\cdot\frac{\pi}{180}", {"product"}),
    (r"\frac{30\pi}{180}", {"unreduced fraction"}),
    (r"3\cdot\frac{\sqrt{3}}{2}", set()),
    (r"\sqrt{(3\sqrt{3})^2}", {"root", "power"}),
    (r"\sqrt{\pi^3}", set()),
    (r"(2\pi)^2", {"power"}),
    ("2^{10}", {"power"}),
    ("2^{3/2}", set()),
    (r"\frac{6}{\sqrt{2}}", {"root below"}),
    (r"\frac{2}{1+\sqrt{3}}", {"sum below"}),
    ("(1+i)^2", {"power of a sum"}),
    (r"\sqrt{3+2\sqrt{2}}", {"root of a sum"}),
    (r"\frac{14+2i}{2}", {"product"}),
    (r"\frac{2+6\sqrt{3}}{4}", {"unreduced fraction"}),
    (r"\frac{1+\sqrt{3}}{2}", set()),
    ("i(1-7i)", {"product of sums"}),
    (r"2(1+\sqrt{3})", set()),
    (r"(\sqrt{x})^2", {"power"}),
    ("5!", {"factorial"}),
    (r"\ln 2", {"log"}),
    (r"\sin x", set()),
    ("x^2+3x", set()),
    ("x(x+3)", {"expand"}),
    (r"\frac{1}{x}", {"variable below"}),
  ],
)
def test_names_the_work_that_is_left(text, left):
  assert forms.work(convert.as_written(spelling.clean(text))) == left


@pytest.mark.parametrize(
  ("text", "count"),
  [("x", 1), ("x^2+3x", 1), ("x(x+3)", 2), ("(x+1)^2(x-1)", 3), ("2^3*3", 4)],
)
def test_counts_factors(text, count):
  assert forms.factors(convert.as_written(text)) == count


def worked_out(gold, answer, asked):
  nodes = (parse.parse(spelling.clean(text)) for text in (gold, answer))
  return forms.is_worked_out(*nodes, asked)


QUESTION = "Simplify $\\frac{6}{\\sqrt{2}}$."


@pytest.mark.parametrize(
  ("gold", "answer", "asked", "verdict"),
  [
    # A matter of taste, unless the question has the value already.
    (r"3\sqrt{2}", r"\frac{6}{\sqrt{2}}", "", True),
    (r"3\sqrt{2}", r"\frac{6}{\sqrt{2}}", QUESTION, False),
    (r"3\sqrt{2}", r"\frac{12}{2\sqrt{2}}", QUESTION, False),
    (r"3\sqrt{2}", r"\sqrt{2}\cdot 3", QUESTION, True),
    ("x^2+3x", "x(x+3)", "", True),
    ("x^2+3x", "x(x+3)", "Expand $x(x+3)$.", False),
    ("x(x+3)", "x^2+3x", "Factor $x^2+3x$.", False),
    ("x(x+3)", "x^2+3x", "What is the area?", True),
    # The reference may leave to do what it likes.
    ("5!", "5!", "", True),
    ("120", "5!", "", False),
    (r"3\sqrt{2}", r"e^{\ln 3}\sqrt{2}", "", False),
    (r"\log_2 3", r"\frac{\ln 3}{\ln 2}", "", True),
    (r"R+r", r"r+R", "", True),
    ("y=2x+3", "2x-y+3=0", "", True),
    ("y=2x+3", "2x-y+3=0", "Solve $2x-y+3=0$ for $y$.", False),
    ("0.375", r"\frac38", "", True),
    ("0.375", r"\frac38", "Write $\\frac{3}{8}$ as a decimal.", False),
    ("0.375", ".3750", "Write $\\frac{3}{8}$ as a decimal.", True),
  ],
)
def test_copies_and_unfinished_answers(gold, answer, asked, verdict):
  assert worked_out(gold, answer, asked) is verdict
