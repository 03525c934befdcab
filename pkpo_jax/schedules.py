"""step -> k. Usable inside jit, so that an annealed run compiles once.

A schedule maps a training step (int, counted from 0; may be traced) to the k
of pass@k as an int32 scalar.
"""

from collections.abc import Callable, Sequence

import chex
import jax.numpy as jnp
import numpy as np

Schedule = Callable[[chex.Numeric], chex.Array]


def constant_k(k: int) -> Schedule:
  """The same k at every step.

  Raises:
    ValueError: k is not an integer >= 1.
  """
  k = _check(k)
  return lambda step: jnp.full(jnp.shape(step), k, jnp.int32)


def piecewise_k(ks: Sequence[int], boundaries: Sequence[int]) -> Schedule:
  """`ks[0]` before step `boundaries[0]`, then `ks[1]`, and so on.

  The annealed run of the paper (Fig 3) is `piecewise_k([8, 1], [1500])`.

  Args:
    ks: one k for each piece.
    boundaries: the first step of each piece but the first, increasing; one
      fewer than `ks`.

  Raises:
    ValueError: a k is not an integer >= 1, the lengths do not match, or the
      boundaries do not increase from at least 1.
  """
  # Of numpy, so that a schedule can be made where no device can compute.
  values = np.array([_check(k) for k in ks], np.int32)
  if len(ks) != len(boundaries) + 1:
    raise ValueError(
      f"piecewise_k: {len(ks)} values of k need {len(ks) - 1} boundaries, but"
      f" there are {len(boundaries)}."
    )
  if any(b <= a for a, b in zip([0, *boundaries], boundaries)):
    raise ValueError(
      f"piecewise_k: boundaries must increase from at least step 1, but are"
      f" {list(boundaries)}."
    )
  starts = np.array([_check(b, "a boundary") for b in boundaries], np.int32)
  return lambda step: jnp.asarray(values)[
    jnp.searchsorted(starts, jnp.asarray(step, jnp.int32), side="right")
  ]


def linear_k(init_k: int, end_k: int, transition_steps: int) -> Schedule:
  """From `init_k` at step 0 in a line to `end_k`, rounded; constant after.

  Args:
    init_k: k at step 0.
    end_k: k from step `transition_steps` on.
    transition_steps: how many steps the transition takes, >= 1.

  Raises:
    ValueError: a k is not an integer >= 1, or `transition_steps` < 1.
  """
  init_k, end_k = _check(init_k), _check(end_k)
  if transition_steps < 1:
    raise ValueError(
      f"linear_k: transition_steps must be >= 1, but is {transition_steps}."
    )

  def schedule(step: chex.Numeric) -> chex.Array:
    done = jnp.clip(jnp.asarray(step) / transition_steps, 0.0, 1.0)
    return jnp.round(init_k + done * (end_k - init_k)).astype(jnp.int32)

  return schedule


def _check(value: int, name: str = "k") -> int:
  if isinstance(value, bool) or int(value) != value or value < 1:
    raise ValueError(f"{name} must be an integer >= 1, but is {value!r}.")
  return int(value)
