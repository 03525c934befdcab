r"""The loader of MATH on problems of our own, in every layout."""

import json

import pytest

from pkpo_jax.tasks import hendrycks_math

TRAIN = {
  "algebra/2": ("Solve $2x = 6$.", "Level 1", r"Halve it: $x = \boxed{3}$."),
  "algebra/10": ("Halve 1.", "Level 2", r"It is $\boxed{\frac{1}{2}}$."),
  "geometry/1": (
    "A right angle?",
    "Level ?",
    r"\boxed{5} no, \boxed{90^\circ}",
  ),
}
TEST = {
  "algebra/7": ("Where is $x^2 < 4$?", "Level 5", r"$\boxed{(-2,2)}$"),
  "geometry/3": ("The side of a square of area 9?", "Level 3", r"\boxed 3$"),
}
GOLDS = {
  "train/algebra/2.json": "3",
  "train/algebra/10.json": r"\frac{1}{2}",
  "train/geometry/1.json": r"90^\circ",
  "test/algebra/7.json": "(-2,2)",
  "test/geometry/3.json": "3",
}


def records(split, ids=True):
  for name, (problem, level, solution) in {"train": TRAIN, "test": TEST}[
    split
  ].items():
    record = {"problem": problem, "level": level, "solution": solution}
    yield record | ({"unique_id": f"{split}/{name}.json"} if ids else {})


def write_published(folder):
  for split in ("train", "test"):
    for record in records(split):
      file = folder / record.pop("unique_id")
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_text(json.dumps(record))


def write_lines(folder, ids=True):
  for split in ("train", "test"):
    lines = [json.dumps(record) + "\n" for record in records(split, ids)]
    (folder / f"{split}.jsonl").write_text("".join(lines))


