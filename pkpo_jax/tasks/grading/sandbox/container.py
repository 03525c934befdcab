"""Builds the commands that make a container, and that run the harness in it."""

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Sequence

HARNESS = pathlib.Path(__file__).with_name("inside.py").read_text("utf-8")
_NOBODY = "65534"
_PYTHONS = "/usr/local/bin:/usr/bin"

# The C modules of the standard library that may need shared libraries of their
# own. ctypes is left out on purpose: it is the short way to native code.
_MODULES = ("_bz2", "_decimal", "_hashlib", "_lzma", "_socket", "zlib")

_QUERY = f"""
import importlib.util, json, os, sys, sysconfig
specs = map(importlib.util.find_spec, {_MODULES})
json.dump({{
  "version": sys.version_info[:2],
  "python": os.path.realpath(sys.executable),
  "libraries": sorted({{
    os.path.realpath(sysconfig.get_path(name))
    for name in ("stdlib", "platstdlib")
  }}),
  "modules": [
    s.origin for s in specs if s and os.path.exists(s.origin or "")
  ],
}}, sys.stdout)
"""


def commands() -> tuple[list[str], list[str]]:
  """The words before and after those of a single run.

  Raises:
    RuntimeError: bubblewrap, setpriv or a Python is missing.
  """
  bwrap = _find("bwrap", "bubblewrap")
  python = _find("python3", "python3", _PYTHONS)
  runtime = json.loads(_ask(python, "-I", "-S", "-c", _QUERY))
  if tuple(runtime["version"]) < (3, 10):
    raise RuntimeError(
      f"{python} is {runtime['version']}; code is run with 3.10 or later."
    )
  command = [
    *_unprivileged(),
    *(bwrap, "--unshare-all", "--die-with-parent", "--new-session"),
    *("--as-pid-1", "--uid", _NOBODY, "--gid", _NOBODY),
    *("--dev-bind", "/dev/null", "/dev/null"),
    # The order of sets must not make one answer right today only.
    *("--setenv", "PYTHONHASHSEED", "0"),
  ]
  shared = _shared_libraries([runtime["python"], *runtime["modules"]])
  for path in (runtime["python"], *runtime["libraries"], *shared):
    command += ["--ro-bind", path, path]
  for library in runtime["libraries"]:  # packages may hold what is expected
    for name in ("site-packages", "dist-packages"):
      if os.path.isdir(hidden := os.path.join(library, name)):
        command += ["--tmpfs", hidden, "--remount-ro", hidden]
  command += ["--remount-ro", "/", "--chdir", "/"]
  # Not -I: it would not read PYTHONHASHSEED.
  return command, [runtime["python"], "-S", "-s", "-c", HARNESS]


def _unprivileged() -> tuple[str, ...]:
  """The words before a command that make it nobody's, where root runs it."""
  if os.geteuid() != 0:
    return ()
  ids = ("--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups")
  return (_find("setpriv", "util-linux"), *ids)


def _shared_libraries(files: Sequence[str]) -> list[str]:
  """All the shared libraries that these programs and modules load."""
  listing = _ask(_find("ldd", "libc-bin"), *files)
  return sorted(set(re.findall(r"(/\S+) \(0x", listing)))


def _ask(*command: str) -> str:
  return subprocess.run(
    command, env={}, check=True, capture_output=True, text=True
  ).stdout


def _find(tool: str, package: str, path: str | None = None) -> str:
  found = shutil.which(tool, path=path)
  if found is None:
    raise RuntimeError(
      f"`{tool}` is missing{f' in {path}' if path else ''}, and without it no"
      f" code is run. Install it: `apt-get install {package}`."
    )
  return found
