r"""No text makes the grader raise, hold on, or accept what says nothing."""

import random
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
MIXTURES = (
  strategies.sampled_from(GOLDS),
  strategies.lists(strategies.sampled_from(PIECES), max_size=60).map(" ".join),
)
UNICODE = strategies.sampled_from(GOLDS), strategies.text(max_size=300)
NOTHING = (
  strategies.sampled_from(["42", r"\frac{1}{2}", r"(-\infty,3]", r"\{1,2\}"]),
  strategies.text(alphabet=EMPTY, max_size=120),
)
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
@hypothesis.given(*MIXTURES)
def test_no_mixture_of_latex_raises_or_takes_long(gold, text):
  grade(gold, f"\\boxed{{{text}}}", text)
  grade(gold, text)


@pytest.mark.slow
@SETTINGS
@hypothesis.given(*UNICODE)
def test_no_unicode_raises(gold, text):
  grade(gold, f"\\boxed{{{text}}}")
  grade(gold, f"The answer is {text}", text)


@SETTINGS
@hypothesis.given(*NOTHING)
def test_nothing_is_accepted_that_names_no_value(gold, text):
  for dressed in (f"\\boxed{{{text}}}", f"#### {text}", f"answer: {text}"):
    assert grade(gold, dressed) == 0


def long_text(seed, pieces):
  """Up to 10 kB of pieces; some come often, as in what a policy repeats."""
  rng = random.Random(seed)
  some = rng.choices(pieces, k=rng.choice((2, 5, 30, 500)))
  text = rng.choice(("", " ", "\n")).join(rng.choices(some, k=5000))
  return text[: rng.randint(1000, 10_000)]


def check_long_texts(seeds):
  for seed in seeds:
    gold = GOLDS[seed % len(GOLDS)]
    for text in (long_text(seed, PIECES), long_text(seed, range_of_unicode())):
      for dressed in (f"\\boxed{{{text}}}", f"answer: {text}", text):
        grade(gold, dressed, text)
    text = long_text(seed, EMPTY)
    for dressed in (f"\\boxed{{{text}}}", f"#### {text}", f"answer: {text}"):
      assert grade(gold, dressed, text) == 0, dressed


def range_of_unicode():
  """One character of each block of 64."""
  return [chr(code) for code in range(0, 0x20000, 64)]


def test_no_long_text_raises_takes_long_or_is_accepted_for_nothing():
  check_long_texts(range(20))


@pytest.mark.slow
@pytest.mark.verify("pkpo_jax/tasks/grading/latex")
def test_no_long_text_of_many():
  check_long_texts(range(1000, 2000))


@pytest.mark.slow
@pytest.mark.verify("pkpo_jax/tasks/grading/latex")
@pytest.mark.parametrize(
  ("test", "texts"),
  [
    (test_no_mixture_of_latex_raises_or_takes_long, MIXTURES),
    (test_no_unicode_raises, UNICODE),
    (test_nothing_is_accepted_that_names_no_value, NOTHING),
  ],
  ids=("latex", "unicode", "nothing"),
)
def test_many_more_examples(test, texts):
  more = hypothesis.settings(SETTINGS, max_examples=3000, derandomize=False)
  more(hypothesis.given(*texts)(test.hypothesis.inner_test))()


@pytest.mark.parametrize("piece", [*PIECES, "answer is ", "\nQ: ", "####\n"])
def test_repetitions_of_ten_kilobytes_end_soon(piece):
  text = piece * (10_000 // len(piece))
  assert grade("42", text, text) == grade("42", f"\\boxed{{{text}}}") == 0
  assert grade("x+1", f"\\boxed{{{text[:480]}}}", text) == 0