def write_arrow(folder):
  """As `datasets.DatasetDict.save_to_disk` does."""
  pyarrow = pytest.importorskip("pyarrow")
  for split in ("train", "test"):
    (folder / split).mkdir()
    table = pyarrow.Table.from_pylist(list(records(split)))
    file = folder / split / "data-00000-of-00001.arrow"
    with (
      pyarrow.OSFile(str(file), "wb") as sink,
      pyarrow.ipc.new_stream(sink, table.schema) as writer,
    ):
      writer.write_table(table)
  (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')


def write_parquet(folder):
  parquet = pytest.importorskip("pyarrow.parquet")
  pyarrow = pytest.importorskip("pyarrow")
  (folder / "data").mkdir()
  for split in ("train", "test"):
    table = pyarrow.Table.from_pylist(list(records(split)))
    file = folder / "data" / f"{split}-00000-of-00001.parquet"
    parquet.write_table(table, file)


def golds(task):
  problems = [*task.problems("train"), *task.problems("test")]
  return {p.id.removeprefix("math/"): p.data for p in problems}


@pytest.mark.parametrize(
  "write", [write_published, write_lines, write_arrow, write_parquet]
)
def test_reads_every_layout(tmp_path, write):
  write(tmp_path)
  task = hendrycks_math.Math(tmp_path, split="published", instruction="Go.")
  assert golds(task) == GOLDS
  assert [p.tier for p in task.problems("train")] == [
    "level 1",
    "level 2",
    "level ?",
  ]
  first = task.problems("train")[0]
  assert first.id == "math/train/algebra/2.json"
  assert first.prompt == "Solve $2x = 6$.\n\nGo."


@pytest.mark.parametrize("write", [write_published, write_lines, write_arrow])
@pytest.mark.parametrize("listed", ["ids.txt", "math500.jsonl"])
def test_holds_out_the_listed_problems(tmp_path, write, listed):
  data = tmp_path / "data"
  data.mkdir()
  write(data)
  ids = ["test/geometry/3.json", "train/algebra/2.json"]
  file = tmp_path / listed
  if listed == "ids.txt":
    file.write_text("\n".join(ids) + "\n")
  else:
    file.write_text("".join(json.dumps({"unique_id": i}) + "\n" for i in ids))
  task = hendrycks_math.Math(data, test_ids=file)
  assert sorted(p.id for p in task.problems("test")) == [
    f"math/{i}" for i in ids
  ]
  assert len(task.problems("train")) == 3
  assert golds(task) == GOLDS


def test_problems_without_ids_are_told_by_their_text(tmp_path):
  write_lines(tmp_path, ids=False)
  file = tmp_path / "held_out.jsonl"
  file.write_text(json.dumps({"problem": "Halve  1."}) + "\n")
  task = hendrycks_math.Math(tmp_path, test_ids=file)
  assert [p.data for p in task.problems("test")] == [r"\frac{1}{2}"]
  ids = [p.id for p in task.problems("train")]
  assert len(set(ids)) == 4


def write_sizes(folder, train, test):
  for split, size in (("train", train), ("test", test)):
    lines = [
      json.dumps({"problem": f"{split} {i}?", "level": 1, "answer": str(i)})
      for i in range(size)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(lines))


def test_data_of_12_000_and_500_problems_are_split_already(tmp_path):
  write_sizes(tmp_path, 12_000, 500)
  task = hendrycks_math.Math(tmp_path, num_train=20)
  assert len(task.problems("train")) == 20
  assert len(task.problems("test")) == 500
  assert task.problems("test")[7].data == "7"
  assert task.problems("test")[7].tier == "level 1"


def test_other_data_need_to_be_told_how_to_split(tmp_path):
  write_sizes(tmp_path, 75, 50)
  with pytest.raises(ValueError, match=r"75 training and 50 test.*test_ids"):
    hendrycks_math.Math(tmp_path)
  task = hendrycks_math.Math(tmp_path, split="published", num_test=10)
  assert len(task.problems("train")) == 75
  assert len(task.problems("test")) == 10


def test_grades(tmp_path):
  write_published(tmp_path)
  task = hendrycks_math.Math(tmp_path, split="published", num_workers=1)
  rewards, valid = task.grade_batch(
    task.problems("train"),
    [
      [r"\boxed{3}", r"\boxed{x=3}", r"\boxed{4}"],
      [r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{2^{-1}}"],
      [r"\boxed{90}", r"\boxed{90^\circ}", r"\boxed{5}"],
    ],
  )
  assert rewards.tolist() == [[1, 1, 0]] * 3 and valid.all()
  interval = task.problems("test")[0]
  assert task.grade(interval, r"\boxed{-2 < x < 2}").reward == 1
  assert task.grade(interval, r"\boxed{[-2, 2]}").reward == 0
  task.close()


@pytest.mark.parametrize(
  ("record", "message"),
  [
    ({"problem": "?", "solution": "no box"}, "no reference answer"),
    ({"problem": "?", "solution": r"\boxed{}"}, "no reference answer"),
    ({"problem": "?", "solution": r"\boxed{3"}, "no reference answer"),
    ({"problem": "?", "answer": " "}, "no reference answer"),
    ({"problem": "?"}, "'solution' is None"),
    ({"solution": r"\boxed{3}"}, "'problem' is None"),
    ([], "not a JSON object"),
  ],
)
def test_broken_problems_are_errors_that_name_the_file(
  tmp_path, record, message
):
  write_published(tmp_path)
  file = tmp_path / "train" / "geometry" / "1.json"
  file.write_text(json.dumps(record))
  with pytest.raises(ValueError, match=rf"geometry/1\.json.*{message}"):
    hendrycks_math.Math(tmp_path, split="published")
  file.write_text("{")
  with pytest.raises(ValueError, match=r"geometry/1\.json: not JSON"):
    hendrycks_math.Math(tmp_path, split="published")


def test_absent_data_are_an_error_that_lists_the_layouts(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"train\.jsonl and test\.jsonl"):
    hendrycks_math.Math(tmp_path / "nowhere")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"split": "half"}, "'math500', 'published'"),
    ({"split": "published", "test_ids": "x"}, "has no effect"),
    ({"split": "published", "num_train": 4}, r"num_train=4 is not in 1\.\.3"),
    ({"split": "published", "num_test": 0}, r"num_test=0 is not in 1\.\.2"),
  ],
)
def test_options_out_of_range_are_errors(tmp_path, options, message):
  write_published(tmp_path)
  with pytest.raises(ValueError, match=message):
    hendrycks_math.Math(tmp_path, **options)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "is empty"),
    ("test/algebra/99.json\n", "1 of the 1 .*99.json"),
  ],
)
def test_lists_that_do_not_fit_are_errors(tmp_path, text, message):
  data = tmp_path / "data"
  write_published(data)
  file = tmp_path / "ids.txt"
  file.write_text(text)
  with pytest.raises(ValueError, match=message):
    hendrycks_math.Math(data, test_ids=file)
  lines = tmp_path / "ids.jsonl"
  lines.write_text('{"name": 1}\n')
  with pytest.raises(ValueError, match="no 'unique_id' and no 'problem'"):
    hendrycks_math.Math(data, test_ids=lines)
  with pytest.raises(FileNotFoundError):
    hendrycks_math.Math(data, test_ids=tmp_path / "nowhere.txt")


