"""Tells whether two values are equal, outside of a sandbox and inside.

Inside it runs as text, so it needs nothing of this project.
"""

import math
from typing import Any

# Floats may differ by this much where a test says `==`: by the order of sums.
_RELATIVE = 1e-9


def equal(value: Any, expected: Any) -> bool:
  """Whether `==` holds, or does for floats that are equal but for rounding.

  As in Python 1 == 1.0 and 1 == True, but (1,) != [1].
  """
  if isinstance(value, float) and isinstance(expected, float):
    return value == expected or math.isclose(value, expected, rel_tol=_RELATIVE)
  if type(value) is type(expected) and len_of(value) == len_of(expected):
    if isinstance(value, list | tuple):
      return all(map(equal, value, expected))
    if isinstance(value, dict):
      pairs = ((value[k], expected[k]) for k in expected if k in value)
      return value.keys() == expected.keys() and all(
        equal(*pair) for pair in pairs
      )
  return bool(value == expected)


def len_of(value: Any) -> int | None:
  """The length of a list, tuple or dict; None for anything else."""
  return len(value) if isinstance(value, list | tuple | dict) else None
