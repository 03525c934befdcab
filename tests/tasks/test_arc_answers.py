import time

import pytest

from pkpo_jax.tasks import arc_answers

GRID = ("012", "345")


def read(text, num_rows=2):
  return arc_answers.last_grid(text, num_rows)


@pytest.mark.parametrize(
  "text",
  [
    "012\n345",
    "0 1 2\n3 4 5",
    "0  1 2\n3   4 5",
    "0\t1\t2\n3\t4\t5",
    "0,1,2\n3,4,5",
    "0, 1, 2\n3, 4, 5\n",
    "[[0, 1, 2], [3, 4, 5]]",
    "[[0,1,2],\n [3,4,5]]",
    "[\n  [0, 1, 2],\n  [3, 4, 5]\n]",
    "[[0 1 2]\n [3 4 5]]",
    "(0, 1, 2)\n(3, 4, 5)",
    "{{0,1,2}\n{3,4,5}}",
    '["012",\n"345"]',
    "['0', '1', '2']\n['3', '4', '5']",
    "|012|\n|345|",
    "|0|1|2|\n|3|4|5|",
    "| 0 | 1 | 2 |\n|---|---|---|\n| 3 | 4 | 5 |",
    "0|1|2\n3|4|5",
    "Row 1: 012\nRow 2: 345",
    "Row 1: 0 1 2\nRow 2: 3 4 5",
    "1: 0 1 2\n2: 3 4 5",
    "Output: 012\n345",
    "**Output:** 012\n345",
    "The output grid is: 012\n345",
    "Output:\n012\n345",
    "012\n345<end_of_turn>",
    "012\n345</s>",
    "012\n345<|im_end|>",
    "012\n345[DONE]",
    "`012`\n`345`",
    "012\r\n345\r",
    "Input: 999\n999\nOutput: 012\n345",
    "999\n999\nOutput: 012\n345",
    # Behind words, or in marks.
    "output = [[0, 1, 2], [3, 4, 5]]",
    "output_grid = np.array([[0, 1, 2],\n  [3, 4, 5]])",
    "The output is [[0,1,2],[3,4,5]].",
    "So the answer is: [[0,1,2],[3,4,5]]",
    "From the input we see that the **answer** is `[[0,1,2],[3,4,5]]`.\r\n",
    "array([[0, 1, 2],\n [3, 4, 5]])",
    '{"output": [[0, 1, 2], [3, 4, 5]]}',
    "[\n [\n 0,\n 1,\n 2\n ],\n [\n 3,\n 4,\n 5\n ]\n]",
    "Input: [[9], [9]]\nOutput: [[0, 1, 2], [3, 4, 5]]",
    "[[9, 9], [9, 9]]\nOutput: [[0, 1, 2], [3, 4, 5]]",
    "<answer>012\n345</answer>",
    "9\n9\n<answer>012\n345</answer>",
    "<answer>[[0, 1, 2], [3, 4, 5]]</answer>",
    "<answer>\n012\n345\n</answer>",
    "</think>012\n345",
    # Grids that are not said to be the answer.
    "012\n345\nThe input was [[9, 9], [9, 9]].",
    "012\n345\nThe input grid is [[9, 9], [9, 9]].",
    "012\n345\nThe answer [[9, 9], [9, 9]] would be too small.",
    "012\n345\ntest_input = np.array([[9, 9], [9, 9]])",
    # Lines of digits behind it.
    "012\n345\n\n7",
    "012\n345\n\n2024\nEnd.",
    "012\n345\n```\n0 1 2",
  ],
)
def test_a_grid_in_all_its_dresses(text):
  assert read(text) == GRID


@pytest.mark.parametrize(
  "text",
  [
    "",
    "012 345",
    "01 2\n34 5",
    "-012\n-345",
    "0.12\n3.45",
    "It is 012 and then 345.",
    "a: 012\nb: 345",
    "Step 1: 012",
    "012!\n345!",
    "\uff10\uff11\n\uff12\uff13",
    "0;x;1\n2;y;3",
    "[3, 4, 'a']]",
  ],
)
def test_what_is_no_grid(text):
  assert read(text) == ()


def test_one_line_is_a_grid_where_one_is_asked_for():
  text = "First\n777\n777\nso it is\n012"
  assert read(text, num_rows=1) == ("012",)
  assert read(text, num_rows=2) == ("777", "777")
  assert read("Output: 012", num_rows=1) == ("012",)
  assert read("5", num_rows=3) == ("5",)


@pytest.mark.parametrize(
  ("text", "grid"),
  [
    ("12\n345", ("12", "345")),  # the task says what is wrong with it
    ("012\n345\n678\n900", ("012", "345", "678", "900")),
    ("012\n\n345\n678", ("345", "678")),
    ("01\n23\nScore: 9", ("01", "23")),
    ("10\n20\n30", ("10", "20", "30")),
  ],
)
def test_other_grids(text, grid):
  assert read(text) == grid


@pytest.mark.parametrize(
  "text",
  ["[[0]," * 10**5, "[" * 10**6, "[ " * 10**6, "[[0],[0]] " * 10**4,
   "[[" + "0," * 10**6, "[[0]" + "\n" * 10**6, "<a>" * 10**6,
   "output = " * 10**5 + "[[0]]"],
  ids=range(8),
)  # fmt: skip
def test_no_answer_is_slow_to_read(text):
  start = time.process_time()
  read(text)
  assert time.process_time() - start < 3
