"""Finds what a user names as "module:name": nothing has to be forked."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


def load(name: str, what: str) -> Callable[..., Any]:
  """The class or function called "module:name".

  The current directory counts, whichever way the program was started.

  Args:
    name: such as "my_package.rewards:transform".
    what: what it is to be, for error messages: "task", "transform".

  Raises:
    ValueError: there is no such module, or nothing callable of that name.
  """
  module, _, attribute = name.partition(":")
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  try:
    found = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f"The {what} {name!r} cannot be imported ({error}); it must be"
      " 'module:name', with the module in the current directory or installed."
    ) from error
  if not callable(found):
    raise ValueError(f"The {what} {name!r} is {found!r}: not callable.")
  return found
