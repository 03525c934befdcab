r"""Finding the final answer in a completion, and cleaning up its LaTeX."""

import pytest

from pkpo_jax.tasks.grading.latex import answers


@pytest.mark.parametrize(
  ("text", "answer"),
  [
    (r"so \boxed{5}.", "5"),
    (r"\boxed{5} or rather \boxed{6}", "6"),
    (r"\fbox{5}", "5"),
    (r"\boxed {5}", "5"),
    (r"\boxed 5$ is it", "5"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\boxed{5 \boxed{6}}", r"5 \boxed{6}"),
    (r"open { and \boxed{5}", "5"),
    (r"a \boxed{ not closed, \boxed{5} and on", "5"),
    (r"\boxed{5} but \boxed{6", None),
    (r"\boxed{5} but \boxed{\frac{6}{7}", None),
    (r"\boxed{}", None),
    ("#### 5", "5"),
    ("#### 5\n#### 6", "6"),
    ("#### 5\nmore", "5"),
    ("#### 5\nThe answer is 6.", "5"),
    (r"#### 5, so \boxed{6}", "6"),
    ("The answer is 5.", "5"),
    ("The final answer is: 5", "5"),
    ("**Answer:** 5", "5"),
    ("Answer: $5$. I hope it is correct.", "$5$"),
    ("the answer is 5. No, the answer is 2.5.", "2.5"),
    ("The answer is 5.\nLet me check that.", "5"),
    ("it is 5", None),
    ("", None),
  ],
)
def test_finds_the_final_answer(text, answer):
  assert answers.final_answer(text) == answer


@pytest.mark.parametrize(
  ("text", "content"),
  [
    (r"\boxed{5} and \boxed{ 6 }", "6"),
    (r"\boxed{5} and \boxed{6", ""),
    (r"\boxed{}", ""),
    (r"\boxed 5", "5"),
    ("#### 5", None),
    (r"\{5\}", None),
  ],
)
def test_boxed_tells_an_unclosed_box_from_none(text, content):
  assert answers.boxed(text) == content


@pytest.mark.parametrize(
  ("text", "cleaned"),
  [
    (r" $\dfrac{1}{2}$. ", r"\frac{1}{2}"),
    (r"\tfrac12", r"\frac12"),
    (r"\left[1,2\right)", "[1,2)"),
    (r"\mathrm{cm}", r"\text{cm}"),
    (r"\lbrace 1 \rbrace", r"\{ 1 \}"),
    (r"\langle 1,2\rangle", "( 1,2)"),
    (r"x \leq 1", r"x \le 1"),
    ("x >= 1", r"x \ge 1"),
    (r"1 \\ 2", r"1 \cr 2"),
    ("2\u03c0", r"2\pi"),
    ("\u22125\u00b2", "-5^2"),
    ("1 and 2", "1 , 2"),
    (r"1 \text{ or } 2; 3", "1 , 2, 3"),
    (r"\$5", "5"),
    ("band", "band"),
    (r"\land", r"\land"),
  ],
)
def test_clean_knows_one_spelling(text, cleaned):
  assert answers.clean(text) == cleaned
  assert answers.clean(cleaned) == cleaned


@pytest.mark.parametrize(
  ("text", "cleaned"),
  [
    ("1,234", "1234"),
    ("1{,}234,567", "1234567"),
    ("1 234 567", "1234567"),
    ("1,234.5", "1234.5"),
    ("1,234 + 5", "1234 + 5"),
    ("12,34", "12,34"),
    ("1,2345", "1,2345"),
    ("1.234,567", "1.234,567"),
    ("(1,234)", "(1,234)"),
    (r"\{1,234\}", r"\{1,234\}"),
  ],
)
def test_clean_drops_only_separators_of_thousands(text, cleaned):
  assert answers.clean(text) == cleaned


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("x" * 501, "too long"),
    ("5" * 201, "too many digits"),
    ("(" * 21 + "5" + ")" * 21, "too deep"),
    ("\u0664", "unreadable"),
    ("4\x002", "unreadable"),
  ],
)
def test_fit_refuses_what_could_hold_up_a_parser(text, reason):
  with pytest.raises(answers.UnfitError, match=f"^{reason}$"):
    answers.fit(text)


@pytest.mark.parametrize(
  "text", ["x" * 500, "5" * 200, "(" * 20 + "5" + ")" * 20, r"\frac12"]
)
def test_fit_passes_what_is_within_its_limits(text):
  assert answers.fit(text) == text


@pytest.mark.parametrize(
  ("text", "bare"),
  [
    ("x^{2} + 1", "x^2+1"),
    ("x^{12}", "x^{12}"),
    ("1011_{2}", "1011_2"),
    (r"\text{Friday}", "Friday"),
    ("4 2", "4 2"),
    ("4 x 2", "4x2"),
  ],
)
def test_skeleton_drops_only_what_is_needless(text, bare):
  assert answers.skeleton(text) == bare
