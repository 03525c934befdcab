import os
import resource
import subprocess
import sys

import pytest

from pkpo_jax.tasks.grading import open_files
from pkpo_jax.tasks.grading.workers import pool


@pytest.fixture
def limits(monkeypatch):
  """The limits of this process as `limits` says, and who sets them."""
  state = {"now": (100, 1000)}
  monkeypatch.setattr(resource, "getrlimit", lambda _: state["now"])
  monkeypatch.setattr(
    resource, "setrlimit", lambda _, new: state.update(now=new)
  )
  monkeypatch.setattr(os, "listdir", lambda _: ["0"] * 20)
  return state


def test_a_low_soft_limit_is_raised_as_far_as_needed(limits):
  open_files.allow(8, 10)
  assert limits["now"] == (20 + 100 + 80, 1000)
  open_files.allow(8, 5)
  assert limits["now"] == (200, 1000)


@pytest.mark.parametrize("limit", [(resource.RLIM_INFINITY,) * 2, (300, 300)])
def test_what_is_enough_stays(limits, limit):
  limits["now"] = limit
  open_files.allow(8, 22)
  assert limits["now"] == limit


def test_a_low_hard_limit_is_refused_with_the_remedies(limits):
  message = r"num_workers=220 .* 1880 .* num_workers=110, .* `ulimit -Hn 1880`"
  with pytest.raises(ValueError, match=message):
    open_files.allow(8, 220)
  limits["now"] = (110, 120)
  with pytest.raises(ValueError, match=r"may open 120: raise it"):
    open_files.allow(8, 1)


@pytest.mark.bwrap
def test_as_many_workers_as_fit_grade_and_more_are_refused():
  """Under a real limit, in a process of its own."""
  script = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
from pkpo_jax.tasks import base, code_task, unit_tests
from pkpo_jax.tasks.grading.sandbox import sandbox
def task(num_workers):
  return code_task.CodeTask(
    {}, sandbox.Sandbox(), reward="binary", num_workers=num_workers)
try:
  task(220)
except ValueError as error:
  print(error)
tests = unit_tests.from_sources(["assert f(1) == 2"], "f")
problem = base.Problem("", "", "", tests)
answers = [f"def f(x): return x + 1  # {i}" for i in range(30)]
rewards, valid = task(7).grade_batch([problem], [answers])
print(rewards.min(), valid.all())
"""
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True
  )
  refusal, grades = done.stdout.splitlines()
  assert "num_workers=220" in refusal and "ulimit" in refusal
  assert grades == "1.0 True", done.stderr


def test_a_pool_refuses_too(limits):
  with pytest.raises(ValueError, match="num_workers=500 may open"):
    pool.Pool("graders:behave", num_workers=500)
