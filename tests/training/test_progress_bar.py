"""training.progress_bar: a bar on a terminal, plain lines in a log."""

import io

import pytest

from pkpo_jax.training import progress_bar


@pytest.fixture
def clock(monkeypatch):
  """A clock that goes on by 6 seconds whenever it is read."""
  readings = iter(range(0, 10**6, 6))
  monkeypatch.setattr(progress_bar.time, "monotonic", lambda: next(readings))


def test_a_log_gets_a_plain_line_now_and_then(capsys, clock):
  bar = progress_bar.ProgressBar("train", done=2, total=24)
  for _ in range(22):
    bar.update({"k": "8"})
  bar.close()
  assert capsys.readouterr().err.splitlines() == [
    "train 3/24, k=8",
    "train 10/24, 01:24 left, k=8",
    "train 20/24, 00:24 left, k=8",
    "train 24/24, 00:00 left, k=8",
  ]


def test_fast_steps_do_not_flood_a_log(capsys):
  bar = progress_bar.ProgressBar("pretrain", done=0, total=1000)
  for _ in range(1000):
    bar.update({})
  assert len(capsys.readouterr().err.splitlines()) <= 3


def test_a_terminal_gets_a_bar(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  terminal = Terminal()
  monkeypatch.setattr("sys.stderr", terminal)
  bar = progress_bar.ProgressBar("train", done=0, total=2)
  bar.update({"k": "8"})
  bar.update({"k": "8"})
  bar.close()
  assert "2/2" in terminal.getvalue() and "k=8" in terminal.getvalue()
  assert "\r" in terminal.getvalue()
