"""Where problems come from and how answers are graded."""

from collections.abc import Callable, Mapping
from typing import Any

from pkpo_jax import _imports
from pkpo_jax.tasks import (
  arc,
  base,
  copy_words,
  countdown,
  gsm8k,
  hendrycks_math,
  humaneval,
  jsonl,
  list_programs,
  mazes,
  mbpp,
)

_TASKS: dict[str, Callable[..., base.Task]] = {
  "arc": arc.Arc,
  "copy_words": copy_words.CopyWords,
  "countdown": countdown.Countdown,
  "gsm8k": gsm8k.GSM8K,
  "humaneval": humaneval.HumanEval,
  "jsonl": jsonl.Jsonl,
  "list_programs": list_programs.ListPrograms,
  "math": hendrycks_math.Math,
  "mazes": mazes.Mazes,
  "mbpp": mbpp.Mbpp,
}


def get_task(name: str, **options: Any) -> base.Task:
  """The task of that name, with its options.

  Args:
    name: one of ours, or "module:name" for your own: a class or function that
      takes the options and makes a task, such as a subclass of
      `base.BaseTask`.
    **options: of that task.

  Raises:
    ValueError: unknown name, an option out of range, or what was made is not
      a task.
    TypeError: unknown option.
  """
  if name in _TASKS:
    return _TASKS[name](**options)
  if ":" in str(name):
    return _own_task(name, options)
  known = ", ".join(sorted(_TASKS))
  raise ValueError(
    f"Unknown task {name!r}; known: {known}; or your own 'module:name'."
  )


def _own_task(name: str, options: Mapping[str, Any]) -> base.Task:
  task = _imports.load(name, "task")(**options)
  methods = (n for n in vars(base.Task) if not n.startswith("_"))
  missing = [n for n in methods if not callable(getattr(task, n, None))]
  if missing:
    raise ValueError(
      f"The task {name!r} lacks the methods {', '.join(missing)};"
      " pkpo_jax.tasks.base.BaseTask has all but `grade`."
    )
  return task
