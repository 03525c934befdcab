"""Where problems come from and how answers are graded."""

from collections.abc import Callable
from typing import Any

from pkpo_jax.tasks import (
  arc,
  base,
  countdown,
  gsm8k,
  hendrycks_math,
  humaneval,
  list_programs,
  mbpp,
)

_TASKS: dict[str, Callable[..., base.Task]] = {
  "arc": arc.Arc,
  "countdown": countdown.Countdown,
  "gsm8k": gsm8k.GSM8K,
  "humaneval": humaneval.HumanEval,
  "list_programs": list_programs.ListPrograms,
  "math": hendrycks_math.Math,
  "mbpp": mbpp.Mbpp,
}


def get_task(name: str, **options: Any) -> base.Task:
  """The task of that name, with its options.

  Raises:
    ValueError: unknown name, or an option out of range.
    TypeError: unknown option.
  """
  if name not in _TASKS:
    known = ", ".join(sorted(_TASKS))
    raise ValueError(f"Unknown task {name!r}; known: {known}.")
  return _TASKS[name](**options)
