"""Several processes as one run: who does what, and what all must know.

With a single process everything here is trivial. With several, all of them
call these functions at the same places of the program.
"""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

# What the environment says where jax does not find the others by itself.
_ADDRESS = "JAX_COORDINATOR_ADDRESS"
_COUNT = "JAX_NUM_PROCESSES"
_INDEX = "JAX_PROCESS_ID"


def initialize() -> None:
  """Joins the other processes of a run, before anything else is done with jax.

  On Cloud TPU, Slurm and Open MPI, jax finds the others by itself; elsewhere
  the environment names them: JAX_COORDINATOR_ADDRESS (host:port of the first
  process), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

  Raises:
    ValueError: neither is the case, or what the environment says is no address,
      number of processes and number of one of them.
  """
  _check_address(os.environ.get(_ADDRESS))
  count, index = _number(_COUNT, at_least=1), _number(_INDEX, at_least=0)
  if count is not None and index is not None and index >= count:
    raise ValueError(
      f"{_INDEX}={index} must be less than {_COUNT}={count}: it counts from 0."
    )
  # It would swallow SIGTERM; `interrupts` is there for that.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      num_processes=count, process_id=index, heartbeat_timeout_seconds=30
    )
  except ValueError as error:
    names = (_ADDRESS, _COUNT, _INDEX)
    missing = [name for name in names if name not in os.environ]
    raise ValueError(
      f"--distributed found no other processes ({error}); set"
      f" {', '.join(missing or names)} for each of them."
    ) from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """A context in which an error ends this process at once, and so the others.

  In the usual way out it would wait for the others, and they for it. Instead
  they notice that it is gone: at their next exchange of data, or after the
  half minute of `initialize`.
  """
  try:
    yield
  except SystemExit:
    raise
  except KeyboardInterrupt:
    if not jax.distributed.is_initialized():
      raise
    print("SIGINT: ended; the same command starts again.", flush=True)
    os._exit(130)
  except BaseException as error:
    if not jax.distributed.is_initialized():
      raise
    traceback.print_exc()
    print(
      f"Process {jax.process_index()} of {jax.process_count()} ends with this"
      f" error.{_of_others(error)} The same command, in all processes,"
      " continues from the last checkpoint.",
      file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def is_first() -> bool:
  """Whether this process writes files and talks to the user."""
  return jax.process_index() == 0


def broadcast_text(text: str) -> str:
  """The text of the first process, in all."""
  if jax.process_count() == 1:
    return text
  own = np.frombuffer(text.encode(), np.uint8)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(own))))
  padded = np.zeros(length, np.uint8)
  padded[: len(own)] = own[:length]
  return bytes(multihost_utils.broadcast_one_to_all(padded)).decode()


def gather_texts(text: str) -> list[str]:
  """The texts of all processes, by their numbers, in each of them."""
  if jax.process_count() == 1:
    return [text]
  own = np.frombuffer(text.encode(), np.uint8)
  lengths = multihost_utils.process_allgather(np.int32(len(own)))
  padded = np.zeros(lengths.max(), np.uint8)
  padded[: len(own)] = own
  gathered = multihost_utils.process_allgather(padded)
  return [bytes(x[:n]).decode() for x, n in zip(gathered, lengths)]


def local_rows(items: Sequence[T]) -> Sequence[T]:
  """The part of B items, the same in all processes, that falls to this one.

  Parts are contiguous and differ in length by one at most.
  """
  bounds = _bounds(len(items))
  index = jax.process_index()
  return items[bounds[index] : bounds[index + 1]]


def fetch(tree: Any) -> Any:
  """Arrays on the mesh -> whole numpy arrays in every process."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)


def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
  """Numpy arrays, whole and the same in every process -> arrays on the mesh.

  A single process leaves them as they are: there jit takes them.
  """
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(
    lambda x: jax.make_array_from_callback(x.shape, sharding, x.__getitem__),
    tree,
  )


def max_over_hosts(number: int) -> int:
  """The largest of the numbers of all processes."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.process_allgather(np.int32(number)).max())


def all_see(condition: Callable[[], bool], *, patience: float) -> bool:
  """Waits until a condition holds in all processes; for shared folders.

  Args:
    condition: what must come true.
    patience: seconds, after which it is given up.

  Returns:
    Whether it holds in all of them; the same in each.
  """
  deadline = time.monotonic() + patience
  while not (holds := condition()) and time.monotonic() < deadline:
    time.sleep(0.2)
  return not max_over_hosts(not holds)


def wait(name: str) -> None:
  """Waits until all processes have come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _check_address(address: str | None) -> None:
  """Checks an address that jax would otherwise wait for in vain."""
  if address is None:
    return
  host, _, port = address.rpartition(":")
  if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
    raise ValueError(
      f"{_ADDRESS}={address!r} must be host:port of the first process, such as"
      " 10.0.0.1:7777."
    )


def _number(name: str, *, at_least: int) -> int | None:
  """A whole number of the environment; None where it is not set."""
  text = os.environ.get(name)
  if text is None:
    return None
  if not (text.isascii() and text.isdigit() and int(text) >= at_least):
    raise ValueError(
      f"{name}={text!r} must be a whole number from {at_least} on."
    )
  return int(text)


def _of_others(error: BaseException) -> str:
  """What more there is to say of an error of the devices."""
  if not isinstance(error, jax.errors.JaxRuntimeError):
    return ""
  return (
    " If it is about a lost connection, another process of this run has ended"
    " before: look at its output."
  )


def _bounds(total: int) -> np.ndarray:
  count = jax.process_count()
  return np.arange(count + 1) * total // count
