"""Several processes as one run of any command."""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from helpers import process_pair


def run(count, *arguments, devices=1, only_last=(), timeout=600):
  """Runs `python ARGUMENTS` in `count` processes that know each other.

  Returns:
    Exit codes and outputs.
  """
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  folder = pathlib.Path(tempfile.mkdtemp())
  outputs = [folder / f"output_{i}" for i in range(count)]
  processes = []
  for i, path in enumerate(outputs):
    with path.open("w") as file:
      process = subprocess.Popen(
        [sys.executable, *arguments, *(only_last if i == count - 1 else ())],
        cwd=process_pair.ROOT,
        env=process_pair.environment(
          devices=devices,
          JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
          JAX_NUM_PROCESSES=str(count),
          JAX_PROCESS_ID=str(i),
        ),
        stdout=file,
        stderr=subprocess.STDOUT,
      )
    processes.append(process)
  deadline = time.monotonic() + timeout
  try:
    codes = [
      process.wait(timeout=max(0.1, deadline - time.monotonic()))
      for process in processes
    ]
  finally:
    for process in processes:
      process.kill()
  return codes, [path.read_text() for path in outputs]
