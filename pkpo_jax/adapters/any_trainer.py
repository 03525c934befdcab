"""PKPO in any trainer that takes one advantage for each of its rows.

Such trainers average over rows, so that advantages are n times the weights of
`pkpo_jax.transforms`, and the rest of the loss has to leave them alone: no
centring, no division by a standard deviation, and a *sum* over the tokens of a
completion, not a mean over its own length.
"""

import functools
from collections.abc import Callable, Sequence
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pkpo_jax import _rewards, transforms

_NAME = "group_advantages"
_SHIFT_FREE = (
  transforms.sloo_minus_one,
  transforms.scloo,
  transforms.rloo,
  transforms.grpo,
  transforms.dr_grpo,
  transforms.tailrl,
  transforms.passk_training,
)


@overload
def group_advantages(
  rewards: jax.Array,
  num_samples: int,
  k: ArrayLike | None,
  *,
  transform: str | transforms.Transform = ...,
  where: ArrayLike | None = ...,
) -> jax.Array: ...


# mypy takes jax.Array, which it does not follow, for anything.
@overload
def group_advantages(  # type: ignore[overload-cannot-match]
  rewards: np.ndarray | Sequence[float | None],
  num_samples: int,
  k: ArrayLike | None,
  *,
  transform: str | transforms.Transform = ...,
  where: ArrayLike | None = ...,
) -> np.ndarray: ...


def group_advantages(
  rewards: jax.Array | np.ndarray | Sequence[float | None],
  num_samples: int,
  k: ArrayLike | None,
  *,
  transform: str | transforms.Transform = "sloo_minus_one",
  where: ArrayLike | None = None,
) -> jax.Array | np.ndarray:
  """Advantages of all rows of a batch, in the *mean* convention.

  `n * transform(rewards of the group, k)`, with n all rows of a group, the
  ungraded ones included: the mean over rows of advantage times grad log-prob is
  then the mean over problems of the estimated gradient. One compilation serves
  all k. To be called outside of jit.

  Args:
    rewards: [B * n], the n rows of a problem next to each other, or [B, n]; of
      numpy, a list, or of jax. NaN or None means that a row was not graded.
      Wide numbers of the host keep what sets a group apart: where the transform
      is one of ours that ignores shifts, the smallest of the group is taken off
      before they are rounded.
    num_samples: n, the rows of each problem.
    k: the k of pass@k: an integer for all problems, or [B] with one for each.
      None for a transform that ignores it.
    transform: a name, see `pkpo_jax.get_transform`, or a function
      `(rewards, k, *, where)`. For a trainer that subtracts the mean of a group
      afterwards: "scloo", which that leaves as it is.
    where: bool of the shape of `rewards`, False for rows that count as never
      drawn, besides those that are NaN. Their advantage is 0.

  Returns:
    Advantages of the shape of `rewards`, float32 (float64 for float64 where jax
    has that): of jax for rewards of jax, else of numpy.

  Raises:
    ValueError: rewards are neither [B * n] nor [B, n], infinite, a masked array
      of numpy, or too close to each other for the floats of a transform that
      does not ignore shifts; `where` is not bool of their shape; a k is no
      integer, traced, or out of range for n.

  Example:
    >>> from pkpo_jax.adapters import group_advantages
    >>> group_advantages([0.0, 1.0, 1.0, 0.0, None, 1.0, 0.0, 0.0], 4, k=2)
    array([0.       , 1.3333334, 1.3333334, 0.       , 0.       , 2.6666667,
           0.       , 0.       ], dtype=float32)
  """
  for what, given in (("rewards", rewards), ("k", k), ("where", where)):
    if isinstance(given, jax.core.Tracer):
      raise ValueError(f"{_NAME}: {what} is traced; call it outside of jit.")
  if isinstance(transform, str):
    transform = transforms.get_transform(transform)
  # Those of jax on the host as well, in whatever way devices share them.
  ours = isinstance(rewards, jax.Array)
  values = np.asarray(rewards) if ours else _of_host(rewards)
  shape = _shape(values.shape, num_samples)
  graded = _graded(values, where).reshape(shape)
  groups = values.reshape(shape)
  if not ours:
    _keep_apart(np.asarray(rewards).reshape(shape), groups, graded, transform)
  ks = check_ks(k, shape, transform)
  advantages = _compiled(transform)(groups, ks, graded).reshape(values.shape)
  if isinstance(rewards, jax.Array):
    return jax.device_put(advantages, rewards.sharding)
  return np.array(advantages)


def _of_host(rewards: np.ndarray | Sequence[float | None]) -> np.ndarray:
  """Rewards as floats of the host, None as NaN."""
  _rewards.refuse_masked(_NAME, rewards)
  try:
    wide = np.asarray(rewards, np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"{_NAME}: rewards must be numbers, NaN or None where a row was not"
      f" graded, of shape [B * n] or [B, n]: {error}"
    ) from error
  with np.errstate(over="ignore"):
    return wide.astype(_dtype(rewards))


