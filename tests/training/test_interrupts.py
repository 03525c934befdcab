"""training.interrupts: a first signal is noted, impatience is obeyed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pkpo_jax.training import interrupts

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def listening():
  """The handlers of a process in the foreground, wherever the tests run."""
  before = {s: signal.getsignal(s) for s in NUMBERS}
  for number in NUMBERS[1:]:
    signal.signal(number, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


def test_nothing_came():
  with interrupts.Interrupts() as interrupted:
    interrupted.check()
    assert list(interrupted.checked([1, 2])) == [1, 2]
  assert interrupted.number == 0


@pytest.mark.parametrize("number", NUMBERS)
def test_signals_are_noted_and_repeats_are_the_same_request(number):
  before = signal.getsignal(number)
  with interrupts.Interrupts() as interrupted:
    for _ in range(5):
      os.kill(os.getpid(), number)
      time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(interrupts.Stopped) as stopped:
      interrupted.check()
    with pytest.raises(interrupts.Stopped):
      next(interrupted.checked([1]))
  assert stopped.value.number == interrupted.number == number
  assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
  """As SIGHUP is under nohup."""
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  with interrupts.Interrupts() as interrupted:
    os.kill(os.getpid(), signal.SIGHUP)
  assert interrupted.number == 0
  assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_another_thread_may_run_one():
  """It hears nothing, and breaks nothing."""
  heard = []

  def run():
    with interrupts.Interrupts() as interrupted:
      interrupted.check()
      heard.append(interrupted.number)

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert heard == [0]


def test_nothing_is_left_behind():
  files, threads = os.listdir("/proc/self/fd"), threading.active_count()
  for _ in range(3):
    with interrupts.Interrupts():
      pass
  assert os.listdir("/proc/self/fd") == files
  assert threading.active_count() == threads


def test_a_session_gets_an_exception_instead(monkeypatch):
  monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
  monkeypatch.setattr(interrupts, "_SAME_REQUEST", 0.1)
  with interrupts.Interrupts() as interrupted:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
  assert interrupted.number == signal.SIGINT


PROGRAM = """
import time
import jax, jax.numpy as jnp
from pkpo_jax.training import interrupts
def compile():
  def f(x):  # takes XLA a minute
    for i in range(4000):
      x = jnp.where(x > i, jnp.sin(x) @ x, x.T * jnp.cos(x)[::-1])
    return x
  lowered = jax.jit(f).lower(jnp.ones((3, 3)))
  print("ready", flush=True)
  lowered.compile()
def wait():
  print("ready", flush=True)
  time.sleep(60)
with interrupts.Interrupts() as interrupted:
  interrupted.unsaved = lambda: UNSAVED
  try:
    WORK()
  finally:
    print("main thread", flush=True)
"""


def run(work, unsaved, *signals, apart=0.0):
  """Sends signals to a program at work: exit code, output, seconds."""
  program = PROGRAM.replace("WORK", work).replace("UNSAVED", str(unsaved))
  environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
  process = subprocess.Popen(
    [sys.executable, "-c", program],
    stdout=subprocess.PIPE,
    text=True,
    env=environment,
    process_group=0,
  )
  assert process.stdout.readline() == "ready\n"
  start = time.monotonic()
  for number in signals:
    time.sleep(apart)
    process.send_signal(number)
  try:
    output, _ = process.communicate(timeout=30)
  finally:
    process.kill()
  return process.returncode, output, time.monotonic() - start


@pytest.mark.slow
def test_a_compilation_ends_where_nothing_is_unsaved():
  code, output, seconds = run("compile", False, signal.SIGTERM)
  assert code == 128 + signal.SIGTERM
  assert "SIGTERM: nothing is unsaved" in output
  assert "main thread" not in output
  assert seconds < 10


@pytest.mark.slow
def test_impatience_is_obeyed_whatever_is_unsaved():
  signals = signal.SIGTERM, signal.SIGINT
  code, output, seconds = run("wait", True, *signals, apart=3.5)
  assert code == 128 + signal.SIGINT
  assert "SIGINT: asked twice" in output
  assert seconds < 20
