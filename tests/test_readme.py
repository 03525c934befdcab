"""What the README shows must run."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
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