def _dtype(rewards: np.ndarray | Sequence[float | None]) -> np.dtype:
  wide = getattr(rewards, "dtype", None) == np.float64
  return np.dtype(jnp.result_type(float) if wide else np.float32)


def _keep_apart(
  given: np.ndarray,
  groups: np.ndarray,
  graded: np.ndarray,
  transform: transforms.Transform,
) -> None:
  """Takes the smallest off groups [B, n], in place, that were rounded.

  Raises ValueError instead if the transform would mind, and rounding `given`
  [B, n] made equal what differs by more than a thousandth of the group's range,
  and more than the rounding of float64.
  """
  wide = given.astype(np.float64)
  rounded = graded & ((wide != groups) | (np.abs(wide) > 2**24))
  for b in np.flatnonzero(np.any(rounded, axis=1)).tolist():
    name = f"{_NAME}: problem {b}"
    shifted = _rewards.on_host(name, given[b], graded[b], shift_free=True)
    if transform in _SHIFT_FREE:
      groups[b] = shifted
      continue
    order = np.flatnonzero(graded[b])
    order = order[np.argsort(shifted[order], kind="stable")]
    gaps, same = np.diff(shifted[order]), np.diff(groups[b][order]) == 0
    noise = 0 if given.dtype.kind in "iu" else 1e-12
    least = np.maximum(
      np.ptp(shifted[order]) / 1000, noise * np.abs(wide[b, order[1:]])
    )
    for i in np.flatnonzero(same & (gaps > least))[:1].tolist():
      low, high = order[[i, i + 1]].tolist()
      raise ValueError(
        f"{name}: rewards {given[b, low]} and {given[b, high]} are the same"
        f" {groups.dtype}; take off what the rewards have in common, which"
        " this transform does not ignore."
      )


def _shape(shape: tuple[int, ...], n: int) -> tuple[int, int]:
  flat = len(shape) == 1 and n >= 1 and shape[0] % n == 0
  if not (flat or (len(shape) == 2 and shape[1] == n)) or 0 in shape:
    raise ValueError(
      f"{_NAME}: rewards must be [B * n] or [B, n] with n = num_samples = {n}"
      f" and B >= 1, but have shape {shape}."
    )
  return (shape[0] // n, n) if flat else (shape[0], n)


def _graded(values: np.ndarray, where: ArrayLike | None) -> np.ndarray:
  """Which rows count; raises ValueError where one of them is infinite."""
  graded = ~np.isnan(values)
  if where is not None:
    mask = np.asarray(where)
    if mask.shape != values.shape or mask.dtype != bool:
      raise ValueError(
        f"{_NAME}: where must be bool of shape {values.shape}, but is"
        f" {mask.dtype} of shape {mask.shape}."
      )
    graded &= mask
  for index in np.argwhere(graded & np.isinf(values))[:1].tolist():
    raise ValueError(
      f"{_NAME}: rewards{index} is {values[*index]}, not a finite"
      f" {values.dtype}."
    )
  return graded


def check_ks(
  k: ArrayLike | None, shape: tuple[int, int], transform: transforms.Transform
) -> np.ndarray | None:
  """[B] int32, each of which the transform takes."""
  num_groups, n = shape
  if k is None:
    _try(transform, n, None)
    return None
  each = np.asarray(k)
  if each.shape not in ((), (num_groups,)):
    raise ValueError(
      f"{_NAME}: k must be an integer or [B] with B = {num_groups}, but has"
      f" shape {each.shape}."
    )
  for value in np.unique(each):
    _rewards.check_k(_NAME, n, value, n)
    _try(transform, n, int(value))
  return np.broadcast_to(each, num_groups).astype(np.int32)


@functools.lru_cache(maxsize=1024)
def _try(transform: transforms.Transform, n: int, k: int | None) -> None:
  """Lets the transform check k, which it can where k is no traced number."""
  rewards = jax.ShapeDtypeStruct((n,), jnp.float32)
  jax.eval_shape(lambda g: transform(g, k), rewards)


@functools.lru_cache(maxsize=64)
def _compiled(transform: transforms.Transform) -> Callable[..., jax.Array]:
  """Advantages [B, n] from rewards [B, n], k [B] and what is graded [B, n]."""

  @jax.jit
  def advantages(
    groups: jax.Array, ks: jax.Array | None, graded: jax.Array
  ) -> jax.Array:
    weights = jax.vmap(lambda g, k, ok: transform(g, k, where=ok))
    return groups.shape[1] * weights(groups, ks, graded)

  return advantages
