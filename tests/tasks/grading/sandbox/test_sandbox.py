import math
import os
import subprocess
import sys
import time
import uuid
from concurrent import futures

import hypothesis
import pytest
from helpers import processes
from hypothesis import strategies as st

from pkpo_jax.tasks.grading.sandbox import sandbox


@pytest.fixture(scope="module")
def box():
  return sandbox.Sandbox()


VALUES = [
  None,
  True,
  0,
  -(2**70),
  0.1,
  -0.0,
  1e300,
  math.inf,
  -math.inf,
  1 + 2j,
  "",
  '\u00e9\n"\\\0\u2028\U0001f600\ud800',
  [],
  [1, [2, (3,)]],
  (),
  (1,),
  set(),
  {1, (2, 3)},  # no text: its order would change from process to process
  {},
  {1: "a", "1": None, (1, 2): {3}, None: [{}], True is None: 0.5},
]


@pytest.mark.bwrap
@pytest.mark.parametrize("value", VALUES)
def test_values_come_out_as_they_are(box, value):
  (result,) = box.run(("",), (ascii(value).replace("inf", "1e999"),))
  assert ascii(result) == ascii(sandbox.Value(value))


@pytest.mark.bwrap
def test_nan_comes_out(box):
  (result,) = box.run(("",), ("float('nan')",))
  assert math.isnan(result.value)


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("source", "expected"),
  [
    ("import collections as c\nx = c.Counter('aab')", {"a": 2, "b": 1}),
    ("import collections as c\nx = c.defaultdict(int, a=1)", {"a": 1}),
    ("import collections as c\nx = c.namedtuple('P', 'x y')(1, 2)", (1, 2)),
    ("import enum\nx = enum.IntEnum('E', 'A B').B", 2),
    ("x = frozenset({1})", {1}),
    ("import dataclasses\n@dataclasses.dataclass\nclass C: a: 'int' = 3\n"
     "x = C().a", 3),
    ("import hashlib\nx = hashlib.md5(b'a').hexdigest()[:4]", "0cc1"),
  ],
)  # fmt: skip
def test_ordinary_code_works(box, source, expected):
  assert box.run((source,), ("x",)) == (sandbox.Value(expected),)


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("call", "reason"),
  [
    ("1 / 0", "raised"),
    ("exit(0)", "raised"),
    ("undefined", "raised"),
    ("object()", "no literal"),
    ("[b'bytes']", "no literal"),
    ("(i for i in range(3))", "no literal"),
    ("'x' * 10**6", "too large"),
    ("list(range(10**5))", "too large"),
    ("10**5000", "raised"),
  ],
)
def test_a_failing_call_leaves_the_others_alone(box, call, reason):
  results = box.run(("y = 2",), ("1", call, "y"))
  assert results == (
    sandbox.Value(1),
    sandbox.Failure(reason),
    sandbox.Value(2),
  )


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("call", "reason"),
  [
    ("__import__('os')._exit(0)", "crashed"),
    ("__import__('os').abort()", "crashed"),
    ("[0 for _ in iter(int, 1)]", "timeout"),
    ("__import__('time').sleep(100)", "timeout"),
    ("[__import__('time').sleep(0.01) for _ in iter(int, 1)]", "timeout"),
    ("__import__('os').write(3, b'x' * 2**21)", "too much output"),
  ],
)
def test_what_came_before_the_end_counts(call, reason):
  limits = sandbox.Limits(cpu_seconds=1, wall_seconds=4.0, sleep_seconds=0.3)
  box = sandbox.Sandbox(limits)
  first, *rest = box.run(("",), ("1", call, "2"))
  assert first == sandbox.Value(1)
  assert rest == [sandbox.Failure(reason)] * 2


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("source", "sleeps"),
  [
    ("time.sleep(0.5)", True),
    ("threading.Event().wait(0.5)", True),
    ("sum(range(10**7))", False),
    ("t = threading.Thread(target=sum, args=[range(10**7)])\n"
     "t.start(), t.join()", False),
  ],
)  # fmt: skip
def test_who_sleeps_is_told_from_who_computes(box, source, sleeps):
  seen = []
  imports = "import threading, time"
  answer = (sandbox.Value(1),)
  told = box.run((imports, source), ("1",), lambda: seen.append(source))
  assert told == answer
  assert (len(seen) >= 3) == sleeps


@pytest.mark.bwrap
def test_many_who_wait_for_a_processor_are_not_late():
  """A limit on wall time alone would take them for sleepers."""
  box = sandbox.Sandbox(sandbox.Limits(sleep_seconds=0.4))
  with futures.ThreadPoolExecutor(8) as threads:
    work = [(("x = sum(range(10**7))",), ("1",))] * 8
    found = list(threads.map(lambda args: box.run(*args), work))
  assert found == [(sandbox.Value(1),)] * 8


