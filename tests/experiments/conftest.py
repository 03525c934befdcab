"""What tests of commands share."""

import runpy
import sys

import pytest


@pytest.fixture
def run_here(monkeypatch, capsys):
  """Runs a command in this process: its exit code and what it prints."""

  def run(module, *options):
    monkeypatch.setattr(sys, "argv", [module, *map(str, options)])
    code = 0
    try:
      runpy.run_module(f"experiments.{module}", None, "__main__", True)
    except SystemExit as end:
      code = end.code
    printed = capsys.readouterr()
    return code, printed.out + printed.err

  return run
