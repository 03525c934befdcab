r"""One spelling for LaTeX that can be spelled in many ways."""

import pytest

from pkpo_jax.tasks.grading.latex import spelling


@pytest.mark.parametrize(
  ("text", "cleaned"),
  [
    (r" $\dfrac{1}{2}$. ", r"\frac{1}{2}"),
    (r"\tfrac12", r"\frac{1}{2}"),
    (r"\left[1,2\right)", "[1,2)"),
    (r"\mathrm{cm}", r"\text{cm}"),
    (r"\lbrace 1 \rbrace", r"\{ 1 \}"),
    (r"\langle 1,2\rangle", "( 1,2)"),
    (r"x \leq 1", r"x \le 1"),
    ("x >= 1", r"x \ge 1"),
    (r"1 \\ 2", r"1 \cr 2"),
    ("2\u03c0", r"2\pi"),
    ("\u22125\u00b2", "-5^2"),
    ("1 and 2", r"1 \land 2"),
    (r"1 \text{ or } 2; 3", r"1 \lor 2, 3"),
    (r"\$5", "5"),
    (r"\text{42 apples}", r"42\text{ apples}"),
    (r"\mathrm{42\ km}", r"42\text{ km}"),
    (r"\text{42\%}", r"42\%"),
    (r"\textcolor{red}{24}", "{24}"),
    (r"x\cdot\color{red}y", r"x\cdot y"),
    (r"\underline{18}", "{18}"),
    (r"\mathbf{(C)}", "(C)"),
    ("42\u200b.", "42"),
    ("\uff08\uff11\uff0c2\uff09", "(1,2)"),
    ("24\u3002", "24"),
    ("\u20113", "-3"),
    (r"\mathbb R", r"\mathbb{R}"),
    (r"{x+1 \over 2}", r"{\frac{x+1 }{ 2}}"),
    (r"\frac{{1}}{{2}}", r"\frac{1}{2}"),
    (r"\{{1}\}", r"\{{1}\}"),
    ("band", "band"),
    (r"\land", r"\land"),
  ],
)
def test_clean_knows_one_spelling(text, cleaned):
  assert spelling.clean(text) == cleaned
  assert spelling.clean(cleaned) == cleaned


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
  assert spelling.clean(text) == cleaned


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
  with pytest.raises(spelling.UnfitError, match=f"^{reason}$"):
    spelling.fit(text)


@pytest.mark.parametrize(
  "text", ["x" * 500, "5" * 200, "(" * 20 + "5" + ")" * 20, r"\frac{1}{2}"]
)
def test_fit_passes_what_is_within_its_limits(text):
  assert spelling.fit(text) == text


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
  assert spelling.skeleton(text) == bare
