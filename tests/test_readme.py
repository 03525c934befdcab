"""What the README and the docs show must run, and what they link must exist."""

import pathlib
import re
import shlex

import pytest

from experiments import command_line
from pkpo_jax.training import config as config_lib

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.slow
def test_python_examples_run():
  blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
  assert blocks
  for block in blocks:
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page):
  for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
    assert (page.parent / link.replace("\\", "")).exists(), link


def test_shown_modules_exist():
  modules = re.findall(r"python -m (experiments[\w.]*)", TEXT)
  assert modules
  for module in modules:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


TRAINING = re.findall(r"^python -m experiments\.train (.*)$", TEXT, re.M)


@pytest.mark.parametrize("options", TRAINING)
def test_shown_training_commands_are_valid(options, monkeypatch):
  monkeypatch.chdir(ROOT)
  parser = command_line.parser("")
  command_line.add_config(parser, "configs/countdown.py")
  parser.add_argument("--workdir")
  parser.add_argument("--distributed", action="store_true")
  parser.add_argument("--dry_run", action="store_true")
  config_lib.check(command_line.parse(parser, shlex.split(options)).config)


def test_an_annealed_run_is_shown():
  assert any(":annealed" in options for options in TRAINING)
