"""training.interrupts: a first signal is noted, a second one obeyed."""

import os
import signal

import pytest

from pkpo_jax.training import interrupts


@pytest.fixture(autouse=True)
def listening():
  """The handlers of a process in the foreground, wherever the tests run."""
  before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


def test_nothing_came():
  with interrupts.Interrupts() as interrupted:
    pass
  assert interrupted.number == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted(number):
  before = signal.getsignal(number)
  with interrupts.Interrupts() as interrupted:
    os.kill(os.getpid(), number)
  assert interrupted.number == number
  assert signal.getsignal(number) is before


def test_the_second_ctrl_c_is_obeyed():
  with interrupts.Interrupts() as interrupted:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
  assert interrupted.number == signal.SIGINT


def test_what_is_ignored_stays_ignored():
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  with interrupts.Interrupts() as interrupted:
    os.kill(os.getpid(), signal.SIGINT)
  assert interrupted.number == 0
  assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
