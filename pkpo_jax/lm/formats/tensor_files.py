"""Reads slices of safetensors files, and writes folders of them."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

_INDEX = "model.safetensors.index.json"
_ONE_FILE = "model.safetensors"


@contextlib.contextmanager
def open_folder(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Opens a folder: maps each tensor's name to what reads slices of it.

  Raises:
    FileNotFoundError: a file is missing.
  """
  if (folder / _INDEX).exists():
    files = set(read_json(folder / _INDEX)["weight_map"].values())
  else:
    files = {_ONE_FILE}
  missing = sorted(file for file in files if not (folder / file).exists())
  if missing:
    raise FileNotFoundError(f"{folder} has no {', '.join(missing[:5])}.")
  stored: dict[str, Any] = {}
  with contextlib.ExitStack() as stack:
    for file in sorted(files):
      opened = stack.enter_context(
        safetensors.safe_open(folder / file, framework="numpy")
      )
      names = opened.keys()
      stored.update({name: opened.get_slice(name) for name in names})
    yield stored


def write_tensors(
  folder: pathlib.Path,
  tensors: Iterable[tuple[str, np.ndarray]],
  sizes: Mapping[str, int],
  max_shard_bytes: int,
) -> None:
  """Writes tensors as they come, and an index if they fill several files.

  Args:
    folder: an existing folder.
    tensors: names and arrays, in the order of `sizes`.
    sizes: bytes of each tensor, by name.
    max_shard_bytes: the most that a file has, unless one tensor is larger.
  """
  plan, tensors = _plan(sizes, max_shard_bytes), iter(tensors)
  for file, names in plan.items():
    shard = dict(next(tensors) for _ in names)
    assert list(shard) == names
    # transformers refuses a file without this entry.
    safetensors.numpy.save_file(shard, folder / file, {"format": "pt"})
  if len(plan) > 1:
    weight_map = {name: file for file, names in plan.items() for name in names}
    total = {"total_size": sum(sizes.values())}
    write_json(folder / _INDEX, {"metadata": total, "weight_map": weight_map})


def _plan(sizes: Mapping[str, int], limit: int) -> dict[str, list[str]]:
  """Maps each file's name to the names of its tensors, in order."""
  files: list[list[str]] = [[]]
  filled = 0
  for name, size in sizes.items():
    if files[-1] and filled + size > limit:
      files.append([])
      filled = 0
    files[-1].append(name)
    filled += size
  if len(files) == 1:
    return {_ONE_FILE: files[0]}
  return {
    f"model-{i:05}-of-{len(files):05}.safetensors": names
    for i, names in enumerate(files, 1)
  }


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary folder, which gets the name when all is written."""
  refuse_existing(folder)
  made = folder.with_name(f".{folder.name}.{os.getpid()}")
  made.mkdir(parents=True)
  try:
    yield made
    made.replace(folder)
  except BaseException:
    shutil.rmtree(made)
    raise


def refuse_existing(folder: pathlib.Path | epath.Path) -> None:
  """Raises FileExistsError unless there is nothing, or an empty folder."""
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise FileExistsError(f"{folder} exists; choose another folder.")


def read_json(path: pathlib.Path | epath.Path) -> dict[str, Any]:
  """Reads a JSON file; FileNotFoundError says what is missing."""
  if not path.parent.is_dir():
    raise FileNotFoundError(f"There is no folder {path.parent}.")
  if not path.exists():
    raise FileNotFoundError(f"{path.parent} has no {path.name}.")
  return json.loads(path.read_text())


def write_json(path: pathlib.Path | epath.Path, value: Any) -> None:
  """Writes a JSON file, indented."""
  path.write_text(json.dumps(value, indent=2) + "\n")
