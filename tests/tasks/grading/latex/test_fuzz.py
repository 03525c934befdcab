r"""No text makes the grader raise, hold on, or accept what says nothing."""

import re
import time

import hypothesis
import pytest
from hypothesis import strategies

from pkpo_jax.tasks.grading.latex import equality

GOLDS = ("42", r"\frac{1}{2}", "x^2-1", r"(-\infty,3]", r"\{1,2\}", "x=5")
PIECES = re.findall(
  r"\S+",
  r"\frac \sqrt \boxed{ { } ( ) [ ] \{ \} ^ _ + - = < > , ; : | ! . $ & \\ \pm"
  r" \in \cup \text{ \begin{pmatrix} \end{pmatrix} \log \sin x y i e \pi"
  r" \infty 0 1 2 9 10 #### answer is or and \pmod \equiv \mathbb{R} % '",
)
# No digits, no number signs, no words for values or sets.
EMPTY = "!?.,;:'\"()[]{}<>=+-*/|&^_~ \n\tbcdghklmnopqrstuvwz"
LIMIT = 2.0
SETTINGS = hypothesis.settings(
  max_examples=150,
  deadline=None,
  derandomize=True,
  suppress_health_check=list(hypothesis.HealthCheck),
)


def grade(gold, text, asked=""):
  start = time.process_time()
  reward, valid, reason = equality.grade(gold, text, asked)
  assert time.process_time() - start < LIMIT, text
  assert valid and not reason.startswith("error")
  return reward


@SETTINGS
@hypothesis.given(
  strategies.sampled_from(GOLDS),
  strategies.lists(strategies.sampled_from(PIECES), max_size=60).map(" ".join),
)
def test_no_mixture_of_latex_raises_or_takes_long(gold, text):
  grade(gold, f"\\boxed{{{text}}}", text)
  grade(gold, text)


@SETTINGS
@hypothesis.given(strategies.sampled_from(GOLDS), strategies.text(max_size=300))
def test_no_unicode_raises(gold, text):
  grade(gold, f"\\boxed{{{text}}}")
  grade(gold, f"The answer is {text}", text)


@SETTINGS
@hypothesis.given(
  strategies.sampled_from(["42", r"\frac{1}{2}", r"(-\infty,3]", r"\{1,2\}"]),
  strategies.text(alphabet=EMPTY, max_size=120),
)
def test_nothing_is_accepted_that_names_no_value(gold, text):
  for dressed in (f"\\boxed{{{text}}}", f"#### {text}", f"answer: {text}"):
    assert grade(gold, dressed) == 0


@pytest.mark.parametrize("piece", [*PIECES, "answer is ", "\nQ: ", "####\n"])
def test_repetitions_of_ten_kilobytes_end_soon(piece):
  text = piece * (10_000 // len(piece))
  assert grade("42", text, text) == grade("42", f"\\boxed{{{text}}}") == 0
  assert grade("x+1", f"\\boxed{{{text[:480]}}}", text) == 0
