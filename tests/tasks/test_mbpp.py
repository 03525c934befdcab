import json

import numpy as np
import pytest
from helpers import shared_data

from pkpo_jax.tasks import code_task, mbpp
from pkpo_jax.tasks.grading.sandbox import sandbox

ALL = ("prompt", "test", "validation", "train")

# Its search takes about 4 s of processor time, and the limit is 2 s.
SLOW = {"mbpp/123"}


def row(task_id, **fields):
  return {
    "task_id": task_id,
    "text": f"Write a function to add {{numbers}} ({task_id}).",
    "code": "import math\r\ndef add(a, b):\r\n  return a + b",
    "test_setup_code": "",
    "test_list": [
      "assert add(1, 2) == 3",
      "assert add(0.5, 0.25) == 0.75",
      'assert add("a", "b") == "ab"',
    ],
    "challenge_test_list": [],
  } | fields


def write(folder, rows):
  path = folder / "mbpp.jsonl"
  path.write_text("".join(json.dumps(r) + "\n" for r in rows))
  return str(path)


@pytest.fixture
def path(tmp_path):
  """Ten tasks, of which two are unusual."""
  rows = [row(i) for i in range(1, 9)]
  rows.append(
    row(
      9,
      code="class Node: pass\ndef depth(node): return node.depth",
      test_setup_code="root = Node()\nroot.depth = 2",
      test_list=["assert int(depth(root)) == 2"] * 3,
    )
  )
  sizes = ["assert size((1, 2)) == sys.getsizeof((1, 2))"] * 3
  rows.append(row(10, code="def size(x): pass", test_list=sizes))
  return write(tmp_path, rows)


def make(path, **options):
  return mbpp.Mbpp(path, train=("prompt",), num_workers=2, **options)


@pytest.mark.bwrap
def test_problems(path):
  task = make(path)
  problems = task.problems("train")
  assert [p.id for p in problems] == [f"mbpp/{i}" for i in range(1, 11)]
  assert {p.tier for p in problems} == {"mbpp"}
  assert problems[0].data == mbpp.Asserts(
    "add", "", ("add(1, 2)", "add(0.5, 0.25)", "add('a', 'b')"), (3, 0.75, "ab")
  )
  assert [p.data.entry_point for p in problems[-2:]] == ["depth", "size"]
  assert len(task.problems("test")) == 164
  assert {p.tier for p in task.problems("test")} == {"humaneval"}


@pytest.mark.bwrap
def test_prompts(path):
  first = "Write a function to add {numbers} (1)."
  (problem, *_) = make(path).problems("train")
  assert problem.prompt.startswith(first)
  assert "assert add(1, 2) == 3" in problem.prompt
  assert "0.75" not in problem.prompt
  options = {"instruction": "{text}|{tests}|", "shown_tests": 3}
  (problem, *_) = make(path, **options).problems("train")
  tests = "\n".join(row(1)["test_list"])
  assert problem.prompt == f"{first}|{tests}|"


@pytest.mark.bwrap
def test_unusual_tests(path):
  task = make(path)
  *_, nodes, sizes = task.problems("train")
  grades = task.grade_batch(
    [nodes, sizes],
    [
      [
        "class Node: pass\ndef depth(node): return node.depth",
        "def depth(node): return 2",  # the tests need its Node
        "class Node: pass\ndef depth(node): return '2'",
      ],
      [
        "import sys\ndef size(x): return sys.getsizeof(x)",
        "def size(x): return len(x)",
        "def size(x): return sys.getsizeof(x)",  # not imported
      ],
    ],
  )
  assert grades[0].tolist() == [[1, 0, 1], [1, 0, 0]]
  assert grades[1].all()


@pytest.mark.parametrize(
  ("value", "expected", "equal"),
  [
    (1.0, 1, True),
    (True, 1, True),
    ([1], (1,), False),
    ({1, 2}, {2, 1}, True),
    ([1, 2], [2, 1], False),
    (0.1 + 0.2, 0.3, False),
    ("1", 1, False),
    (None, None, True),
    (float("nan"), float("nan"), False),
  ],
)
def test_values_compare_as_in_an_assert(value, expected, equal):
  tests = mbpp.Asserts("f", "", ("f()",), (expected,))
  assert tests.passed((sandbox.Value(value),)) == [equal]
  assert tests.passed((sandbox.Failure("raised"),)) == [False]


GOOD = "def add(a, b): return a + b"
BAD = "def add(a, b): return None"
OTHER = "def other(): return None"


@pytest.mark.parametrize(
  ("completion", "source"),
  [
    (GOOD, GOOD),
    (f"```python\n{GOOD}\n```", f"{GOOD}\n"),
    (f"```\n{BAD}\n```\nNo:\n```py\n{GOOD}\n```\nDone.", f"{GOOD}\n"),
    (f"```\n{GOOD}\n```\nTry it:\n```\nprint(add(1, 2))\n```", f"{GOOD}\n"),
    (f"- a list:\n  ```python\n  {GOOD}\n  ```", f"{GOOD}\n"),
    (f"```python\n{GOOD}\n", f"{GOOD}\n"),  # cut short
    (f"```\n{GOOD}\n```\nBetter:\n```\n{BAD[:15]}", f"{GOOD}\n"),
    (f"{GOOD}\n```\nThe prompt opened it.", f"{GOOD}\n"),
    ("add = lambda a, b: a + b", "add = lambda a, b: a + b"),
    ("from operator import add", "from operator import add"),
    ("async def add(a, b): pass", "async def add(a, b): pass"),
    ("class add: pass", "class add: pass"),
    ("", None),
    ("I cannot add.", None),
    (f"```python\n{OTHER}\n```", None),
    ("def addition(a, b): return a + b", None),
  ],
)
def test_which_code_is_taken(completion, source):
  tests = mbpp.Asserts("add", "setup", (), ())
  expected = None if source is None else (source, "setup")
  assert tests.program(completion) == expected


