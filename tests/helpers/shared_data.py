"""Where data sets are that the repository does not hold."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def folder(*names: str) -> pathlib.Path:
  """The folder with these files; skips the test where it is not."""
  path = pathlib.Path(os.environ.get("PKPO_DATA", ROOT / "data"))
  for name in names:
    if not (path / name).is_file():
      pytest.skip(f"{path / name} is absent; PKPO_DATA names its folder")
  return path
