import os
import subprocess
import time
import uuid

import numpy as np
import pytest
from helpers import hostile_code, processes

from pkpo_jax.tasks import base, code_task, humaneval, mbpp
from pkpo_jax.tasks.grading.sandbox import sandbox

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
ASSERTS = mbpp.Asserts(
  "add",
  "",
  ("add(20123, 4567)", "add(5, -79)", "add(0.5, 0.25)"),
  (24690, -74, 0.75),
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
HONEST = "```python\ndef add(a, b): return a + b\n```"


class Open:
  """No sandbox at all, for what is known to be harmless."""

  def __init__(self):
    self.runs = []

  def run(self, sources, calls):
    self.runs.append(sources)
    namespace = {}
    for source in sources:
      exec(source, namespace)
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


@pytest.mark.bwrap
@pytest.mark.slow
def test_hostile_answers_earn_nothing_and_harm_nobody(monkeypatch):
  mark = uuid.uuid4().hex
  text = f"{sandbox._HARNESS}# {mark}\n"
  monkeypatch.setattr(sandbox, "_HARNESS", text)
  task = grader(sandbox.Limits(cpu_seconds=1, wall_seconds=2.0))
  assert len(hostile_code.CODE) >= 45
  answers = [f"```\n{source}\n```" for source in hostile_code.CODE.values()]
  honest = [HONEST + f"\nversion {i}" for i in range(3)]
  started = time.monotonic()
  rewards, valid = task.grade_batch(PROBLEMS, [answers + honest] * 2)
  seconds = time.monotonic() - started
  names = np.array([*hostile_code.CODE])
  for row in rewards:
    assert names[row[:-3] > 0].tolist() == []
  np.testing.assert_array_equal(rewards[:, -3:], 1)
  assert valid.all()
  runs = rewards.size / task._num_workers
  assert seconds < 3 * runs, "an answer held up the others"
  processes.wait_until_gone(mark)
  assert zombies() == []


@pytest.mark.bwrap
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.id)
def test_some_hostile_answers_quickly(problem):
  names = (
    "leaves in the call",
    "always equal",
    "lying int",
    "writes to all descriptors",
    "searches the heap",
    "patches builtins",
    "writes a gigabyte",
    "kills everyone",
    "leaves a daemon",
    "asks the network",
  )
  answers = [f"```\n{hostile_code.CODE[name]}\n```" for name in names]
  rewards, valid = grader().grade_batch([problem], [[*answers, HONEST]])
  assert rewards.tolist() == [[0.0] * len(names) + [1.0]]
  assert valid.all()


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
