import json
import pathlib
import re
import sys

import ml_collections
import pytest

from pkpo_jax import tasks
from pkpo_jax.tasks import answer_task, base, jsonl

RECORDS = [{"prompt": f"What is {i}+1?", "answer": i + 1} for i in range(10)]
RIGHT = base.Grade(1.0, True, "right")
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "tasks.md"

GRADER = """
import os, sys, time
def closeness(answer, completion):
  return 1 / (1 + abs(float(answer) - float(completion)))
def described(answer, completion):
  return completion.count(answer), answer != "?", f"{completion} for {answer}"
def slow(answer, completion):
  if completion == "slow":
    time.sleep(60)
  return len(bytearray(2**34 if completion == "large" else 1))
def where(answer, completion):
  return 1.0, True, f"{os.getpid()} {'jax' in sys.modules}"
def nothing(answer, completion):
  return None
def one(answer):
  return 1.0
def typo(answer, completion):
  return answer == complation
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
  """Tasks of files in the current directory, closed at the end."""
  monkeypatch.chdir(tmp_path)
  made = []

  def make(records=RECORDS, **options):
    write("problems.jsonl", records)
    made.append(jsonl.Jsonl("problems.jsonl", **{"num_workers": 1} | options))
    return made[-1]

  yield make
  for task in made:
    task.close()


def write(name, records):
  text = "".join(json.dumps(record) + "\n" for record in records)
  pathlib.Path(name).write_text(text, encoding="utf-8")


def prompts(task, split):
  return [p.prompt for p in task.problems(split)]


def test_two_files_are_two_splits(make, tmp_path):
  write("other.jsonl", RECORDS[7:])
  task = make(RECORDS[:7], test_path=tmp_path / "other.jsonl")
  box = answer_task.INSTRUCTION
  assert task.problems("train")[1] == base.Problem(
    "jsonl/train/2", f"What is 1+1?\n\n{box}", "jsonl", "2", "What is 1+1?"
  )
  assert [len(task.problems(s)) for s in ("train", "test")] == [7, 3]
  assert task.problems("test")[0].id == "jsonl/test/1"
  fewer = make(RECORDS[:7], test_path="other.jsonl", num_train=4, num_test=2)
  assert prompts(fewer, "train") == prompts(task, "train")[:4]
  assert prompts(fewer, "test") == prompts(task, "test")[:2]


def test_held_out_problems_are_drawn_from_one_file(make):
  drawn = [make(num_test=3, seed=seed) for seed in (0, 0, 1)]
  sets = [{p.id for p in task.problems("test")} for task in drawn]
  assert sets[0] == sets[1] != sets[2]
  for task, held_out in zip(drawn, sets):
    train = [int(p.id.removeprefix("jsonl/")) for p in task.problems("train")]
    assert train == sorted(train)
    assert len(train) == 7 and len(held_out) == 3
    assert not held_out & {p.id for p in task.problems("train")}
  few = make(num_test=3, num_train=2)
  assert few.problems("train") == drawn[0].problems("train")[:2]


def test_columns_and_instruction_have_options(make):
  records = [
    {"question": " Why?\n", "solution": "so", "more": 0},
    {"question": "How?", "solution": "so"},
  ]
  columns = {"prompt_column": "question", "answer_column": "solution"}
  task = make(records, **columns, num_test=1, instruction="Be brief.")
  problems = [*task.problems("train"), *task.problems("test")]
  assert {p.prompt for p in problems} == {
    "Why?\n\nBe brief.",
    "How?\n\nBe brief.",
  }
  assert [p.data for p in problems] == ["so"] * 2


@pytest.mark.parametrize(
  ("written", "answer"),
  [
    ("42", "42"),
    ("-7", "-7"),
    ("0.10", "0.10"),
    ("1.5e3", "1500"),
    ("12345678901234567890.5", "12345678901234567890.5"),
    ('"\\\\frac12"', r"\frac12"),
  ],
)
def test_numbers_become_text(tmp_path, written, answer):
  line = f'{{"prompt": "\u2028?", "answer": {written}}}'
  again = line.replace("?", "!")
  file = tmp_path / "windows.jsonl"
  file.write_bytes(f"\ufeff{line}\r\n\r\n{again}\r\n".encode())
  task = jsonl.Jsonl(file, num_test=1)
  problems = [*task.problems("train"), *task.problems("test")]
  assert [p.data for p in problems] == [answer] * 2
  assert {p.id for p in problems} == {"jsonl/1", "jsonl/3"}


GOOD = '{"prompt": "?", "answer": "1"}'


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("{", "line 2: not JSON"),
    ("[" * 100_000, "line 2: not JSON"),
    ("[1]", "line 2: not a JSON object"),
    ('{"prompt": "?"}', "line 2: there is no 'answer', but 'prompt'; answer_"),
    ('{"q": "?", "answer": "1"}', "no 'prompt', but 'q', 'answer'; prompt_col"),
    ('{"prompt": 5, "answer": "1"}', "line 2: the field 'prompt' is 5,"),
    ('{"prompt": " ", "answer": "1"}', "line 2: the field 'prompt' is ' '"),
    ('{"prompt": "?", "answer": null}', "line 2: the field 'answer' is None"),
    ('{"prompt": "?", "answer": true}', "line 2: the field 'answer' is True"),
    ('{"prompt": "?", "answer": NaN}', "line 2: the field 'answer' is nan"),
    ('{"prompt": "?", "answer": -Infinity}', "the field 'answer' is -inf"),
    ('{"prompt": "\\ud800", "answer": 1}', "line 2: the field 'prompt' is no"),
    ('{"prompt": "?", "prompt": "!"}', "line 2: not JSON (the key 'prompt'"),
    ('{"prompt": "!", "answer": [1]}', "line 2: the field 'answer' is [1]"),
    ('{"prompt": "? ", "answer": 2}', "mine.jsonl, line 1 again; remove one"),
    ('{"prompt": "!", "answer": "\u0664"}', "line 2: the math grader cannot"),
    (f'{{"prompt": "!", "answer": "{"x" * 501}"}}', "(too long)"),
    ('{"prompt": "!", "answer": "\\\\boxed{4"}', "(no answer)"),
    ('{"prompt": "!", "answer": "7 ####"}', "(no answer)"),
  ],
)
def test_broken_lines_are_errors_that_name_file_and_line(
  tmp_path, line, message
):
  file = tmp_path / "mine.jsonl"
  file.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
  with pytest.raises(ValueError, match=re.escape(message)) as error:
    jsonl.Jsonl(file, num_test=1)
  assert str(file) in str(error.value)


def test_prompts_that_differ_in_blanks_alone_are_one(make):
  records = [{"prompt": f"1{s}+ 1?", "answer": "2"} for s in (" ", "\n ")]
  with pytest.raises(ValueError, match=r"line 2: the prompt of .*line 1 again"):
    make(records, num_test=1)


def test_no_prompt_is_in_both_files(make):
  write("other.jsonl", RECORDS[2:])
  message = r"other\.jsonl, line 1: the prompt of problems\.jsonl, line 3 again"
  with pytest.raises(ValueError, match=message):
    make(RECORDS[:3], test_path="other.jsonl")


@pytest.mark.parametrize(
  ("content", "message"),
  [(b"\n \n", "mine.jsonl is empty"), (b"\xff\xfe{", "mine.jsonl: not UTF-8")],
)
def test_files_without_problems_are_errors(tmp_path, content, message):
  file = tmp_path / "mine.jsonl"
  file.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    jsonl.Jsonl(file, num_test=1)


def test_absent_files_are_errors(make):
  with pytest.raises(FileNotFoundError, match=r"no file 'held_out\.jsonl'"):
    make(test_path="held_out.jsonl")
  with pytest.raises(FileNotFoundError, match=r"no file '\.'"):
    jsonl.Jsonl(".", num_test=1)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({}, "Give test_path, .* or num_test"),
    ({"test_path": "other.jsonl", "seed": 1}, "seed=1 has no effect"),
    ({"num_test": 0}, r"num_test=0 is not in 1\.\.9"),
    ({"num_test": 10}, r"num_test=10 is not in 1\.\.9"),
    ({"num_test": 3, "num_train": 8}, r"num_train=8 is not in 1\.\.7"),
    ({"num_test": 3, "grader": "exact"}, "grader='exact'; known: 'math', or"),
    ({"num_test": 3, "grader": "exact:"}, "'exact:' must be 'module:function'"),
    ({"num_test": 3, "timeout": 0}, "timeout=0"),
    ({"num_test": 3, "num_workers": 0}, "num_workers=0"),
  ],
)
def test_options_out_of_range_are_errors(make, options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def graded(task, answer, *completions):
  return task.grades([base.Problem("", "", "", answer)], [completions])[0]


def test_math_is_graded_as_in_math(make):
  assert graded(make(num_test=1), "0.5", r"\boxed{\frac12}", "1") == [
    RIGHT,
    base.Grade(0.0, True, "no answer"),
  ]


def test_solutions_give_the_references_for_math(make):
  """Else no completion would equal them, and all would be wrong."""
  solutions = ["3+4=<<3+4=7>>7 pens.\n#### 7", r"So $x = \boxed{\frac12}$."]
  records = [{"prompt": s, "answer": s} for s in solutions]
  task = make(records, num_test=1)
  problems = [*task.problems("train"), *task.problems("test")]
  assert {p.data for p in problems} == {"7", r"\frac12"}
  own = make(records, num_test=1, grader="operator:eq")
  assert {p.data for p in own.problems("train")} < {*solutions}


@pytest.mark.parametrize("module", ["own", "own_package.own"])
def test_an_own_grader_in_a_file_or_a_package(make, tmp_path, module):
  """The package's __init__ counts, as in any other program."""
  file = tmp_path / f"{module.replace('.', '/')}.py"
  file.parent.mkdir(exist_ok=True)
  init = "" if file.parent == tmp_path else "from own_package import NAME\n"
  (file.parent / "__init__.py").write_text("NAME = 'package'")
  file.write_text(init + GRADER)
  task = make(num_test=1, grader=f"{module}:closeness")
  assert prompts(task, "train")[0].endswith("?"), "no instruction"
  assert graded(task, "3", "3", "4", "x") == [
    base.Grade(1.0, True, "graded"),
    base.Grade(0.5, True, "graded"),
    base.Grade(
      0.0, True, "error: ValueError: could not convert string to float: 'x'"
    ),
  ]
  assert not {"own", "own_package"} & {*sys.modules}, "imported in training"


