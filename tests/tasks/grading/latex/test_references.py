r"""References are read when they are loaded."""

import logging
import re

import pytest

from pkpo_jax.tasks.grading.latex import references


@pytest.mark.parametrize(
  "gold",
  [
    "5", r"\frac{1}{2}", r"\frac\pi4", "(3,4)", r"[1,2)\cup(3,\infty)", "x=5",
    r"\begin{pmatrix}1\\2\end{pmatrix}", r"\text{Friday}", "1011_2", "3:4",
    r"90^\circ", r"5\text{ cm}^2", r"2\ln 3", "x^2-1", r"10:30\text{ p.m.}",
    r"\{1\pm\sqrt{5},-2\}", r"\text{(B)}", "1,234", r"n \equiv 5 \pmod{17}",
    r"\text{the second quadrant}",
  ],
)  # fmt: skip
def test_references_that_can_be_read(gold):
  assert references.problem_with(gold) == ""


@pytest.mark.parametrize(
  "gold",
  [
    "see solution", "N/A", "", "?", "Proof by induction.", "x" * 501, "(5",
    r"\begin{pmatrix}1\\2", r"\frac{1}{", "5 + ", r"\foo{3}+", "\u0664",
    "We add the two numbers, and then we halve their sum, which gives us the"
    " number that was asked for.",
  ],
)  # fmt: skip
def test_references_that_no_answer_could_equal(gold):
  assert references.problem_with(gold) != ""


def test_the_first_is_named_and_all_are_counted():
  golds = [("line 1", "5"), ("line 2", "see solution"), ("line 3", "(5")]
  message = "line 2: the math grader cannot use the answer 'see solution'"
  with pytest.raises(ValueError, match=re.escape(message)) as error:
    references.check(golds)
  assert "2 of 3 references are so" in str(error.value)
  references.check(golds[:1])


def test_a_few_may_be_tolerated_and_are_logged(caplog):
  golds = [("line 1", "see solution"), *[(f"line {i}", "5") for i in range(99)]]
  with caplog.at_level(logging.WARNING):
    references.check(golds, tolerated=0.01)
  assert "line 1: the math grader cannot use" in caplog.text
  with pytest.raises(ValueError, match="1 of 50 references"):
    references.check(golds[:50], tolerated=0.01)
