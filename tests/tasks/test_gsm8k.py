r"""GSM8K: its loader on problems of our own, and its grader on all of it."""

import json

import numpy as np
import pytest
from helpers import shared_data

from pkpo_jax.tasks import base, gsm8k

QUESTIONS = {
  "train": [
    (
      "Ada has 3 pens and buys 4. How many has she?",
      "She has 3+4=<<3+4=7>>7 pens.\n#### 7",
    ),
    (
      "A crate holds 1,200 nails. How many nails do 2 crates hold?",
      "Two crates hold 2 of them.\nThat is 1200*2=<<1200*2=2400>>2,400.\n"
      "#### 2,400",
    ),
    ("It was 2 degrees and fell by 5. What is it?", "2-5=-3\n#### -3"),
  ],
  "test": [
    ("What is 6 times 7?", "6*7=<<6*7=42>>42\n#### 42"),
    ("Bo ate \u2028 half of 8 figs. How many?", "8/2=<<8/2=4>>4\n#### 4"),
  ],
}


def write(folder, name, pairs):
  lines = [
    json.dumps({"question": q, "answer": a}, ensure_ascii=False) + "\n"
    for q, a in pairs
  ]
  (folder / name).write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def data(tmp_path):
  for split, pairs in QUESTIONS.items():
    write(tmp_path, f"{split}.jsonl", pairs)
  return tmp_path


@pytest.mark.parametrize("prefix", ["", "gsm8k_"])
def test_reads_the_problems(tmp_path, prefix):
  for split, pairs in QUESTIONS.items():
    write(tmp_path, f"{prefix}{split}.jsonl", pairs)
  task = gsm8k.GSM8K(str(tmp_path), instruction="Go.")
  assert list(task.problems("train")) == [
    base.Problem(
      f"gsm8k/train/{row}",
      f"{QUESTIONS['train'][row][0]}\n\nGo.",
      tier,
      answer,
      QUESTIONS["train"][row][0],
    )
    for row, (tier, answer) in enumerate(
      [("1 step", "7"), ("2 steps", "2400"), ("1 step", "-3")]
    )
  ]
  assert [p.data for p in task.problems("test")] == ["42", "4"]
  with pytest.raises(ValueError, match="known: train, test"):
    task.problems("dev")


def test_the_default_instruction_asks_for_a_box(data):
  task = gsm8k.GSM8K(data)
  assert r"\boxed{}" in task.problems("test")[0].prompt
  bare = gsm8k.GSM8K(data, instruction="").problems("test")[0].prompt
  assert bare == QUESTIONS["test"][0][0]


def test_takes_the_first_problems(data):
  task = gsm8k.GSM8K(data, num_train=2, num_test=1)
  ids = [p.id for split in ("train", "test") for p in task.problems(split)]
  assert ids == ["gsm8k/train/0", "gsm8k/train/1", "gsm8k/test/0"]


@pytest.mark.slow
def test_worked_examples_come_first_and_are_not_trained_on(data):
  task = gsm8k.GSM8K(data, few_shot=2, instruction="Go.")
  (problem,) = task.problems("train")
  assert problem.id == "gsm8k/train/2"
  assert problem.prompt == (
    "Go.\n\n"
    "Question: Ada has 3 pens and buys 4. How many has she?\n"
    "Answer: She has 3+4=7 pens.\n"
    "The final answer is \\boxed{7}.\n\n"
    "Question: A crate holds 1,200 nails. How many nails do 2 crates hold?\n"
    "Answer: Two crates hold 2 of them.\nThat is 1200*2=2,400.\n"
    "The final answer is \\boxed{2400}.\n\n"
    "Question: It was 2 degrees and fell by 5. What is it?\nAnswer:"
  )
  asks_on = " \\boxed{-3}.\n\nQuestion: And 1+1?\nAnswer: \\boxed{2}"
  assert task.grade(problem, asks_on).reward == 1.0
  task.close()


@pytest.mark.slow
def test_grades(data):
  task = gsm8k.GSM8K(data)
  problems = task.problems("train")
  rewards, valid = task.grade_batch(
    problems,
    [
      [r"\boxed{7}", "#### 7", "The answer is 7 pens.", "7"],
      [r"\boxed{2,400}", r"\boxed{\$2400.00}", "#### 2400", r"\boxed{2.4}"],
      [r"\boxed{-3}", r"\boxed{2-5}", r"\boxed{-3^\circ}", r"\boxed{2-5=-3}"],
    ],
  )
  assert rewards.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 1, 1]]
  assert rewards.dtype == np.float32
  assert valid.dtype == bool and valid.all()
  task.close()


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("{", "line 2: not JSON"),
    ('{"question": "?"}', "line 2: the field 'answer' is None"),
    ('{"question": " ", "answer": "#### 1"}', "line 2: the field 'question'"),
    ('{"question": "?", "answer": "1"}', "line 2: .* #### and an integer"),
    ('{"question": "?", "answer": "#### a"}', "line 2: .*'a'"),
  ],
)
def test_broken_lines_are_errors(data, line, message):
  file = data / "train.jsonl"
  first = file.read_text().split("\n")[0]
  file.write_text(f"{first}\n{line}\n")
  with pytest.raises(ValueError, match=message):
    gsm8k.GSM8K(data)


