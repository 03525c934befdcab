"""tests/verify.py: what is due, and the page that remembers."""

import dataclasses
import importlib.util
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("verify.py")


@pytest.fixture
def verify(tmp_path, monkeypatch):
  """The script, for a repository of two files and nothing else."""
  spec = importlib.util.spec_from_file_location("verify", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  monkeypatch.setitem(sys.modules, "verify", module)
  spec.loader.exec_module(module)
  monkeypatch.setattr(module, "ROOT", tmp_path)
  monkeypatch.setattr(module, "PAGE", tmp_path / "verification.md")
  (tmp_path / "subject").mkdir()
  for name in ("subject/code.py", "test.py", "other.py"):
    (tmp_path / name).write_text("before")
  for command in (
    ["init", "--quiet"],
    ["add", "."],
    ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"],
  ):
    subprocess.run(["git", *command], cwd=tmp_path, check=True)
  return module


def passed(verify):
  return verify.Outcome(
    "test.py", "subject", "passed", commit=verify._git("rev-parse", "HEAD")
  )


def test_due_is_what_has_not_passed(verify):
  outcome = passed(verify)
  assert not verify.is_due(outcome)
  assert verify.is_due(dataclasses.replace(outcome, result="**failed**"))
  assert verify.is_due(dataclasses.replace(outcome, commit="0123456789"))
  assert verify.is_due(verify.Outcome("test.py", "subject"))


@pytest.mark.parametrize(
  ("changed", "due"),
  [("subject/code.py", True), ("test.py", True), ("other.py", False)],
)
def test_due_is_what_is_about_something_changed(verify, changed, due):
  (verify.ROOT / changed).write_text("after")
  assert verify.is_due(passed(verify)) == due


def test_the_page_remembers_all_outcomes(verify):
  outcomes = [
    verify.Outcome("tests/b.py", "x y", "passed", "1.5", "0123", "2025-01-02"),
    verify.Outcome("tests/a.py", "x"),
  ]
  verify.write(outcomes)
  assert list(verify.read()) == outcomes[::-1]
  verify.write(outcomes[:1])
  assert list(verify.read()) == outcomes[:1]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "result"), [("1", "passed"), ("0", "failed")])
def test_an_outcome_has_its_commit(verify, text, result):
  lines = f"import pytest\n@pytest.mark.verify\ndef test(): assert {text}\n"
  (verify.ROOT / "test.py").write_text(lines)
  outcome = verify.run(verify.Outcome("test.py", "subject"))
  assert outcome.result.strip("*") == result
  assert verify._git("rev-parse", "HEAD").startswith(outcome.commit)
