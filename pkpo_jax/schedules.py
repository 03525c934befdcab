"""step -> k. Usable inside jit, so that an annealed run compiles once.

A schedule maps a training step (int, counted from 0; may be traced) to the k
of pass@k as an int32 scalar. Inside jit a k beyond n cannot raise, so that it
gives NaN; `max_k` tells at once whether a schedule suits n.
"""

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A function step -> k that knows its largest k.

  Attributes:
    max_k: the largest k of any step; to be compared with n before a run.
    k_at: the function.
  """

  max_k: int
  k_at: Callable[[ArrayLike], jax.Array]

  def __call__(self, step: ArrayLike) -> jax.Array:
    """The k of a step, int32 of the step's shape."""
    return self.k_at(step)


def constant_k(k: int) -> Schedule:
  """The same k at every step.

  Args:
    k: the k of pass@k, >= 1.

  Returns:
    A function of the step: int, [] or any shape, traced or not, to int32 of the
    same shape. Its `max_k` can be compared with n at once.

  Raises:
    ValueError: k is not an integer >= 1.

  Example:
    >>> from pkpo_jax import constant_k
    >>> int(constant_k(8)(step=100))
    8
  """
  k = _check(k)
  return Schedule(k, _Pieces((k,), ()))


def piecewise_k(ks: Sequence[int], boundaries: Sequence[int]) -> Schedule:
  """`ks[0]` before step `boundaries[0]`, then `ks[1]`, and so on.

  The annealed run of the paper (Fig 3) is `piecewise_k([8, 1], [1500])`.

  Args:
    ks: one k >= 1 for each piece.
    boundaries: the first step of each piece but the first, increasing; one
      fewer than `ks`.

  Returns:
    A function of the step: int, [] or any shape, traced or not, to int32 of the
    same shape. Its `max_k` can be compared with n at once.

  Raises:
    ValueError: a k is not an integer >= 1, the lengths do not match, or the
      boundaries do not increase from at least 1.

  Example:
    >>> from pkpo_jax import piecewise_k
    >>> schedule = piecewise_k([8, 1], boundaries=[1500])
    >>> [int(schedule(step)) for step in (0, 1499, 1500)]
    [8, 8, 1]
  """
  if np.ndim(ks) != 1 or np.ndim(boundaries) != 1:
    raise ValueError(
      "piecewise_k: ks and boundaries must be sequences, as in"
      f" piecewise_k([8, 1], [1500]), but are {ks!r} and {boundaries!r}."
    )
  values = tuple(_check(k) for k in ks)
  if len(ks) != len(boundaries) + 1:
    raise ValueError(
      f"piecewise_k: {len(ks)} values of k need {len(ks) - 1} boundaries, but"
      f" there are {len(boundaries)}."
    )
  starts = tuple(
    _check(b, "boundaries must increase, and each") for b in boundaries
  )
  if np.any(np.diff(starts) <= 0):
    raise ValueError(
      f"piecewise_k: boundaries must increase from at least step 1, but are"
      f" {list(boundaries)}."
    )
  return Schedule(max(values), _Pieces(values, starts))


def linear_k(init_k: int, end_k: int, transition_steps: int) -> Schedule:
  """From `init_k` at step 0 in a line to `end_k`, rounded; constant after.

  In integers, so that every way to call it gives the same k; a half is rounded
  towards `end_k`.

  Args:
    init_k: k at step 0.
    end_k: k from step `transition_steps` on.
    transition_steps: how many steps the transition takes, >= 1.

  Returns:
    A function of the step: int, [] or any shape, traced or not, to int32 of the
    same shape. Its `max_k` can be compared with n at once.

  Raises:
    ValueError: a k is not an integer >= 1, `transition_steps` < 1, or the two
      together are too large for int32.

  Example:
    >>> from pkpo_jax import linear_k
    >>> schedule = linear_k(8, 1, transition_steps=7)
    >>> [int(schedule(step)) for step in (0, 1, 7, 8)]
    [8, 7, 1, 1]
  """
  init_k, end_k = _check(init_k), _check(end_k)
  transition_steps = _check(transition_steps, "linear_k: transition_steps")
  if (2 * abs(end_k - init_k) + 1) * transition_steps >= 2**31:
    raise ValueError(
      f"linear_k: from {init_k} to {end_k} in transition_steps="
      f"{transition_steps} overflows int32; 2 * |end_k - init_k| *"
      " transition_steps must be below 2**31."
    )
  return Schedule(max(init_k, end_k), _Line(init_k, end_k, transition_steps))


# Made of Python's numbers: schedules can be made where no device can compute,
# be pickled, and compared.
@dataclasses.dataclass(frozen=True)
class _Pieces:
  ks: tuple[int, ...]
  starts: tuple[int, ...]

  def __call__(self, step: ArrayLike) -> jax.Array:
    ks, starts = (np.array(x, np.int32) for x in (self.ks, self.starts))
    return jnp.asarray(ks)[
      jnp.searchsorted(starts, _as_int32(step), side="right")
    ]


@dataclasses.dataclass(frozen=True)
class _Line:
  init_k: int
  end_k: int
  steps: int

  def __call__(self, step: ArrayLike) -> jax.Array:
    done = jnp.clip(_as_int32(step), 0, self.steps)
    gain = self.end_k - self.init_k
    moved = (2 * abs(gain) * done + self.steps) // (2 * self.steps)
    return self.init_k + (moved if gain > 0 else -moved)


def _as_int32(step: ArrayLike) -> jax.Array:
  """The step; one that is too large as the largest, where no k changes."""
  if not isinstance(step, jax.Array):
    whole = np.clip(np.asarray(step, object), 0, 2**31 - 1)
    step = np.asarray(whole, np.int32)
  return jnp.asarray(step, jnp.int32)


def _check(value: Any, name: str = "k") -> int:
  whole = isinstance(value, numbers.Real) and value == value // 1
  if isinstance(value, bool) or not whole or not 1 <= value < 2**31:
    raise ValueError(
      f"{name} must be an integer >= 1, below 2**31, but is {value!r}."
    )
  return int(value)