def test_few_shots_are_worked_out_and_not_trained_on(tmp_path):
  write_lines(tmp_path)
  task = hendrycks_math.Math(
    tmp_path, split="published", few_shot=1, instruction="Go."
  )
  assert len(task.problems("train")) == len(TRAIN) - 1
  (question, _, solution), *_ = TRAIN.values()
  for problem in (*task.problems("train"), *task.problems("test")):
    start = f"Go.\n\nQuestion: {question}\nAnswer: {solution}\n"
    assert problem.prompt.startswith(start)
    assert problem.prompt.endswith("\nAnswer:")
  problem = task.problems("test")[0]
  own = rf"\boxed{{{problem.data}}}" + "\nQuestion: 1?\nAnswer: \\boxed{0}"
  assert task.grade(problem, own).reward == 1
  task.close()
  with pytest.raises(ValueError, match=r"few_shot=3 is not in 0\.\.2"):
    hendrycks_math.Math(tmp_path, split="published", few_shot=3)


def test_a_copy_beside_the_subjects_is_not_read_twice(tmp_path):
  parquet = pytest.importorskip("pyarrow.parquet")
  pyarrow = pytest.importorskip("pyarrow")
  for folder in ("algebra", "default"):
    (tmp_path / folder).mkdir()
    for split in ("train", "test"):
      table = pyarrow.Table.from_pylist(list(records(split, ids=False)))
      parquet.write_table(table, tmp_path / folder / f"{split}-0.parquet")
  with pytest.raises(ValueError, match=r"3 of 6 problems are there twice.*def"):
    hendrycks_math.Math(tmp_path, split="published")
  task = hendrycks_math.Math(tmp_path / "algebra", split="published")
  assert len(task.problems("train")) == 3


def test_held_out_problems_are_not_trained_on(tmp_path):
  write_lines(tmp_path, ids=False)
  (tmp_path / "test.jsonl").write_text((tmp_path / "train.jsonl").read_text())
  with pytest.raises(ValueError, match="3 of 3 held-out problems are trained"):
    hendrycks_math.Math(tmp_path, split="published")


def test_listed_ids_are_matched_by_the_problem_where_data_have_none(tmp_path):
  data = tmp_path / "data"
  data.mkdir()
  write_lines(data, ids=False)
  record = next(records("test"))
  (tmp_path / "test.jsonl").write_text(json.dumps(record) + "\n")
  task = hendrycks_math.Math(data, test_ids=tmp_path / "test.jsonl")
  assert [p.data for p in task.problems("test")] == ["(-2,2)"]


@pytest.mark.parametrize(
  ("answer", "gold"),
  [(7, "7"), (0.5, "0.5"), (r"We add. The answer is $\boxed{2}$.", "2")],
)
def test_answers_may_be_numbers_or_solutions(tmp_path, answer, gold):
  write_lines(tmp_path)
  line = json.dumps({"problem": "?", "level": 1, "answer": answer})
  (tmp_path / "train.jsonl").write_text(line + "\n")
  task = hendrycks_math.Math(tmp_path, split="published")
  assert [p.data for p in task.problems("train")] == [gold]


def test_references_that_cannot_be_read_are_named(tmp_path):
  write_lines(tmp_path)
  line = json.dumps({"problem": "?", "level": 1, "answer": "see solution"})
  (tmp_path / "train.jsonl").write_text(line + "\n")
  with pytest.raises(ValueError, match=r"line 1: .*'see solution'"):
    hendrycks_math.Math(tmp_path, split="published")
