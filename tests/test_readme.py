"""What the README shows must run."""

import pathlib
import re
import shlex
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from pkpo_jax.training import config as config_lib

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_examples_run():
  blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
  assert blocks
  for block in blocks:
    exec(compile(block, "README.md", "exec"), {})


def test_linked_files_exist():
  links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
  assert links
  for link in links:
    assert (ROOT / link).exists(), link


def test_shown_modules_exist():
  modules = re.findall(r"python -m ([\w.]+)", README)
  assert modules
  for module in modules:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


TRAINING = re.findall(r"^python -m experiments\.train (.*)$", README, re.M)


@pytest.mark.parametrize("options", TRAINING)
def test_shown_training_commands_are_valid(options, monkeypatch):
  monkeypatch.chdir(ROOT)
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file("config", flag_values=values)
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  flags.DEFINE_bool("distributed", False, "", flag_values=values)
  # The config flag looks for its overrides in sys.argv.
  monkeypatch.setattr("sys.argv", ["train", *shlex.split(options)])
  values(sys.argv)
  config_lib.check(holder.value)


def test_an_annealed_run_is_shown():
  assert any("k_boundaries" in options for options in TRAINING)
