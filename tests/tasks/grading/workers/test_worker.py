"""What a worker does with a grading function, in this process."""

import ast
import decimal
import math
import sys

import numpy as np
import pytest

from pkpo_jax.tasks.grading.workers import worker


@pytest.mark.parametrize(
  ("result", "grade"),
  [
    ((0.5, True, "half"), (0.5, True, "half")),
    ([1, 0, "broken"], (1.0, False, "broken")),
    (0.25, (0.25, True, "graded")),
    (True, (1.0, True, "graded")),
    (-3, (-3.0, True, "graded")),
    (np.float32(0.5), (0.5, True, "graded")),
    ((np.float32(0.5), np.bool_(False), "x"), (0.5, False, "x")),
    ("1.0", (0.0, False, "the grader returned str")),
    (("1", True, "x"), (0.0, False, "the grader returned tuple")),
    ((1.0, True, None), (0.0, False, "the grader returned tuple")),
    ({"reward": 1}, (0.0, False, "the grader returned dict")),
    (decimal.Decimal(1), (0.0, False, "the grader returned Decimal")),
    (None, (0.0, False, "the grader returned NoneType")),
    (np.bool_(True), (1.0, True, "graded")),
    ((np.float64(0.5), np.bool_(True), "x"), (0.5, True, "x")),
    (math.nan, (0.0, False, "the grader returned the reward nan")),
    ((math.inf, True, "x"), (0.0, False, "the grader returned the reward inf")),
  ],
)
def test_a_grade_is_a_number_or_three_fields(result, grade):
  found = worker._grade(lambda answer: result, ("answer",))
  assert found == grade
  assert list(map(type, found)) == [float, bool, str]


def test_an_exception_is_the_fault_of_the_answer():
  def grade(answer):
    return 1 / len(answer)

  assert worker._grade(grade, ("ab",)) == (0.5, True, "graded")
  for answer, error in (("", "ZeroDivisionError: "), (3, "TypeError: object ")):
    reward, valid, reason = worker._grade(grade, (answer,))
    assert (reward, valid) == (0.0, True)
    assert reason.startswith(f"error: {error}")


@pytest.mark.parametrize(
  ("read", "answer"),
  [(eval, "no_such_name"), (eval, "1 +"), (ast.parse, "("), (exec, "import x")],
)
def test_an_answer_that_is_no_source_is_not_the_mistake_of_a_grader(
  read, answer
):
  _, valid, reason = worker._grade(read, (answer,))
  assert valid and reason.startswith("error: ")


def test_what_cannot_run_at_all_is_the_mistake_of_a_grader(
  tmp_path, monkeypatch
):
  (tmp_path / "broken_module_.py").write_text("def f(:")
  monkeypatch.syspath_prepend(str(tmp_path))

  def use_later(answer):
    if answer:
      found = answer
    return found

  def import_broken(answer):
    import broken_module_  # noqa: F401

  def import_absent(answer):
    import no_such_module  # noqa: F401

  for grade, error in (
    (use_later, "UnboundLocalError: "),
    (import_absent, "ModuleNotFoundError: No module named 'no_such_module'"),
    (import_broken, "SyntaxError: "),
  ):
    reward, valid, reason = worker._grade(grade, ("",))
    assert (reward, valid) == (0.0, False)
    assert reason.startswith(f"the grader raised {error}")


def test_reasons_are_short():
  def grade(answer):
    raise ValueError("x" * 10_000)

  assert len(worker._grade(grade, ("",))[2]) < 300


@pytest.mark.parametrize(
  "grade", [lambda: 1.0, lambda a: 1.0, lambda a, *, b: 1]
)
def test_other_parameters_are_not(grade):
  reason = "the grader does not take 2 arguments"
  assert worker._grade(grade, ("a", "b")) == (0.0, False, reason)


def test_imports_the_module_with_its_packages_empty(tmp_path, monkeypatch):
  package = tmp_path / "heavy_package"
  package.mkdir()
  (package / "__init__.py").write_text("raise ImportError('heavy')")
  (package / "light.py").write_text("def grade(): return 'light'")
  monkeypatch.setattr(sys, "path", sys.path)
  before = {*sys.modules}
  grade = worker._load(
    "heavy_package.light:grade", sys.path[:], {"heavy_package": [str(package)]}
  )
  assert grade() == "light"
  assert {*sys.modules} - before == {"heavy_package", "heavy_package.light"}
  for name in {*sys.modules} - before:
    del sys.modules[name]


def test_what_is_no_function_is_an_error():
  with pytest.raises(TypeError, match="'os:sep' is str, not a function"):
    worker._load("os:sep", sys.path[:], {})
