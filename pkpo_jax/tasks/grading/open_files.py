"""Makes sure that a grader may open as many files as it will."""

import logging
import os
import resource

_log = logging.getLogger(__name__)
# What the rest of a process may still open: data, checkpoints, sockets.
_SPARE = 100


def allow(per_worker: int, num_workers: int) -> None:
  """Raises the soft limit of this process where it is too low.

  Args:
    per_worker: how many files each worker has open at a time.
    num_workers: how many workers there will be.

  Raises:
    ValueError: the hard limit is too low; the message has the remedies.
  """
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  reserved = len(os.listdir("/dev/fd")) + _SPARE
  needed = reserved + per_worker * num_workers
  if soft == resource.RLIM_INFINITY or needed <= soft:
    return
  if hard != resource.RLIM_INFINITY and needed > hard:
    fits = max(0, (hard - reserved) // per_worker)
    remedy = f"take num_workers={fits}, or raise" if fits else "raise"
    raise ValueError(
      f"num_workers={num_workers} may open {needed} files, and this process"
      f" may open {hard}: {remedy} it with `ulimit -Hn {needed}`."
    )
  resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
  _log.info("This process may now open %d files instead of %d.", needed, soft)
