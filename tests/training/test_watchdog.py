"""training.watchdog: what takes too long says where it stands."""

import re
import time

import pytest

from pkpo_jax.training import watchdog


@pytest.fixture
def hasty(monkeypatch):
  """Patience of a tenth of a second, where something is usual."""
  monkeypatch.setattr(watchdog, "_AT_LEAST", 0.1)
  monkeypatch.setattr(watchdog, "_FIRST", 0.3)
  dump = watchdog.faulthandler.dump_traceback_later
  monkeypatch.setattr(
    watchdog.faulthandler,
    "dump_traceback_later",
    lambda seconds, **options: dump(seconds - 1 + 0.05, **options),
  )


def linger(seconds):
  time.sleep(seconds)


def test_what_is_late_says_where_it_stands(hasty, capfd):
  with watchdog.Watchdog() as watch:
    watch.begin("update", "of step 0")
    watch.begin("update", "of step 1")
    linger(0.4)
  said = capfd.readouterr().err
  assert re.search(
    r"Process 0 of 1 .*\d+ on .* for 0 s: update of step 1", said
  )
  assert "usual are " in said and "in linger" in said
  assert re.search(r"Process 0 of 1 .* goes on after \d s of update", said)
  assert said.count("has been at this") == 1


def test_what_is_done_for_the_first_time_has_longer(hasty, capfd):
  with watchdog.Watchdog() as watch:
    watch.begin("start")
    linger(0.15)
    watch.begin("update", "of step 0")
    linger(0.5)
  said = capfd.readouterr().err
  assert said.count("has been at this") == 1
  assert "update of step 0 (it is the first of its kind)" in said


def test_what_is_usual_says_nothing(hasty, monkeypatch, capfd):
  monkeypatch.setattr(watchdog, "_AT_LEAST", 2.0)
  with watchdog.Watchdog() as watch:
    for i in range(10):
      watch.begin("update", f"of step {i}")
      linger(0.001)
  time.sleep(0.3)  # nor does what is over
  assert capfd.readouterr().err == ""


def test_ten_times_the_median_is_late():
  watch = watchdog.Watchdog()
  watch._seconds["update"] = [4.0, 60.0, 5.0, 6.0, 5.0]
  assert watch._limit("update")[0] == 50
  watch._seconds["update"] = [0.1]
  assert watch._limit("update")[0] == watchdog._AT_LEAST
  assert watch._limit("save")[0] == watchdog._FIRST


def test_who_holds_the_lock_of_python_is_seen(hasty, capfd):
  """A regular expression that backtracks: no other thread runs."""
  with watchdog.Watchdog() as watch:
    watch.begin("grading")
    watch.begin("grading")
    assert not re.match("(a|a)+$", "a" * 22 + "b")
  assert "test_watchdog.py" in capfd.readouterr().err
