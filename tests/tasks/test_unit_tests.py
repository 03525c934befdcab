import math

import pytest

from pkpo_jax.tasks import unit_tests
from pkpo_jax.tasks.grading.sandbox import sandbox


def run(sources, calls):
  """No sandbox at all, for what is known to be harmless."""
  namespace, results = {}, []
  for source in sources:
    exec(source, namespace)
  for call in calls:
    try:
      results.append(sandbox.Value(eval(call, namespace)))
    except Exception:
      results.append(sandbox.Failure("raised"))
  return results


def never(sources, calls):
  raise AssertionError(f"a sandbox for {calls}")


def held(test, *values, run=run, **options):
  """Whether a test of `f` holds if its calls give these values."""
  asserts = unit_tests.from_sources([test], "f", **options)
  return asserts.passed([sandbox.Value(value) for value in values], run)[0]


@pytest.mark.parametrize(
  ("test", "calls", "expression"),
  [
    ("assert f(1, x=[2]) == 3", ["f(1, x=[2])"], "__equal__(__values__[0], 3)"),
    ("assert set(f(1)) == {2}", ["set(f(1))"], "__equal__(__values__[0], {2})"),
    ("assert f(f(1)) != 0, 'no'", ["f(f(1))"], "__values__[0] != 0"),
    ("assert not f([1])", ["f([1])"], "not __values__[0]"),
    ("assert abs(f(1) - 3.3) < .1", ["f(1)"], "abs(__values__[0] - 3.3) < 0.1"),
    ("assert f(1) == f(2)", ["f(1)", "f(2)"],
     "__equal__(__values__[0], __values__[1])"),
    ("assert math.isclose(f(g(1)), 2.5)", ["f(g(1))"],
     "math.isclose(__values__[0], 2.5)"),
    ("assert f(1)[0].lower() == 'a'", ["f(1)"],
     "__equal__(__values__[0][0].lower(), 'a')"),
    ("assert f(1) is True and f(2) in (3, 4)", ["f(1)", "f(2)"],
     "__values__[0] is True and __values__[1] in (3, 4)"),
    # A verdict is given outside, whatever a name means to the answer.
    ("assert all(f(1))", ["list(f(1))"], "all(__values__[0])"),
    ("assert all(x > 0 for x in f(1))", ["list(f(1))"],
     "all((x > 0 for x in __values__[0]))"),
    ("assert len(f(1)) == 3", ["f(1)"], "__equal__(len(__values__[0]), 3)"),
    ("assert g(sorted(f(1)))", ["sorted(f(1))"], "g(__values__[0])"),
    ("assert max(f(1)) == 3", ["max(f(1))"], "__equal__(__values__[0], 3)"),
  ],
)  # fmt: skip
def test_calls_go_in_and_what_is_expected_stays_out(test, calls, expression):
  asserts = unit_tests.from_sources([test], "f")
  assert asserts.calls == tuple(calls)
  assert asserts.tests == (expression,)


@pytest.mark.parametrize(
  ("test", "values", "expected"),
  [
    ("assert f(1) == 2", [2], True),
    ("assert f(1) == 2", [3], False),
    ("assert not f(1)", [[]], True),
    ("assert abs(f(1) - 3.3) < .1", ["text"], False),
    ("assert f(1)[5] == 1", [[1]], False),
    ("assert f(1) == f(2)", [1, 1], True),
    ("assert f(1) == f(2)", [1, 2], False),
    ("assert sorted(f(1)) == [1, 2]", [[1, 2]], True),
  ],
)
def test_expressions_are_evaluated_on_the_values(test, values, expected):
  assert held(test, *values) == expected


def test_a_call_without_a_value_fails_its_test_alone():
  asserts = unit_tests.from_sources(["assert f(1)", "assert f(2) or 1"], "f")
  failure = sandbox.Failure("raised")
  assert asserts.passed([sandbox.Value(1), failure], never) == [True, False]
  assert asserts.passed([failure, sandbox.Value(0)], never) == [False, True]
  asserts = unit_tests.from_sources(["assert abs(f(1))"] * 2, "f")
  assert asserts.passed([sandbox.Value(1), failure], run) == [True, False]