def test_absent_files_are_errors_that_say_where_to_get_them(data):
  with pytest.raises(FileNotFoundError, match="openai/grade-school-math"):
    gsm8k.GSM8K(data / "nowhere")
  (data / "test.jsonl").unlink()
  with pytest.raises(FileNotFoundError, match=r"no test\.jsonl or gsm8k_test"):
    gsm8k.GSM8K(data)
  (data / "test.jsonl").write_text("\n")
  with pytest.raises(ValueError, match="empty"):
    gsm8k.GSM8K(data)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_train": 0}, r"num_train=0 is not in 1\.\.3"),
    ({"num_test": 3}, r"num_test=3 is not in 1\.\.2"),
    ({"few_shot": 3}, r"few_shot=3 is not in 0\.\.2"),
    ({"few_shot": 1, "num_train": 3}, r"num_train=3 is not in 1\.\.2"),
    ({"few_shot": -1}, "few_shot=-1"),
    ({"timeout": 0}, "timeout=0"),
    ({"num_workers": 0}, "num_workers=0"),
  ],
)
def test_options_out_of_range_are_errors(data, options, message):
  with pytest.raises(ValueError, match=message):
    gsm8k.GSM8K(data, **options)


def solutions(file):
  lines = file.read_text(encoding="utf-8").split("\n")
  return [json.loads(line)["answer"] for line in lines if line]


def assert_solutions_alone_are_right(every):
  """Each solution as published and in two spellings, and two wrong ones."""
  folder = shared_data.folder("gsm8k_train.jsonl", "gsm8k_test.jsonl")
  task = gsm8k.GSM8K(folder)
  assert len(task.problems("train")) == 7_473
  assert len(task.problems("test")) == 1_319
  for split in ("train", "test"):
    problems = task.problems(split)[::every]
    published = solutions(folder / f"gsm8k_{split}.jsonl")[::every]
    completions = [
      [
        solution,
        f"{solution}\nSo \\boxed{{{int(p.data):,}}} dollars.",
        f"The final answer is ${p.data}.00$.",
        f"{solution[: solution.index('####')]}#### {int(p.data) + 1}",
        f"{solution}\nSo \\boxed{{{int(p.data) + 1}}}.",
      ]
      for p, solution in zip(problems, published)
    ]
    rewards, valid = task.grade_batch(problems, completions)
    assert valid.all()
    wrong = np.argwhere(rewards != [1, 1, 1, 0, 0])
    assert not wrong.size, [
      (problems[row].id, completions[row][column])
      for row, column in wrong.tolist()[:5]
    ]
  task.close()


@pytest.mark.data
@pytest.mark.slow
def test_some_solutions_alone_are_right():
  assert_solutions_alone_are_right(every=13)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.verify("pkpo_jax/tasks")
def test_all_solutions_alone_are_right():
  assert_solutions_alone_are_right(every=1)


@pytest.mark.parametrize("layout", ["parquet", "arrow"])
def test_reads_parquet_and_saved_data_sets(tmp_path, layout):
  parquet = pytest.importorskip("pyarrow.parquet")
  pyarrow = pytest.importorskip("pyarrow")
  for split, pairs in QUESTIONS.items():
    rows = [{"question": q, "answer": a} for q, a in pairs]
    table = pyarrow.Table.from_pylist(rows)
    if layout == "parquet":
      (tmp_path / "main").mkdir(exist_ok=True)
      file = tmp_path / "main" / f"{split}-00000-of-00001.parquet"
      parquet.write_table(table, file)
      continue
    (tmp_path / split).mkdir()
    file = tmp_path / split / "data-00000-of-00001.arrow"
    with (
      pyarrow.OSFile(str(file), "wb") as sink,
      pyarrow.ipc.new_stream(sink, table.schema) as writer,
    ):
      writer.write_table(table)
  task = gsm8k.GSM8K(tmp_path)
  assert [p.data for p in task.problems("train")] == ["7", "2400", "-3"]


def test_questions_are_there_once(data):
  lines = (data / "train.jsonl").read_text()
  (data / "train.jsonl").write_text(lines * 2)
  with pytest.raises(ValueError, match="3 of 6 problems are there twice"):
    gsm8k.GSM8K(data)


def test_held_out_questions_are_not_trained_on(data):
  (data / "test.jsonl").write_text((data / "train.jsonl").read_text())
  with pytest.raises(ValueError, match="3 of 3 held-out problems are trained"):
    gsm8k.GSM8K(data)