@pytest.mark.bwrap
def test_answers_are_run_with_indulgence(box):
  answer = sandbox.Answer("def f(): return 1\nassert f() == 2", "f")
  assert box.run(("g = 2", answer), ("f()", "g")) == (
    sandbox.Value(1),
    sandbox.Value(2),
  )


@pytest.mark.bwrap
def test_sources_share_a_namespace_and_errors_fail_all_calls(box):
  assert box.run(("a = 1", "b = a + 1"), ("a + b",)) == (sandbox.Value(3),)
  assert (
    box.run(("def f(:",), ("1", "2")) == (sandbox.Failure("syntax error"),) * 2
  )
  assert box.run(("1 / 0",), ("1",)) == (sandbox.Failure("raised"),)


@pytest.mark.bwrap
def test_prints_do_not_disturb(box):
  source = "import sys\nprint('[1]', flush=True)\nprint(2, file=sys.stderr)"
  assert box.run((source,), ("print('x')", "1")) == (
    sandbox.Value(None),
    sandbox.Value(1),
  )


@pytest.mark.bwrap
def test_runs_see_nothing_of_each_other(box):
  box.run(("import builtins\nbuiltins.left = 1",), ("1",))
  assert box.run(("",), ("left",)) == (sandbox.Failure("raised"),)


# Names that a forger would try, with all kinds of values in them.
JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.text(max_size=9),
  lambda x: (
    st.lists(x, max_size=3)
    | st.dictionaries(
      st.sampled_from(["tuple", "set", "dict", "complex", "x"]), x, max_size=2
    )
  ),
  max_leaves=9,
)


@hypothesis.given(
  st.binary(max_size=50)
  | JSON.map(lambda x: repr(x).encode(errors="replace"))
  | JSON.map(lambda x: sandbox.json.dumps(x).encode())
  | JSON.map(lambda x: sandbox.json.dumps(["value", x]).encode())
)
def test_no_line_breaks_the_reader(line):
  result = sandbox._decode(line)
  assert isinstance(result, sandbox.Value | sandbox.Failure)


@pytest.mark.parametrize(
  "line",
  [
    b"",
    b"null",
    b'"right"',
    b'["value"]',
    b'["value",1,2]',
    b'["other",1]',
    b'["value",{"set":[[1]]}]',
    b'["value",{"eval":"1"}]',
    b'["value",{"complex":[1%s,0]}]' % (b"0" * 400),
    b'["value",{"set":[%s1%s]}]' % (b'{"tuple":[' * 2000, b"]}" * 1999),
    b'["value",' + b"[" * 30_000,
    b'["value",' + b"9" * 20_000 + b"]",
  ],
)
def test_an_odd_line_is_unreadable(line):
  assert sandbox._decode(line) == sandbox.Failure("unreadable")


@pytest.mark.parametrize(
  ("limits", "message"),
  [
    ({"cpu_seconds": 0}, "cpu_seconds=0 must be positive"),
    ({"cpu_seconds": 1.5}, "cpu_seconds=1.5 must be whole"),
    ({"wall_seconds": math.inf}, "wall_seconds=inf must be positive"),
    ({"memory_mb": -1}, "memory_mb=-1"),
    ({"sleep_seconds": 0.0}, "sleep_seconds=0.0 must be positive"),
  ],
)
def test_limits_are_checked(limits, message):
  with pytest.raises(ValueError, match=message):
    sandbox.Limits(**limits)


@pytest.mark.bwrap
def test_time_starts_with_the_code(monkeypatch):
  """Not with a container that is slow to come up on a busy machine."""
  box = sandbox.Sandbox(sandbox.Limits(wall_seconds=1.0))
  bwrap, python = box._commands
  script = 'sleep 1.5; exec "$@"'
  box._commands = (["/bin/sh", "-c", script, "sh", *bwrap], python)
  assert box.run(("",), ("1",)) == (sandbox.Value(1),)


@pytest.mark.bwrap
def test_ctrl_c_is_not_for_answers(monkeypatch, box):
  """The terminal interrupts a process group; bubblewrap must not be in it."""
  groups = []
  kill = sandbox._kill

  def note(process, info):
    groups.append(os.getpgid(process.pid))
    kill(process, info)

  monkeypatch.setattr(sandbox, "_kill", note)
  box.run(("import time",), ("1", "time.sleep(0.2)"))
  assert groups != [os.getpgid(0)]


@pytest.mark.bwrap
def test_nothing_outlives_a_killed_parent():
  mark = uuid.uuid4().hex
  program = f"""
from pkpo_jax.tasks.grading.sandbox import container, sandbox
container.HARNESS += "# {mark}"
box = sandbox.Sandbox(sandbox.Limits(wall_seconds=100.0))
print("ready", flush=True)
box.run(("import time; time.sleep(100)",), ("1",))
"""
  command = [sys.executable, "-c", program]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
    assert parent.stdout.readline() == "ready\n"
    time.sleep(0.5)
    assert processes.processes_with(mark)
    parent.kill()
  processes.wait_until_gone(mark)
