"""Where problems come from and how answers are graded."""

import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
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
# What a value of an option may be -> what is taken for it.
_KINDS: dict[Any, type] = {
  bool: bool,
  float: numbers.Real,
  int: numbers.Integral,
  os.PathLike: os.PathLike,
  str: str,
  types.NoneType: types.NoneType,
}


def get_task(name: str, **options: Any) -> base.Task:
  """The task of that name, with its options.

  Args:
    name: one of ours, or "module:name" for your own: a class or function that
      takes the options and makes a task, such as a subclass of
      `base.BaseTask`.
    **options: of that task.

  Raises:
    ValueError: unknown name, an option out of range or not of the kind that
      it is annotated with, or what was made is not a task.
    TypeError: unknown option.
  """
  if name in _TASKS:
    _check_kinds(_TASKS[name], options)
    return _TASKS[name](**options)
  if ":" in str(name):
    return _own_task(name, options)
  known = ", ".join(sorted(_TASKS))
  raise ValueError(
    f"Unknown task {name!r}; known: {known}; or your own 'module:name'."
  )


def _own_task(name: str, options: Mapping[str, Any]) -> base.Task:
  make = _imports.load(name, "task")
  _check_kinds(make, options)
  task = make(**options)
  methods = (n for n in vars(base.Task) if not n.startswith("_"))
  missing = [n for n in methods if not callable(getattr(task, n, None))]
  if missing:
    raise ValueError(
      f"The task {name!r} lacks the methods {', '.join(missing)};"
      " pkpo_jax.tasks.base.BaseTask has all but `grade`."
    )
  return task


def _check_kinds(make: Callable[..., Any], options: Mapping[str, Any]) -> None:
  """Checks options that are annotated as numbers, texts and the like."""
  parameters = inspect.signature(make).parameters
  for name in options.keys() & parameters.keys():
    value, hint = options[name], parameters[name].annotation
    if value is not parameters[name].default and not _fits(value, hint):
      wanted = inspect.formatannotation(hint)
      raise ValueError(f"the option {name}={value!r} must be {wanted}.")


def _fits(value: Any, hint: Any) -> bool:
  """Whether a value is of the annotated kind; where unknown, it is."""
  kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
  if kind in (types.UnionType, typing.Union):
    return any(_fits(value, part) for part in parts)
  if kind is Sequence:
    return isinstance(value, Iterable) and all(
      _fits(item, part) for item in value for part in parts
    )
  if isinstance(value, bool):
    return kind is bool or kind not in _KINDS
  return kind not in _KINDS or isinstance(value, _KINDS[kind])
