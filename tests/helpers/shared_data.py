"""Where data sets are that the repository does not hold."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def folder(*names: str) -> pathlib.Path:
  """The folder of these files; skips the test where one is absent.

  It is data/ in the root of the repository, or what PKPO_DATA says.
  """
  path = pathlib.Path(os.environ.get("PKPO_DATA") or ROOT / "data")
  for name in names:
    if not (path / name).is_file():
      pytest.skip(f"No {path / name}: docs/tasks.md says where to get it")
  return path