def own(make, tmp_path, function, **options):
  (tmp_path / "own.py").write_text(GRADER)
  return make(num_test=1, grader=f"own:{function}", **options)


def test_an_own_grader_may_say_valid_and_why(make, tmp_path):
  task = own(make, tmp_path, "described")
  assert graded(task, "3", "33") == [base.Grade(2.0, True, "33 for 3")]
  assert graded(task, "?", "a") == [base.Grade(0.0, False, "a for ?")]


def test_an_own_grader_has_limits(make, tmp_path):
  task = own(make, tmp_path, "slow", timeout=0.5)
  assert [g.reason for g in graded(task, "3", "slow", "large", "")] == [
    "timeout",
    "out of memory",
    "graded",
  ]


def test_an_own_grader_runs_without_the_accelerator(make, tmp_path):
  (tmp_path / "own.py").write_text(
    "from pkpo_jax.tasks.grading.latex import equality" + GRADER
  )
  task = make(num_test=1, grader="own:where")
  pid = task._pool._workers[0]._process.pid
  assert graded(task, "3", "") == [base.Grade(1.0, True, f"{pid} False")]


@pytest.mark.parametrize(
  ("function", "cause"),
  [
    ("nothing", "the grader returned NoneType"),
    ("one", "the grader does not take 2 arguments"),
    ("typo", "the grader raised NameError: name 'complation' is not defined"),
    ("absent", "AttributeError: module 'own' has no attribute 'absent'"),
  ],
)
def test_a_broken_grader_ends_the_run_before_it_starts(
  make, tmp_path, function, cause
):
  with pytest.raises(ValueError, match=f"'own:{function}' cannot .*{cause}"):
    own(make, tmp_path, function)


def examples(language):
  """The code blocks on own problems in the documentation."""
  text = DOCS.read_text(encoding="utf-8")
  text = text.split("## Your own problems")[1].split("\n## ")[0]
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_examples_of_the_documentation(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  (problems,) = examples("json")
  pathlib.Path("problems.jsonl").write_text(problems)
  made = []
  for block in examples("python"):
    if name := re.match(r"# (\w+\.py)\n", block):
      pathlib.Path(name[1]).write_text(block)
      continue
    config = ml_collections.ConfigDict({"task": {}})
    exec(block, {"config": config})
    made.append(tasks.get_task(**config.task))
  math, own, sums = made
  assert graded(math, r"\pm 2", r"So \boxed{-2, 2}.") == [RIGHT]
  assert [g.reward for g in graded(own, "42", "It is 42", "4", "")] == [
    1,
    0.5,
    0,
  ]
  problem = sums.problems("train")[-1]
  assert problem.prompt == "What is 5+5?"
  assert sums.grade(problem, "12") == base.Grade(1 / 3, True, "number")
  assert len(own.problems("train")) == 2
  for task in made:
    task.close()
