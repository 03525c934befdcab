"""Tasks by their names, our own and those of users."""

import re
import sys

import numpy as np
import pytest

from pkpo_jax import tasks
from pkpo_jax.tasks import base, countdown

OWN = """
from pkpo_jax.tasks import base
class Own(base.BaseTask):
  def __init__(self, *, count=1):
    super().__init__({"train": [base.Problem("a", "", "", 0)] * count})
  def grade(self, problem, completion):
    return base.Grade(1.0, True, "fine")
class Annotated(Own):
  def __init__(self, *, count: int | None = 1): super().__init__(count=count)
def make(count):
  return Own(count=2 * count)
class Poor:
  start = None
  def problems(self, split): return []
  def grades(self, problems, completions): return []
THING = 3
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  (tmp_path / "own_tasks_of_a_user.py").write_text(OWN)
  yield
  sys.modules.pop("own_tasks_of_a_user", None)


def test_our_tasks_have_names():
  task = tasks.get_task("countdown", num_train=1, num_test=1)
  assert isinstance(task, countdown.Countdown)
  assert isinstance(task, base.WordTask)


@pytest.mark.parametrize("name", tasks._TASKS)
def test_our_tasks_share_what_the_base_class_does(name):
  """So that its tests are theirs."""
  for method in ("problems", "grade_batch"):
    ours = getattr(tasks._TASKS[name], method)
    assert ours is getattr(base.BaseTask, method)


@pytest.mark.parametrize("name", ["count", None])
def test_unknown_names_are_errors(name):
  with pytest.raises(ValueError, match=rf"{name!r}; known: arc, .*module:name"):
    tasks.get_task(name)


def test_unknown_options_are_errors():
  with pytest.raises(TypeError, match="num_dev"):
    tasks.get_task("countdown", num_dev=3)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("countdown", {"seed": "abc"}),
    ("countdown", {"num_train": 2.5}),
    ("countdown", {"num_test": True}),
    ("countdown", {"numbers": ("a",)}),
    ("countdown", {"numbers": 4}),
    ("mazes", {"detours": "no"}),
    ("gsm8k", {"path": 5}),
    ("gsm8k", {"path": "x", "num_train": "all"}),
    ("own_tasks_of_a_user:Annotated", {"count": "three"}),
  ],
)
def test_options_of_another_kind_are_named(name, options):
  *_, (option, value) = options.items()
  with pytest.raises(
    ValueError, match=re.escape(f"{option}={value!r} must be")
  ):
    tasks.get_task(name, **options)


def test_a_default_is_of_the_right_kind_whatever_it_is_annotated_with():
  def make_own(limit: int = None):  # noqa: RUF013
    """As people write it."""

  tasks._check_kinds(make_own, {"limit": None})
  with pytest.raises(ValueError, match="the option limit='1' must be int"):
    tasks._check_kinds(make_own, {"limit": "1"})


def test_options_of_the_right_kind_are_taken():
  options = {"partial": 0, "num_train": np.int32(3), "num_test": 1}
  assert len(tasks.get_task("mazes", **options).problems("train")) == 3


@pytest.mark.parametrize(("name", "count"), [("Own", 3), ("make", 6)])
def test_a_class_or_a_function_makes_a_task_of_a_user(name, count):
  task = tasks.get_task(f"own_tasks_of_a_user:{name}", count=3)
  problems = task.problems("train")
  assert len(problems) == count
  rewards, valid = task.grade_batch(problems[:1], [["x"]])
  assert rewards.tolist() == [[1.0]] and valid.all()
  with pytest.raises(TypeError, match="size"):
    tasks.get_task(f"own_tasks_of_a_user:{name}", size=3)


def test_what_has_not_the_methods_of_a_task_is_an_error_that_names_them():
  missing = "grade, grade_batch, start, close; .*BaseTask has all but `grade`"
  with pytest.raises(ValueError, match=f":Poor' lacks the methods {missing}"):
    tasks.get_task("own_tasks_of_a_user:Poor")


@pytest.mark.parametrize(
  "name", ["own_tasks_of_a_user:none", "own_tasks_of_a_user:THING", "no_one:T"]
)
def test_what_cannot_be_had_is_an_error(name):
  with pytest.raises(ValueError, match=f"The task {name!r}"):
    tasks.get_task(name)
