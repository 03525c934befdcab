"""Where problems come from and how answers are graded."""

from typing import Any

from pkpo_jax.tasks import base, countdown

_TASKS = {"countdown": countdown.Countdown}


def get_task(name: str, **options: Any) -> base.WordTask:
  """The task of that name, with its options.

  Raises:
    ValueError: unknown name, or an option out of range.
    TypeError: unknown option.
  """
  if name not in _TASKS:
    known = ", ".join(sorted(_TASKS))
    raise ValueError(f"Unknown task {name!r}; known: {known}.")
  return _TASKS[name](**options)