@pytest.mark.parametrize(
  "text", ["```\n" * 30_000, " " * 10**6, "``` `\n" * 10**5]
)
def test_no_answer_is_slow_to_read(text):
  code_task.fenced_blocks(text)
  assert not code_task.defines(text, "add")


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"train": ()}, r"train=\(\) must name some of prompt, test"),
    ({"train": ("train", "train")}, "each once"),
    ({"train": ("all",)}, "must name some of"),
    ({"test": "mpbb"}, "'mpbb'; known: humaneval, mbpp"),
    ({"train": ("test",), "test": "mbpp"}, "cannot be in train"),
    ({"shown_tests": 0}, r"shown_tests=0 must be 1\.\.3"),
    ({"instruction": "{text}"}, "is missing in '{text}'"),
    ({"reward": "half"}, "'half'; known: fraction, binary"),
    ({"wall_seconds": -1.0}, "wall_seconds=-1.0 must be positive"),
    ({"train": ("prompt", "train")}, r"lacks the tasks \[601, 602"),
  ],
)
def test_options_are_checked(path, options, message):
  with pytest.raises(ValueError, match=message):
    mbpp.Mbpp(path, **{"train": ("prompt",)} | options)


@pytest.mark.bwrap
def test_files_are_checked(tmp_path):
  with pytest.raises(FileNotFoundError, match="no /nowhere"):
    make("/nowhere/mbpp.jsonl")
  broken = row(2)
  del broken["test_list"]
  with pytest.raises(ValueError, match=r"line 2: lacks .*\['test_list'\]"):
    make(write(tmp_path, [row(1), broken]))
  rows = [row(i, test_list=["assert add(1, 2)"]) for i in range(1, 11)]
  with pytest.raises(ValueError, match="Not of the form"):
    make(write(tmp_path, rows))
  rows = [row(i, code="x = 1") for i in range(1, 11)]
  with pytest.raises(ValueError, match="both defined and tested"):
    make(write(tmp_path, rows))


@pytest.fixture(scope="module")
def data():
  """All of MBPP."""
  return str(shared_data.folder("mbpp.jsonl") / "mbpp.jsonl")


@pytest.mark.bwrap
@pytest.mark.data
def test_splits(data):
  task = mbpp.Mbpp(data, test="mbpp")
  assert [p.id for p in task.problems("train")] == [
    f"mbpp/{i}" for i in range(601, 975)
  ]
  assert [p.id for p in task.problems("test")] == [
    f"mbpp/{i}" for i in range(11, 511)
  ]
  everything = mbpp.Mbpp(data, train=ALL)
  assert len(everything.problems("train")) == 974
  assert sum(len(p.data.calls) for p in everything.problems("train")) == 2922


@pytest.mark.bwrap
@pytest.mark.data
def test_no_expected_value_enters_the_sandbox(data, monkeypatch):
  task = mbpp.Mbpp(data)
  seen = []
  monkeypatch.setattr(
    task._sandbox, "run", lambda *args: seen.append(args) or []
  )
  monkeypatch.setattr(mbpp.Asserts, "passed", lambda *args: [False])
  problem = task.problems("train")[0]
  task.grade(problem, f"def {problem.data.entry_point}(): pass")
  ((sources, calls),) = seen
  assert sources == (f"def {problem.data.entry_point}(): pass", "")
  assert calls == problem.data.calls
  assert not any("==" in call or "assert" in call for call in calls)


def references(data):
  with open(data, encoding="utf-8") as file:
    rows = map(json.loads, file)
    return {f"mbpp/{r['task_id']}": r["code"] for r in rows}


def graded(data, change):
  """The reward of every reference solution after a change; the task ids."""
  task = mbpp.Mbpp(data, train=ALL)
  problems = task.problems("train")
  solutions = references(data)
  answers = [[change(solutions[p.id], p.data.entry_point)] for p in problems]
  rewards, valid = task.grade_batch(problems, answers)
  assert valid.all()
  return rewards[:, 0], np.array([p.id for p in problems])


@pytest.mark.bwrap
@pytest.mark.data
@pytest.mark.slow
def test_reference_solutions_pass(data):
  rewards, ids = graded(data, lambda source, name: source)
  assert set(ids[rewards < 1]) <= SLOW


@pytest.mark.bwrap
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
  "broken",
  [
    "{source}\ndef {name}(*args): return None",
    "{source}\nright = {name}\ndef {name}(*args): return (right(*args),)",
  ],
  ids=["none", "in a tuple"],
)
def test_broken_solutions_fail(data, broken):
  rewards, ids = graded(
    data, lambda s, name: broken.format(source=s, name=name)
  )
  assert set(ids[rewards == 1]) == set()
