r"""Finding the final answer in a completion."""

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
    (r"\\\\boxed{7}", "7"),
    (r"\boxed7", "7"),
    ("Therefore, the answer (arabic numerals) is 70.", "70"),
    ("The answer to the question is 70.", "70"),
    ("We will answer the question: how many?", None),
    ("The answer is not 46.", "not 46"),
    ("Answer:\n70", "70"),
    ("## Final Answer\n\n70\n", "70"),
    ("The answer is:\n$$\n70\n$$\n", "70"),
    ("The answer is 70, so we are done.", "70"),
    ("The answer is 45, because 46 - 1 is 45.", "45, because 46 - 1 is 45"),
    ("The answer is 70!", "70"),
    (r"The answer is $\frac12.$ I hope so.", r"$\frac12"),
    ("#### Step 1\nAdd.\n**Answer: 18**", "18"),
    ("#### The answer is 18", "18"),
    ("#### Friday\nI hope so.", "Friday"),
    ("\\boxed{18}\n\nQ: 2+3?\nA: \\boxed{5}", "18"),
    ("Problem: 2+3?\nSo \\boxed{5}.\n\nProblem 2: \\boxed{6}", "5"),
    ("\\boxed{5} but \\boxed{6\n\nQ: \\boxed{5}", None),
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
