import os
import subprocess
import time
import uuid

import numpy as np
import pytest
from helpers import hostile_code, hostile_mechanisms, processes

from pkpo_jax.tasks import base, code_task, humaneval, unit_tests
from pkpo_jax.tasks.grading.sandbox import container, sandbox

CHECK = """
def check(candidate):
  import random
  assert True, "counts for nothing"
  assert candidate(20123, 4567) == 24690
  assert candidate(5, -79) == -74, "with a message"
  assert abs(candidate(0.5, 0.25) - 0.75) < 1e-6
  for _ in range(5):
    a = random.randint(10**6, 10**7)
    assert candidate(a, 1000) == add(a, 1000)
"""
ASSERTS = unit_tests.from_sources(
  [
    "assert add(20123, 4567) == 24690",
    "assert add(5, -79) == -74",
    "assert add(0.5, 0.25) == 0.75",
  ],
  "add",
)
PROBLEMS = [
  base.Problem("mbpp", "", "", ASSERTS),
  humaneval.to_problem(
    {
      "task_id": "humaneval",
      "prompt": 'def add(a, b):\n    """The sum."""\n',
      "canonical_solution": "    return a + b\n",
      "entry_point": "add",
      "test": CHECK,
    },
    humaneval.INSTRUCTION,
  ),
]
HOSTILE = hostile_code.CODE | hostile_mechanisms.CODE
HONEST = "```python\ndef add(a, b): return a + b\n```"


class Open:
  """No sandbox at all, for what is known to be harmless."""

  def __init__(self):
    self.runs = []

  def run(self, sources, calls, on_sleep):
    self.runs.append(sources)
    namespace = {}
    for source in sources:
      exec(source if isinstance(source, str) else source.text, namespace)
    return tuple(sandbox.Value(eval(call, namespace)) for call in calls)


def grader(limits=None):
  return code_task.CodeTask(
    {}, sandbox.Sandbox(limits), reward="fraction", num_workers=2
  )


def zombies():
  """Children of this process that nobody has waited for."""
  listing = subprocess.run(
    ["ps", "--ppid", str(os.getpid()), "-o", "stat="],
    capture_output=True,
    text=True,
  ).stdout
  return [line for line in listing.split("\n") if line.startswith("Z")]


def assert_worthless(problems, programs, monkeypatch):
  """Grades hostile programs among honest ones, and looks what is left."""
  mark = uuid.uuid4().hex
  text = f"{container.HARNESS}# {mark}\n"
  monkeypatch.setattr(container, "HARNESS", text)
  task = grader(sandbox.Limits(cpu_seconds=1, sleep_seconds=0.3))
  answers = [f"`````\n{source}\n`````" for source in programs.values()]
  honest = [HONEST + f"\nversion {i}" for i in range(3)]
  rewards, valid = task.grade_batch(
    problems, [answers + honest] * len(problems)
  )
  names = np.array([*programs])
  for row in rewards:
    assert names[row[:-3] > 0].tolist() == []
  np.testing.assert_array_equal(rewards[:, -3:], 1)
  assert valid.all()
  processes.wait_until_gone(mark)
  assert zombies() == []


def test_the_corpus_is_large():
  assert len(HOSTILE) == len(hostile_code.CODE) + len(hostile_mechanisms.CODE)
  assert len(hostile_mechanisms.CODE) >= 60


@pytest.mark.bwrap
@pytest.mark.slow
def test_hostile_answers_earn_nothing_and_harm_nobody(monkeypatch):
  assert_worthless(PROBLEMS[:1], hostile_mechanisms.CODE, monkeypatch)


@pytest.mark.bwrap
@pytest.mark.slow
@pytest.mark.verify("pkpo_jax/tasks", "tests/helpers/hostile_mechanisms.py")
def test_every_hostile_answer_on_every_problem(monkeypatch):
  assert_worthless(PROBLEMS, HOSTILE, monkeypatch)


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("test", "forged"),
  [
    ("assert valid(f(3))", "class A:\n  def __eq__(s, o): return True\n"),
    ("assert valid(f(3)) == True", "valid = lambda x: True\nA = int\n"),
    ("assert all(f(3))", "all = lambda x: True\ndef A(): return [0]\n"),
    ("assert len(f(3)) == 3", "len = lambda x: 3\ndef A(): return [0]\n"),
  ],
)
def test_an_answer_cannot_judge_itself(test, forged):
  """Neither by its own functions nor by those that the setup would give it."""
  setup = "RIGHT = [1, 2, 3]\ndef valid(x): return x == RIGHT"
  setup = setup if "valid" in test else ""
  tests = unit_tests.from_sources([test], "f", setup=setup)
  problem = base.Problem("own", "", "", tests)
  answers = [
    "def f(n): return [1, 2, 3]",
    forged + "def f(n): return A()",
    "def f(n): return RIGHT",
  ]
  rewards, valid = grader().grade_batch([problem], [answers])
  assert rewards.tolist() == [[1, 0, 0]]
  assert valid.all()


