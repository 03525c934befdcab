import ast
import functools
import gzip
import json
import logging
import random
import re

import numpy as np
import pytest
from helpers import shared_data

from pkpo_jax.tasks import humaneval, mbpp, reference_solutions
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


LOADED = functools.cache(humaneval.load)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """Solutions that have passed are remembered for one test alone."""
  monkeypatch.setattr(humaneval, "load", LOADED)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder, rows, name="mbpp.jsonl"):
  path = folder / name
  path.write_text("".join(json.dumps(r) + "\n" for r in rows))
  return str(path)


def ten(**fields):
  """As many rows as the split "prompt" has."""
  return [row(i, **fields) for i in range(1, 11)]


@pytest.fixture
def path(tmp_path):
  """Ten tasks, of which two are unusual."""
  rows = ten()
  rows[8] = row(
    9,
    code="class Node: pass\ndef depth(node): return node.depth",
    test_setup_code="root = Node()\nroot.depth = 2",
    test_list=["assert int(depth(root)) == 2"] * 3,
  )
  rows[9] = row(
    10,
    code="import sys\ndef size(x): return sys.getsizeof(x)",
    test_list=["assert size((1, 2)) == sys.getsizeof((1, 2))"] * 3,
  )
  return write(tmp_path, rows)


def make(path, **options):
  return mbpp.Mbpp(path, train=("prompt",), num_workers=2, **options)


@pytest.mark.bwrap
def test_problems(path):
  task = make(path)
  problems = task.problems("train")
  assert [p.id for p in problems] == [f"mbpp/{i}" for i in range(1, 11)]
  assert {p.tier for p in problems} == {"mbpp"}
  assert problems[0].data.calls == ("add(0.5, 0.25)", "add('a', 'b')")
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
  options["grade_shown"] = True
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


@pytest.mark.bwrap
def test_what_the_prompt_shows_earns_nothing(path):
  """An answer that returns what the shown test expects."""
  answer = "def add(a, b): return 3"
  for options, reward in (
    ({}, 0),
    ({"grade_shown": True}, 1 / 3),
    ({"grade_shown": True, "reward": "binary"}, 0),
    ({"shown_tests": 2}, 0),
  ):
    task = make(path, **options)
    assert task.grade(task.problems("train")[0], answer).reward == reward
  with pytest.raises(ValueError, match="line 1: all of its 3 tests are shown"):
    make(path, shown_tests=3)
  assert make(path, shown_tests=3, grade_shown=True)


@pytest.mark.bwrap
def test_imports_run_before_an_answer(path):
  answer = "def add(a, b): return operator.add(a, b)"
  for imports, reward in (("", 0), ("import operator", 1)):
    task = make(path, imports=imports)
    assert task.grade(task.problems("train")[0], answer).reward == reward
  with pytest.raises(ValueError, match="imports='import' is no Python"):
    make(path, imports="import")


SANITIZED = {
  "prompt": "Write a function to find the circumference of a circle.",
  "code": "import math\ndef around(r):\n  return 2 * 3.1415 * r",
  "test_imports": ["import math"],
  "test_list": [
    "assert around(10) == 62.83",
    "assert math.isclose(around(10), 62.83, rel_tol=0.001)",
    "assert abs(around(5) - 31.415) < 0.01 and around(0) == 0",
  ],
}


