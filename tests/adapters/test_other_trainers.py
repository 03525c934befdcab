"""docs/other_trainers.md: its recipes run, in trainers from PyPI on a CPU."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/other_trainers.md"
PROGRAM = ROOT / "tests/adapters/other_trainers.py"
RECIPES = re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE.read_text(), re.S)
# verl asks for more than the function needs, down to a GPU: named one by one.
VERL = ["hydra-core", "codetiming", "omegaconf", "orjson", "pandas", "ray"]
PACKAGES = {
  "TRL": [["torch==2.13.0"], ["trl==1.16.0"]],
  "verl": [
    ["torch==2.13.0"],
    ["transformers", "accelerate", "datasets", "tensordict==0.10.0", *VERL],
    ["--no-deps", "verl==0.9.1"],
  ],
}


def test_recipes_are_short():
  assert {name for name, _ in RECIPES} == PACKAGES.keys()
  for _, recipe in RECIPES:
    assert len([line for line in recipe.splitlines() if line]) <= 12


@pytest.mark.verify(
  "docs/other_trainers.md",
  "pkpo_jax/adapters/any_trainer.py",
  "tests/adapters/other_trainers.py",
)
@pytest.mark.timeout(1800)  # pip takes most of it
@pytest.mark.parametrize("name", PACKAGES)
def test_a_recipe_runs(name, tmp_path):
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

  def call(*command, **options):
    return subprocess.run(
      command, cwd=tmp_path, text=True, timeout=900, **options
    )

  # By pip, which may be configured to find a small torch without CUDA, and on
  # the oldest Python of the estimators, if it is there.
  oldest = shutil.which("python3.11") or sys.executable
  call(oldest, "-m", "venv", "env", check=True)
  python = tmp_path / "env/bin/python"
  for packages in ([str(ROOT)], *PACKAGES[name]):
    call(python, "-m", "pip", "install", "--quiet", *packages, check=True)
  result = call(
    python, PROGRAM, name, PAGE, env=environment, capture_output=True
  )
  assert result.returncode == 0, result.stderr[-3000:]
  assert result.stdout.endswith("as it should be\n")
