"""What a worker does with a grading function, in this process."""

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
  assert worker._grade(grade, ("",)) == (0.0, True, "error: ZeroDivisionError")
  assert worker._grade(grade, (3,)) == (0.0, True, "error: TypeError")


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
