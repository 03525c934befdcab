"""Processes that share the runs of a study, each on a core of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

# XLA asks for its memory anew in every step; in huge pages that costs a
# thirtieth of the faults, and a step two thirds of the time (glibc >= 2.35).
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def run(count: int, options: Sequence[str]) -> int:
  """Starts the runner `count` times, and waits for all.

  A signal goes to all of them: they save, and the same command continues.

  Args:
    count: of processes; the first so many cores are theirs.
    options: of the command line; the last --processes counts.

  Returns:
    The exit status: of the first process that failed, else 0.

  Raises:
    ValueError: there are not so many cores.
  """
  cores = sorted(_cores())
  if count > len(cores):
    raise ValueError(
      f"--processes={count} must be at most the {len(cores)} cores."
    )
  command = [sys.executable, "-m", "experiments.studies.run", *options]
  children = []
  for core in cores[:count]:
    pin(core)  # which the child inherits
    children.append(
      subprocess.Popen(
        [*command, "--processes=1"], env={**_HUGE_PAGES, **os.environ}
      )
    )
  pin(*cores)

  def forward(number: int, _: object) -> None:
    for child in children:
      child.send_signal(number)

  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, forward)
  codes = [child.wait() for child in children]
  return next((abs(code) for code in codes if code), 0)


def pin(*cores: int) -> None:
  """Has this process, and those that it starts, use some cores alone."""
  if hasattr(os, "sched_setaffinity"):  # not on macOS
    os.sched_setaffinity(0, cores)


def _cores() -> set[int]:
  if hasattr(os, "sched_getaffinity"):
    return os.sched_getaffinity(0)
  return set(range(os.cpu_count() or 1))
