"""Reads slices of safetensors files, and writes folders of them."""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from pkpo_jax.lm.formats import folder_kinds

_INDEX = "model.safetensors.index.json"
_ONE_FILE = "model.safetensors"
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
_LFS = b"version https://git-lfs"
_COMPARED = 10**7  # numbers of a tensor that are compared at a time


@contextlib.contextmanager
def open_folder(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Opens a folder: maps each tensor's name to what reads slices of it.

  A tensor that stands in several of its files is read from one of them, once
  all are found to be equal.

  Raises:
    FileNotFoundError: a file is missing; the message says what to do with
      other kinds of files that are there instead.
    ValueError: a file is damaged, or two of them hold different weights.
  """
  files = _files(folder)
  others = [
    file.name
    for file in sorted(folder.glob("*.safetensors"))
    if file.name not in files and not file.name.startswith(".")
  ]  # names with a dot are what a Mac, or a download, leaves behind
  with contextlib.ExitStack() as stack:
    opened = {
      file: stack.enter_context(_open(folder / file))
      for file in [*files, *others]
    }
    stored: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for file, reader in opened.items():
      names = reader.keys()
      for name in names:
        if name in origin:
          same = same_values(stored[name], reader.get_slice(name))
          _refuse_two(folder, name, (origin[name], file), same)
        elif file in files:
          stored[name], origin[name] = reader.get_slice(name), file
    if _ONE_FILE in others and set(opened[_ONE_FILE].keys()) != set(stored):
      _refuse_two(folder, "the set", (_INDEX, _ONE_FILE), same=False)
    yield stored


def _files(folder: pathlib.Path) -> list[str]:
  """Names of the files that hold a folder's weights.

  Raises:
    FileNotFoundError: there are none, or one is missing.
  """
  if (folder / _INDEX).exists():
    index = read_json(folder / _INDEX)
    if not isinstance(index.get("weight_map"), dict):
      raise ValueError(f"{folder / _INDEX} has no weight_map; copy it again.")
    files = _names_in(folder, index["weight_map"].values())
  elif (folder / _ONE_FILE).exists():
    files = [_ONE_FILE]
  else:
    files = _shards(folder) or [_ONE_FILE]
  missing = [file for file in files if not (folder / file).exists()]
  if missing:
    remedy = folder_kinds.other_weights(folder)
    raise FileNotFoundError(
      f"{folder} has no {', '.join(missing[:5])}.{remedy}"
    )
  return files


def _names_in(folder: pathlib.Path, names: Collection[Any]) -> list[str]:
  """The names of an index, sorted, once all are of files of its folder."""
  for name in names:
    path = pathlib.PurePath(str(name))
    if path.name != name or path.suffix != ".safetensors":
      raise ValueError(
        f"{folder / _INDEX} names the file {name!r}, which is none of its"
        " folder; copy it again."
      )
  return sorted(set(names))


def _shards(folder: pathlib.Path) -> list[str]:
  """Names of all shards of a set without an index; none if there is no set."""
  for file in sorted(folder.glob("model-*.safetensors")):
    if found := _SHARD.fullmatch(file.name):
      count = int(found[1])
      return [
        f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)
      ]
  return []


@contextlib.contextmanager
def _open(file: pathlib.Path) -> Iterator[Any]:
  """Opens a safetensors file; ValueError where it is damaged."""
  check_fetched(file)
  try:
    opened = safetensors.safe_open(file, framework="numpy")
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{file} can't be read ({error}); copy it again."
    ) from error
  with opened as reader:
    yield reader


def check_fetched(file: pathlib.Path | epath.Path) -> None:
  """Raises ValueError for a file whose content was never fetched."""
  with file.open("rb") as opened:
    start = opened.read(len(_LFS))
  if start == _LFS:
    raise ValueError(
      f"{file} can't be read (it is a pointer of Git LFS); run `git lfs pull`"
      " in its folder."
    )
  if not start:
    raise ValueError(f"{file} can't be read (it is empty); copy it again.")


def same_values(one: Any, other: Any) -> bool:
  """Whether two stored tensors have the same shape and numbers, in any type.

  Few rows of them are in memory at a time.
  """
  shape = one.get_shape()
  if shape != other.get_shape():
    return False
  if not shape:
    return np.array_equal(one[...], other[...], equal_nan=True)
  rows = max(1, _COMPARED // max(1, math.prod(shape[1:])))
  parts = (slice(i, min(i + rows, shape[0])) for i in range(0, shape[0], rows))
  return all(
    np.array_equal(one[part], other[part], equal_nan=True) for part in parts
  )


def _refuse_two(
  folder: pathlib.Path, what: str, files: tuple[str, str], same: bool
) -> None:
  """Raises ValueError where two files hold different weights."""
  if not same:
    raise ValueError(
      f"{folder} has two sets of weights: {what} differs in {files[0]} and in"
      f" {files[1]}; remove the files that are not the model's."
    )


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
  """Reads a JSON object; an error names the file and says what is wrong."""
  if not path.parent.is_dir():
    if path.parent.exists():
      raise FileNotFoundError(f"{path.parent} is a file; give its folder.")
    raise FileNotFoundError(f"There is no folder {path.parent}.")
  if not path.exists():
    raise FileNotFoundError(f"{path.parent} has no {path.name}.")
  check_fetched(path)
  try:
    read = json.loads(path.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is no JSON: {error}; copy it again.") from error
  if not isinstance(read, dict):
    raise ValueError(f"{path} holds no JSON object.")
  return read


def write_json(path: pathlib.Path | epath.Path, value: Any) -> None:
  """Writes a JSON file, indented."""
  path.write_text(json.dumps(value, indent=2) + "\n")
