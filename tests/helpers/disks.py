"""Disks that fill up."""

import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def small(folder, size):
  """A file system of that size, mounted at the folder."""
  if os.geteuid():
    pytest.skip("mounting needs root")
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip("mounting is not allowed here")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
  """Takes all the room of a small disk; returns the file that does."""
  filler = folder / "filler"
  with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
    for size in (4096, 1):
      with contextlib.suppress(OSError):
        while file.write(bytes(size)):
          pass
  return filler