@pytest.mark.parametrize(
  ("test", "only_compares"),
  [
    ("assert f(1) == (2, [3])", True),
    ("assert not f(1) or f(2)[1:] is None and -f(3) in {4}", True),
    ("assert 10 ** f(3) == 1000", False),
    ("assert f(3) * 'a' == 'aaa'", False),
    ("assert f'{1:{f(3)}}' == '  1'", False),
    ("assert 'a'.ljust(f(1)) == 'a'", False),
    ("assert sum(range(f(3))) == 3", False),
    ("assert [x for x in f(3)] == [1]", False),
    ("assert valid(f(3))", False),
  ],
)
def test_what_computes_with_the_values_does_so_in_a_sandbox(
  test, only_compares
):
  """A value may be huge."""
  runs = []

  def counting(sources, calls):
    runs.extend(calls)
    return run(sources, calls)

  held(test, *[3] * test.count("f("), run=counting)
  assert bool(runs) != only_compares


@pytest.mark.parametrize(
  "value", [math.inf, {(1, 2): {3.5}}, "'\n\ud800", 1 + 2j, [None, True]]
)
def test_values_come_as_they_are_into_the_sandbox_of_a_test(value):
  options = {"evaluate": lambda text: value, "imports": "import math"}
  assert held("assert [f(1)][0] == x", value, **options)
  assert held("assert repr(f(1)) == repr(f(2))", value, value)


def test_a_value_nested_too_deeply_is_no_right_one():
  value = []
  for _ in range(900):
    value = [value]
  assert not held("assert len(f(1)) == 1", value)


def test_imports_and_values_that_are_no_literals():
  test = "assert math.floor(f(1)) == math.floor(2.5)"
  options = {"imports": "import math", "evaluate": lambda text: len(text)}
  assert held(test, 15.5, **options)  # the length of "math.floor(2.5)"
  assert not held(test, 2.5, **options)
  assert held("assert math.isclose(f(1), 2)", 2.0, imports="import math")


SETUP = """
import math
BEST = 3.0
SIZE = 2
def close(x): return math.isclose(x, BEST)
def right(x): return close(x) and SIZE
root = [SIZE]
root.append(math.pi)
"""


def test_what_the_tests_use_of_the_setup_stays_outside():
  """So that no answer can read or replace it."""
  asserts = unit_tests.from_sources(
    ["assert right(f(root))"], "f", setup=SETUP, imports="import os"
  )
  assert asserts.calls == ("f(root)",)
  assert asserts.setup == (
    "import math\nSIZE = 2\nroot = [SIZE]\nroot.append(math.pi)"
  )
  assert asserts.imports.startswith("import os\nimport math\nBEST = 3.0\n")
  assert "root" not in asserts.imports
  assert asserts.passed([sandbox.Value(3.0)], run) == [True]
  assert asserts.passed([sandbox.Value(2.0)], run) == [False]


def test_other_setups_stay_as_they_are():
  for setup in (SETUP, "import numpy\r\nx = 1 ", "no Python"):
    asserts = unit_tests.from_sources(["assert f(root)"], "f", setup=setup)
    assert (asserts.setup, asserts.imports) == (setup, "")


@pytest.mark.parametrize(
  "options", [{"setup": "x = Node()"}, {"imports": "x = Node()"}]
)
def test_what_the_tests_need_must_run_without_an_answer(options):
  with pytest.raises(ValueError, match=r"without an answer \(NameError"):
    unit_tests.from_sources(["assert f(1) is x"], "f", **options)


@pytest.mark.parametrize(
  ("test", "message"),
  [
    ("f(1) == 2", "not of the form"),
    ("assert f(1) == 2; x = 1", "not of the form"),
    ("assert f(", "no Python"),
    ("assert g(1) == 2", "no call of f"),
    ("assert f", "no call of f"),
  ],
)
def test_what_is_no_test(test, message):
  with pytest.raises(ValueError, match=message):
    unit_tests.from_sources([test], "f")


def test_programs_end_with_the_setup():
  asserts = unit_tests.from_sources(["assert f(1)"], "f", setup="x = 1")
  text = "```\nimport math\n```\n```\ndef f(x): return 1\n```"
  assert asserts.program(text) == (
    sandbox.Answer("import math\n"),
    sandbox.Answer("def f(x): return 1\n", "f"),
    "x = 1",
  )
  assert asserts.program("I cannot.") is None