@pytest.mark.bwrap
@pytest.mark.parametrize("form", ["array", "lines", "gzip", "parquet"])
def test_sanitized_problems_in_all_their_files(tmp_path, form):
  rows = [SANITIZED | {"task_id": i, "source_file": "x"} for i in (2, 3, 7)]
  file = tmp_path / f"sanitized-mbpp{'.parquet' if form == 'parquet' else ''}"
  if form == "parquet":
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
  elif form == "array":
    file.write_text("\ufeff" + json.dumps(rows, indent=2), "utf-8")
  else:
    text = "".join(f"{json.dumps(r)}\n" for r in rows) + "\n"
    file.write_text(text)
  if form == "gzip":
    file = tmp_path / "sanitized-mbpp.jsonl.gz"
    file.write_bytes(gzip.compress(text.encode()))
  task = make(file)
  problems = task.problems("train")
  assert [p.id for p in problems] == ["mbpp/2", "mbpp/3", "mbpp/7"]
  pi = "import math\ndef around(r): return 2 * math.pi * r"
  coarse = "def around(r): return 6 * r"
  rewards, _ = task.grade_batch(problems[:1], [[pi, coarse]])
  assert rewards.tolist() == [[1, 0]]
  with pytest.raises(ValueError, match="lacks the tasks"):
    mbpp.Mbpp(file, train=("train",))  # none of them at all


@pytest.mark.bwrap
@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"train": ()}, r"train=\(\) must name some of prompt, test"),
    ({"train": ("train", "train")}, "each once"),
    ({"train": ("all",)}, "must name some of"),
    ({"test": "mpbb"}, "'mpbb'; known: humaneval, mbpp"),
    ({"train": ("test",), "test": "mbpp"}, "cannot be in train"),
    ({"shown_tests": 0}, "shown_tests=0 must be at least 1"),
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
@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"test_list": ["assert add(1, 2)", "x = add(1, 2)"]}, "of the form `ass"),
    ({"test_list": ["assert add(1, 2)", "assert add(1,"]}, "no Python"),
    ({"test_list": ["assert add(1, 2)", "assert 1 == 1"]}, "no call of add"),
    ({"test_list": []}, r"'test_list' is \[\], but must be a list of texts"),
    ({"test_list": "assert add(1, 2) == 3"}, "must be a list of texts"),
    ({"test_list": None}, "'test_list' is None"),
    ({"code": "x = 1"}, "both defined and tested"),
    ({"code": None}, "the field 'code' is None"),
    ({"text": 3}, "the field 'text' is 3"),
    ({"task_id": "two"}, "task_id 'two' is no number"),
    ({"task_id": 1}, "task_id 1 of .*line 1 again"),
    (
      {"code": "def add(a, b): return a - b"},
      r"mbpp/2 fails .*\(raised\), as do 0 more of 10",
    ),
    ({"test_setup_code": "import numpy"}, r"mbpp/2 fails .*\(raised\)"),
  ],
)
def test_data_that_cannot_be_graded_are_found(tmp_path, fields, message):
  rows = ten()
  rows[1] |= fields
  with pytest.raises(ValueError, match=rf"mbpp\.jsonl, line 2: .*{message}"):
    make(write(tmp_path, rows))


@pytest.mark.bwrap
def test_files_are_checked(tmp_path):
  with pytest.raises(FileNotFoundError, match="no /nowhere"):
    make("/nowhere/mbpp.jsonl")
  file = tmp_path / "mbpp.jsonl"
  file.write_text(json.dumps(row(1)) + "\n" + json.dumps(row(2))[:-9])
  with pytest.raises(ValueError, match=r"line 2: .*cut off"):
    make(file)


@pytest.mark.bwrap
def test_what_is_not_there_or_text_is_no_mistake(tmp_path):
  rows = ten(test_setup_code=None)
  for i, one in enumerate(rows, 1):
    one["task_id"] = str(i)
    del one["challenge_test_list"]
  assert len(make(write(tmp_path, rows)).problems("train")) == 10


@pytest.mark.bwrap
@pytest.mark.slow
def test_slow_solutions_are_named_and_the_others_remembered(
  tmp_path, caplog, monkeypatch
):
  rows = ten()
  rows[4]["code"] = "def add(a, b):\n  while True: pass"
  path = write(tmp_path, rows)
  monkeypatch.setattr(reference_solutions, "_WORTH_SECONDS", 0.0)
  graded = []
  grades = mbpp.Mbpp.grades

  def note(self, problems, completions):
    graded.append(len(problems))
    return grades(self, problems, completions)

  monkeypatch.setattr(mbpp.Mbpp, "grades", note)
  with caplog.at_level(logging.WARNING):
    make(path, cpu_seconds=1)
    make(path, cpu_seconds=1)
  assert graded == [2, 1]  # nine of the ten are equal
  assert re.search(r"solutions of mbpp/5 take longer", caplog.text)
  assert "mbpp/4" not in caplog.text


