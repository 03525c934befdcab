"""The harness in this process, without a sandbox around it."""

import collections
import itertools
import json
import pathlib
import subprocess
import sys

import pytest

from pkpo_jax.tasks.grading.sandbox import inside, sandbox

Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
  "value",
  [
    None,
    [True, 1, 1.5, -0.0, 2**80, 1e300],
    "a\n\u2028\U0001f600",
    (1, [2, (3,)], ()),
    {1: "a", "1": {2, 3}, (1, 2): None},
    1 + 2j,
    set(),
  ],
)
def test_what_is_encoded_is_what_the_reader_outside_reads(value):
  result = sandbox._decode(inside.encode(value).encode())
  assert result == sandbox.Value(value)
  assert type(result.value) is type(value)


@pytest.mark.parametrize(
  ("value", "read"),
  [
    (Point(1, 2), (1, 2)),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (frozenset({1}), {1}),
  ],
)
def test_subclasses_count_as_the_builtin_type(value, read):
  assert sandbox._decode(inside.encode(value).encode()) == sandbox.Value(read)


def test_a_subclass_has_no_say_in_how_it_is_written():
  class Liar(str):
    def __str__(self):
      return "lie"

    __repr__ = __getitem__ = __str__

  class Endless(list):
    def __iter__(self):
      return itertools.repeat(0)

  assert json.loads(inside.encode([Liar("truth")])) == ["value", ["truth"]]
  assert json.loads(inside.encode(Endless([1, 2]))) == ["value", [1, 2]]


@pytest.mark.parametrize("value", [object(), [b"bytes"], {1: print}, range(3)])
def test_what_has_no_literal_raises(value):
  with pytest.raises(inside.NoLiteralError):
    inside.encode(value)


def test_what_is_too_long_or_endless_is_cut_off():
  assert inside.encode("x" * (inside.LONGEST + 1)) == '"too large"'
  assert inside.encode([0] * inside.LONGEST) == '"too large"'
  nested = []
  nested.append(nested)
  assert inside.evaluate("nested", {"nested": nested}) == '"raised"'


def test_each_call_gives_a_line_or_the_kind_of_its_failure():
  namespace = {"f": lambda x: 10 // x, "g": lambda: object()}
  assert inside.evaluate("f(5)", namespace) == '["value",2]'
  assert inside.evaluate("f(0)", namespace) == '"raised"'
  assert inside.evaluate("g()", namespace) == '"no literal"'
  assert inside.evaluate("exit()", {"exit": sys.exit}) == '"raised"'


def test_sources_run_in_one_namespace_up_to_the_first_failure():
  namespace = {}
  assert inside.load(["a = 1", "b = a + 1"], namespace) is None
  assert namespace["b"] == 2
  assert inside.load(["c = 1", "1 / 0", "d = 1"], namespace) == '"raised"'
  assert "c" in namespace and "d" not in namespace
  assert inside.load(["def f(:"], {}) == '"syntax error"'


FUNCTION = "def f(x):\n  return x + 1\n"


@pytest.mark.parametrize(
  "text",
  [
    FUNCTION + "assert f(1) == 3",
    FUNCTION + "input()",
    FUNCTION + "raise SystemExit",
    FUNCTION + "eval('(')",
    FUNCTION + "This adds one, doesn't it?",
    FUNCTION + "\nprint(f(1))\nNote that f(1) is 2.\n\n  f(1) # 2",
    FUNCTION + '```\nand """ more',
    FUNCTION + "\n@cache\ndef g(x):\n  return (x +",
    FUNCTION + "if f(1):\n  print(1)\nelse:\n  ?",
    FUNCTION + "(1\n + 2\n) what\n",
    FUNCTION + "x = 1\r\n? \r\n",
  ],
)
def test_what_stands_behind_a_definition_is_forgiven(text):
  namespace = {}
  assert inside.load([(text, "f"), "y = f(1)"], namespace) is None
  assert namespace["y"] == 2


@pytest.mark.parametrize(
  ("text", "failure"),
  [
    ("", '"raised"'),
    ("def g(x): pass", '"raised"'),
    ("1 / 0\n" + FUNCTION, '"raised"'),
    ("?\n" + FUNCTION, '"syntax error"'),
    ("def f(x):\n  return x +\n", '"syntax error"'),
    ("def f(x):\n  if x:\n    return 1\n  else\n    y", '"syntax error"'),
    ("@d\ndef f(x):\n  return )", '"syntax error"'),
    ('x = """\n' + FUNCTION, '"syntax error"'),
  ],
)
def test_what_is_not_defined_is_not_forgiven(text, failure):
  """Nor does what came before, such as the stub of a prompt, count."""
  sources = ["def f(x): return 0", (text, "f")]
  assert inside.load(sources, {}) == failure


def test_a_source_without_a_name_may_do_as_it_likes():
  namespace = {}
  assert (
    inside.load([("x = 1\n1 / 0", ""), ("?", ""), "y = x"], namespace) is None
  )
  assert namespace["y"] == 1


def test_the_whole_of_it_as_a_process():
  """As the container runs it: only a first line and one for each call."""
  sources = ("print('noise')", "def f(x): return [x]")
  job = ({}, sources, ("f(1)", "f(", "f(2)"))
  script = pathlib.Path(inside.__file__).read_text("utf-8")
  done = subprocess.run(
    [sys.executable, "-I", "-S", "-c", script],
    input=ascii(job),
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split("\n") == [
    "ready",
    '["value",[1]]',
    '"raised"',
    '["value",[2]]',
    "",
  ]
  assert done.stderr == ""
