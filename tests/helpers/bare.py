"""Bare environments with pkpo_jax as it would be installed."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
UV = ROOT / ".uv/bin/uv"


def run(folder, command, *, python=sys.executable, extra=()):
  """What the command does in an environment of its own, and says there.

  Installed is a wheel that is built now: given the repository, uv would take
  that of an earlier day as long as setup.py is the same.

  Args:
    folder: a temporary one, where the command runs.
    command: a list, such as ["python", "-c", "..."].
    python: version or path of the interpreter.
    extra: packages beside pkpo_jax and what it needs.
  """
  assert UV.exists(), "needs .uv/bin/uv, which `make verify` installs"
  build = ["build", "--quiet", "--wheel", "--python", sys.executable]
  _call([*build, "--out-dir", folder / "wheels", ROOT], folder, check=True)
  (wheel,) = (folder / "wheels").glob("*.whl")
  packages = [part for name in (wheel, *extra) for part in ("--with", name)]
  options = ["--quiet", "--no-project", "--isolated", "--python", python]
  return _call(["run", *options, *packages, *command], folder)


def _call(arguments, folder, check=False):
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  return subprocess.run(
    [UV, *arguments],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
    check=check,
  )
