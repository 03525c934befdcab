"""pkpo_jax.multihost: what can be said of it in one process.

What several processes do is in training/test_many_processes.py.
"""

import os

import jax
import numpy as np
import pytest

from pkpo_jax import multihost


@pytest.fixture
def be(monkeypatch):
  """Takes the place of one of several processes."""

  def replace(index, count):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(jax, "process_index", lambda: index)

  return replace


@pytest.mark.parametrize("total", [0, 2, 8, 9])
def test_local_rows_are_all_of_the_items_in_order(be, total):
  shares = []
  for index in range(3):
    be(index, 3)
    shares.append(multihost.local_rows(range(total)))
  assert [x for share in shares for x in share] == list(range(total))
  lengths = sorted(len(share) for share in shares)
  assert lengths[-1] - lengths[0] <= 1


def test_gather_texts_are_those_of_all_processes_in_order(be, monkeypatch):
  texts = ["[]", 'a longer one: "ä"', "short"]
  sent = [np.frombuffer(text.encode(), np.uint8) for text in texts]

  def allgather(own):
    """What three processes would send: lengths, then bytes of one length."""
    if np.ndim(own) == 0:
      assert own == len(sent[1])
      return np.array([len(x) for x in sent])
    padded = np.zeros((3, len(own)), np.uint8)
    for row, x in zip(padded, sent):
      row[: len(x)] = x
    np.testing.assert_array_equal(own, padded[1])
    return padded

  monkeypatch.setattr(multihost.multihost_utils, "process_allgather", allgather)
  be(1, 3)
  assert multihost.gather_texts(texts[1]) == texts


def test_max_over_hosts_is_the_largest(be, monkeypatch):
  monkeypatch.setattr(
    multihost.multihost_utils,
    "process_allgather",
    lambda own: np.array([3, own, 5]),
  )
  be(1, 3)
  assert multihost.max_over_hosts(9) == 9
  assert multihost.max_over_hosts(-1) == 5


def test_all_see_what_becomes_true_in_time():
  answers = iter([False, False, True])
  assert multihost.all_see(lambda: next(answers), patience=60)
  assert not multihost.all_see(lambda: False, patience=0)


def test_all_see_nothing_that_one_does_not(monkeypatch):
  monkeypatch.setattr(multihost, "max_over_hosts", lambda own: 1)
  assert not multihost.all_see(lambda: True, patience=0)


@pytest.mark.parametrize("text", ["", "a longer config: ä", "short"])
def test_broadcast_text_is_that_of_the_first(be, monkeypatch, text):
  """However long the text of this process is."""
  bytes_of_first = np.frombuffer(text.encode(), np.uint8)
  answers = [np.int32(len(bytes_of_first)), bytes_of_first]
  monkeypatch.setattr(
    multihost.multihost_utils,
    "broadcast_one_to_all",
    lambda own: answers.pop(0),
  )
  be(1, 2)
  assert multihost.broadcast_text("the own text") == text


def test_one_process_exchanges_nothing():
  rows = np.arange(3)
  assert multihost.is_first()
  assert multihost.broadcast_text("text") == "text"
  assert multihost.max_over_hosts(7) == 7
  assert multihost.local_rows(rows) is not None
  assert multihost.gather_texts("text") == ["text"]
  assert multihost.place(rows, None) is rows
  assert isinstance(multihost.fetch(jax.numpy.ones(2)), np.ndarray)
  multihost.wait("nobody")


def test_an_error_of_a_single_process_is_raised():
  with (
    pytest.raises(KeyError, match="mine"),
    multihost.ending_together(),
  ):
    raise KeyError("mine")


def test_an_error_of_one_of_several_ends_the_process(be, monkeypatch, capsys):
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  codes = []
  monkeypatch.setattr(os, "_exit", codes.append)
  be(1, 2)
  with multihost.ending_together():
    raise KeyError("mine")
  assert codes == [1]
  error = capsys.readouterr().err
  assert "mine" in error and "Process 1 of 2 ends with this error" in error
  assert "another process" not in error


def test_a_lost_connection_points_to_the_others(be, monkeypatch, capsys):
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  monkeypatch.setattr(os, "_exit", lambda code: None)
  be(0, 2)
  with multihost.ending_together():
    raise jax.errors.JaxRuntimeError("Connection closed by peer")
  assert "another process of this run has ended" in capsys.readouterr().err


def test_a_stop_is_no_error_of_the_others(monkeypatch):
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  with pytest.raises(SystemExit), multihost.ending_together():
    raise SystemExit(143)


def test_nobody_to_be_found_is_an_error_with_a_remedy(monkeypatch):
  def initialize(**_):
    raise ValueError("coordinator_address should be defined.")

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  preemption = jax.config.jax_enable_preemption_service
  with pytest.raises(ValueError, match="set JAX_COORDINATOR_ADDRESS"):
    multihost.initialize()
  monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
  with pytest.raises(ValueError, match=r"set JAX_COORDINATOR_.*, JAX_PROCESS_"):
    multihost.initialize()
  jax.config.update("jax_enable_preemption_service", preemption)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"NUM_PROCESSES": "two"}, "NUM_PROCESSES='two' must be a whole .* from 1"),
    ({"NUM_PROCESSES": ""}, "NUM_PROCESSES='' must be"),
    ({"NUM_PROCESSES": "0"}, "NUM_PROCESSES='0' must be"),
    ({"PROCESS_ID": "-1"}, "PROCESS_ID='-1' must be a whole number from 0"),
    (
      {"NUM_PROCESSES": "2", "PROCESS_ID": "2"},
      "JAX_PROCESS_ID=2 must be less than JAX_NUM_PROCESSES=2",
    ),
    ({"COORDINATOR_ADDRESS": "10.0.0.1"}, "'10.0.0.1' must be host:port"),
    ({"COORDINATOR_ADDRESS": "node:"}, "'node:' must be host:port"),
    ({"COORDINATOR_ADDRESS": ":77"}, "':77' must be host:port"),
    ({"COORDINATOR_ADDRESS": ""}, "'' must be host:port"),
    ({"COORDINATOR_ADDRESS": "a:65536"}, "'a:65536' must be host:port"),
  ],
)
def test_an_environment_that_jax_would_wait_with_is_refused(
  monkeypatch, values, message
):
  """For minutes, or with another error than what is wrong."""
  monkeypatch.setattr(jax.distributed, "initialize", pytest.fail)
  for name, value in values.items():
    monkeypatch.setenv(f"JAX_{name}", value)
  with pytest.raises(ValueError, match=message):
    multihost.initialize()
