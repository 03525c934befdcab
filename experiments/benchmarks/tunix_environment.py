"""An environment with google-tunix, apart from .venv: its jax is another."""

import pathlib
import subprocess
import venv

TUNIX = "google-tunix==0.1.7"
UV = pathlib.Path(__file__).parents[2] / ".uv/bin/uv"


def python(folder: pathlib.Path = pathlib.Path(".tunix")) -> pathlib.Path:
  """The Python of the environment in a folder, built at the first call."""
  executable, done = folder / "bin/python", folder / "installed"
  if not done.exists():
    print(f"Installing {TUNIX} into {folder}", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    install: list[str | pathlib.Path] = [executable, "-m", "pip", "install"]
    if UV.exists():  # a minute instead of ten
      install = [UV, "pip", "install", "--python", executable]
    subprocess.run([*install, "--quiet", TUNIX], check=True)
    done.touch()
  return executable