@pytest.fixture(scope="module")
def data():
  """All of MBPP."""
  return str(shared_data.folder("mbpp.jsonl") / "mbpp.jsonl")


@pytest.fixture(scope="module")
def everything(data):
  """All of it; its solutions are graded by tests of their own."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(reference_solutions, "check", lambda *args: None)
    yield mbpp.Mbpp(data, train=ALL, grade_shown=True)


@pytest.mark.bwrap
@pytest.mark.data
@pytest.mark.slow
def test_splits(everything):
  problems = everything.problems("train")
  assert [p.id for p in problems] == [f"mbpp/{i}" for i in range(1, 975)]
  assert sum(len(p.data.calls) for p in problems) == 2922
  answer = "def circle_circumference(r): return r * 2 * 3.1415"
  assert everything.grade(problems[138], answer).reward == 1


@pytest.mark.bwrap
@pytest.mark.data
@pytest.mark.slow
def test_no_expected_value_enters_the_sandbox(everything, monkeypatch):
  for problem in everything.problems("train"):
    for call, test in zip(problem.data.calls, problem.data.tests):
      tree = ast.parse(call, mode="eval")
      assert not any(isinstance(n, ast.Compare) for n in ast.walk(tree))
      assert call.startswith((problem.data.entry_point, "int("))
      assert "__values__" in test
  seen = []
  problem = everything.problems("train")[600]
  monkeypatch.setattr(
    everything._sandbox,
    "run",
    lambda *args, on_sleep: seen.append(args) or [],
  )
  monkeypatch.setattr(type(problem.data), "passed", lambda *args: [False])
  source = f"def {problem.data.entry_point}(): pass"
  everything.grade(problem, source)
  answer = sandbox.Answer(source, problem.data.entry_point)
  assert seen == [((answer, ""), problem.data.calls)]


RIGHT = (
  "{source}",
  "So:\n```python\n{source}\n```\nTry `{name}`:\n```\nfrom x import {name}\n"
  "assert {name}() == 1\n```",
  "Sure, it is:\n\n{source}\n\nThis solves it, doesn't it?",
)
WRONG = (
  "{source}\ndef {name}(*args): return None",
  "{source}\nright = {name}\ndef {name}(*args): return (right(*args),)",
)


def assert_solutions_alone_pass(task, data, numbers):
  """Each in three dresses; with nothing returned, or in a tuple, it fails."""
  with open(data, encoding="utf-8") as file:
    codes = {r["task_id"]: r["code"] for r in map(json.loads, file)}
  problems = [task.problems("train")[i - 1] for i in numbers]
  answers = [
    [f.format(source=codes[i], name=p.data.entry_point) for f in RIGHT + WRONG]
    for i, p in zip(numbers, problems)
  ]
  rewards, valid = task.grade_batch(problems, answers)
  assert valid.all()
  names = np.array([p.id for p in problems])
  right = len(RIGHT)
  assert set(names[(rewards[:, :right] < 1).any(axis=1)]) <= SLOW
  assert set(names[(rewards[:, right:] == 1).any(axis=1)]) == set()


@pytest.mark.bwrap
@pytest.mark.data
@pytest.mark.slow
def test_some_solutions_alone_pass(everything, data):
  numbers = random.Random(0).sample(range(1, 975), 40)
  assert_solutions_alone_pass(everything, data, numbers)


@pytest.mark.bwrap
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.verify("pkpo_jax/tasks", "tests/tasks/test_mbpp.py")
def test_all_solutions_alone_pass(everything, data):
  assert_solutions_alone_pass(everything, data, range(1, 975))