@pytest.mark.bwrap
@pytest.mark.parametrize(
  "test",
  [
    "assert 10 ** f(3) == 1000",
    "assert len('a' * f(3)) == 3",
    "assert sum(range(f(3))) == 3",
    "assert down(f(3)) == 0",
  ],
)
def test_a_huge_value_does_not_hold_up_who_computes_with_it(test):
  """Evaluated out here, the first would take hours."""
  setup = "def down(n):\n  while n: n -= 1\n  return n"
  setup = setup if "down" in test else ""
  tests = unit_tests.from_sources([test], "f", setup=setup)
  problem = base.Problem("own", "", "", tests)
  answers = ["def f(n): return n", "def f(n): return 10 ** 10"]
  start = time.monotonic()
  rewards, valid = grader(sandbox.Limits(cpu_seconds=1)).grade_batch(
    [problem], [answers]
  )
  assert time.monotonic() - start < 30
  assert rewards.tolist() == [[1, 0]]
  assert valid.all()


@pytest.mark.bwrap
def test_a_generator_is_as_good_as_a_list_where_it_is_iterated_alone():
  problem = base.Problem(
    "own", "", "", unit_tests.from_sources(["assert all(f(3))"], "f")
  )
  answers = ["def f(n): yield n", "def f(n): yield from (n, 0)"]
  rewards, _ = grader().grade_batch([problem], [answers])
  assert rewards.tolist() == [[1, 0]]


@pytest.mark.bwrap
@pytest.mark.slow
def test_sleepers_do_not_hold_up_honest_answers():
  """One in ten sleeps until its end; nobody else is late for it."""
  honest = [HONEST + f"\nversion {i}" for i in range(120)]
  sleeps = "import time\ndef add(a, b): time.sleep(100)  # "
  attacked = [*honest]
  attacked[::10] = [f"{sleeps}{i}" for i in range(12)]
  task = grader()
  seconds = []
  for answers in (honest, attacked):
    start = time.monotonic()
    (grades,) = task.grades(PROBLEMS[:1], [answers])
    seconds.append(time.monotonic() - start)
    assert all(g.reward == (a in honest) for g, a in zip(grades, answers))
  # Less what the last of them wait for in vain.
  assert seconds[1] - 1.5 < 2 * seconds[0]


@pytest.mark.bwrap
@pytest.mark.parametrize(
  "command", [["/bin/false"], ["/no/such/program"], ["/bin/sleep", "9"]]
)
def test_a_broken_sandbox_is_invalid_not_wrong(monkeypatch, command):
  monkeypatch.setattr(sandbox, "_START_SECONDS", 1.0)
  task = grader()
  task._sandbox._commands = (command, [])
  failed = base.Grade(0.0, False, "sandbox did not start")
  no_code = base.Grade(0.0, True, "no code")
  assert task.grades(PROBLEMS, [[HONEST, "x"]] * 2) == [[failed, no_code]] * 2


def test_equal_answers_run_once():
  box = Open()
  task = code_task.CodeTask({}, box, reward="fraction", num_workers=2)
  right = base.Grade(1.0, True, "right")
  assert task.grades(PROBLEMS, [[HONEST] * 5] * 2) == [[right] * 5] * 2
  assert len(box.runs) == 2


@pytest.mark.parametrize(
  ("reward", "expected"), [("fraction", 2 / 3), ("binary", 0.0)]
)
def test_rewards(reward, expected):
  task = code_task.CodeTask({}, Open(), reward=reward, num_workers=None)
  answer = "def add(a, b): return a + b if b != -79 else 0"
  grade = task.grade(PROBLEMS[0], answer)
  assert grade == base.Grade(expected, True, "wrong value")
  assert task.grade(PROBLEMS[0], HONEST) == base.Grade(1.0, True, "right")


def test_options_are_checked():
  box = Open()
  with pytest.raises(ValueError, match=r"'half'; known: fraction, binary"):
    code_task.CodeTask({}, box, reward="half", num_workers=1)
  with pytest.raises(ValueError, match="num_workers=0"):
    code_task.CodeTask({}, box, reward="binary", num_workers=0)
