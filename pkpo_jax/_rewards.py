"""The door of a group: rewards, masks and k come in, and safe floats go on.

Numbers of the host become floats there, where 64-bit integers are still whole;
what is wrong with them is an error that names the value. Traced rewards cannot
raise: where they are unusable the result is NaN, see `Rewards.finite`.
"""

import decimal
import fractions
import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Rewards(NamedTuple):
  """The rewards of one problem, in a unit with which no sum overflows.

  Attributes:
    values: [n] rewards / unit, 0 where masked.
    unit: scalar, the power of two of the largest magnitude: dividing by it
      rounds nothing, and squares neither overflow nor vanish.
    mask: [n] bool, in the order of the samples.
    n: how many samples are unmasked, as a float scalar.
    finite: scalar bool, whether all unmasked rewards are finite; if not, what
      is computed of them means nothing.
    binary: whether they came as bools. Known before anything is computed.
  """

  values: jax.Array
  unit: jax.Array
  mask: jax.Array
  n: jax.Array
  finite: jax.Array
  binary: bool


class Budget(NamedTuple):
  """The k of pass@k.

  Attributes:
    k: scalar in the dtype of the rewards, in 1..last.
    in_range: scalar bool, whether that is the k that was given.
  """

  k: jax.Array
  in_range: jax.Array


def check_rewards(
  name: str,
  rewards: ArrayLike,
  where: ArrayLike | None,
  *,
  shift_free: bool = False,
) -> Rewards:
  """Checks one group and promotes it to float32, or leaves it float64.

  Args:
    name: the caller, for error messages.
    rewards: [n], any real dtype, or a sequence of Python numbers.
    where: [n] bool, False for samples to leave out.
    shift_free: whether the caller ignores a shift of all rewards. Then the
      smallest is taken off before anything is rounded, so that large numbers
      that differ by little stay apart.

  Raises:
    ValueError: `rewards` is not [n] with n >= 1 or not real, `where` has
      another shape or dtype, or a concrete unmasked reward is not finite or
      does not fit the floats, or `rewards` is a masked array of numpy.
  """
  refuse_masked(name, rewards)
  if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(rewards)):
    rewards = jnp.asarray(rewards)
  else:
    rewards = np.asarray(rewards)
  _check_shape(name, rewards)
  binary = rewards.dtype == jnp.bool_
  if binary:  # nothing to round or to refuse
    rewards = jnp.asarray(rewards)
  mask = _check_mask(name, rewards.shape, where)
  counted = _counted(rewards.shape, where)
  if isinstance(rewards, np.ndarray):
    rewards = jnp.asarray(on_host(name, rewards, counted, shift_free))
  elif counted is not None and not isinstance(rewards, jax.core.Tracer):
    _check_values(name, rewards, jax.device_get(rewards), counted)
  # Before anything is computed of them: what is masked may be NaN, and
  # jax_debug_nans must not stop at it.
  rewards = jnp.where(mask, rewards, jnp.zeros_like(rewards))
  values = _promote(rewards, mask, shift_free)
  largest = jax.lax.stop_gradient(jnp.max(jnp.abs(values)))
  unit = _unit(largest)
  n = jnp.sum(mask).astype(values.dtype)
  finite = jnp.isfinite(largest)  # NaN is the largest where there is one
  return Rewards(values * (1 / unit), unit, mask, n, finite, binary)


def refuse_masked(name: str, rewards: Any) -> None:
  """Raises ValueError for a masked array of numpy, whose mask would be lost."""
  if isinstance(rewards, np.ma.MaskedArray):
    raise ValueError(
      f"{name}: rewards are a masked array; pass rewards.data, with"
      " where=~rewards.mask."
    )


def check_k(name: str, n: int, k: Any, last: int) -> None:
  """Raises ValueError unless k is an integer, in 1..last where concrete.

  Where no k is valid at all, a traced one raises too.
  """
  valid = f"valid k: 1..{last}" if last >= 1 else "valid k: none"
  if not _is_integer_scalar(k):
    shown = f"{k.dtype} of {k.shape}" if isinstance(k, jax.Array) else repr(k)
    raise ValueError(
      f"{name}: k must be an integer scalar, but is {shown}; n={n}, {valid}."
    )
  traced = isinstance(k, jax.core.Tracer)
  if last < 1 or (not traced and not 1 <= int(k) <= last):
    value = "(traced)" if traced else int(k)
    raise ValueError(
      f"{name}: k={value} is out of range for n={n} samples; {valid}."
    )


def _is_integer_scalar(k: Any) -> bool:
  if isinstance(k, int):
    return not isinstance(k, bool)
  if not isinstance(k, jax.Array):
    k = np.asarray(k)
  return k.shape == () and jnp.issubdtype(k.dtype, jnp.integer)


def as_budget(
  name: str, n: int, k: ArrayLike, last: int, dtype: jnp.dtype
) -> Budget:
  """Checks k against 1..last of n samples; clips a traced one, and says so."""
  check_k(name, n, k, last)
  # Compared as integers: as floats, large ones could round into the range.
  k = jnp.asarray(k)
  if k.dtype.itemsize < 4:
    k = k.astype(jnp.int32)
  in_range = (1 <= k) & (k <= last)
  return Budget(jnp.where(in_range, k, 1).astype(dtype), in_range)


def _check_shape(name: str, rewards: jax.Array | np.ndarray) -> None:
  if rewards.ndim != 1 or rewards.size == 0:
    raise ValueError(
      f"{name}: rewards must be one group of shape [n] with n >= 1, but have"
      f" shape {rewards.shape}; use jax.vmap for a batch of groups."
    )
  dtype, kinds = rewards.dtype, (jnp.bool_, jnp.integer, jnp.floating)
  real = any(jnp.issubdtype(dtype, kind) for kind in kinds)
  if dtype.kind == "m" or not (real or dtype.kind == "O"):
    raise ValueError(f"{name}: rewards must be real numbers, not {dtype}.")


def _check_mask(
  name: str, shape: tuple[int, ...], where: ArrayLike | None
) -> jax.Array:
  mask = jnp.ones(shape, bool) if where is None else jnp.asarray(where)
  if mask.shape != shape or mask.dtype != jnp.bool_:
    raise ValueError(
      f"{name}: where must be bool of shape {shape}, but is"
      f" {mask.dtype} of shape {mask.shape}."
    )
  return mask


def _counted(
  shape: tuple[int, ...], where: ArrayLike | None
) -> np.ndarray | None:
  """[n] bool, which samples count, if that is known on the host."""
  if where is None:
    return np.ones(shape, bool)
  return None if isinstance(where, jax.core.Tracer) else np.asarray(where)


def on_host(
  name: str, rewards: np.ndarray, counted: np.ndarray | None, shift_free: bool
) -> np.ndarray:
  """Numbers of the host [n] as float32, or as float64 if jax has that."""
  wide = rewards.dtype in (np.float64, np.longdouble)
  dtype = np.dtype(jnp.result_type(float) if wide else np.float32)
  # Integers as Python's, which have any size.
  kind = object if rewards.dtype.kind in "biuO" else rewards.dtype
  exact = rewards.astype(kind)
  if counted is not None:
    exact[~counted] = 0
  if rewards.dtype == object:
    exact[:] = [_exact(name, value) for value in exact]
  floats = _as_floats(exact)
  with np.errstate(over="ignore", invalid="ignore"):
    narrows = exact.dtype == object or exact.itemsize > dtype.itemsize
    if shift_free and narrows:
      finite = np.isfinite(floats)
      exact[finite] = exact[finite] - _origin(exact, finite, counted)
      floats = _as_floats(exact)
    floats = floats.astype(dtype)
  if counted is not None:
    _check_values(name, rewards, floats, counted)
  return floats


def _exact(name: str, value: Any) -> int | float | fractions.Fraction:
  """Any real number as one of Python's without rounding."""
  if not isinstance(value, numbers.Real | decimal.Decimal):
    raise ValueError(
      f"{name}: rewards must be real numbers, but hold {value!r}; leave out"
      " what could not be graded with where=."
    )
  if isinstance(value, numbers.Integral):
    return int(value)
  if isinstance(value, numbers.Rational):
    return fractions.Fraction(value)
  if not isinstance(value, decimal.Decimal):
    value = float(value)
  return fractions.Fraction(value) if math.isfinite(value) else float(value)


def _origin(
  exact: np.ndarray, finite: np.ndarray, counted: np.ndarray | None
) -> Any:
  """The smallest that counts; if any may be masked later, the median."""
  if counted is None:
    kept = np.sort(exact[finite])
    return kept[(kept.size - 1) // 2] if kept.size else 0
  kept = exact[finite & counted]
  return np.min(kept) if kept.size else 0


def _as_floats(exact: np.ndarray) -> np.ndarray:
  """Real numbers as float64; infinite if they are too large."""
  if exact.dtype != object:
    with np.errstate(over="ignore"):
      return exact.astype(np.float64)
  return np.array([_as_float(value) for value in exact], np.float64)


def _as_float(value: int | float | fractions.Fraction) -> float:
  try:
    return float(value)
  except OverflowError:
    return math.inf if value > 0 else -math.inf


def _check_values(
  name: str,
  given: jax.Array | np.ndarray,
  floats: np.ndarray,
  counted: np.ndarray,
) -> None:
  broken = np.flatnonzero(counted & ~np.isfinite(floats))
  if broken.size:
    # Beyond the limit, or NaN, itself; not just far from one that is.
    i = max(broken, key=lambda i: (given[i] != given[i], abs(given[i])))
    value = f"rewards[{i}]={given[i]!s:.40}"
    raise ValueError(
      f"{name}: {value} is not a finite {floats.dtype}; leave out what could"
      " not be graded with where=, and divide rewards that are too large."
    )


def _promote(
  rewards: jax.Array, mask: jax.Array, shift_free: bool
) -> jax.Array:
  """Arrays of jax [n] as float32; float64 stays."""
  if rewards.dtype == jnp.float64:
    return rewards
  if shift_free and jnp.issubdtype(rewards.dtype, jnp.integer):
    if rewards.dtype.itemsize < 4:
      rewards = rewards.astype(jnp.int32)
    top = jnp.array(jnp.iinfo(rewards.dtype).max, rewards.dtype)
    least = jnp.min(rewards, initial=top, where=mask)
    # The difference may wrap around, but not as an unsigned number.
    above = (rewards - least).astype(f"uint{8 * rewards.dtype.itemsize}")
    rewards = jnp.where(mask, above, jnp.zeros_like(above))
  return rewards.astype(jnp.float32)


def _unit(largest: jax.Array) -> jax.Array:
  """The power of two of the largest magnitude, clipped."""
  dtype = largest.dtype
  most = 2.0 ** (jnp.finfo(dtype).maxexp - 28)  # its inverse is a normal number
  largest = jnp.clip(largest, 1 / most, most)
  # A float without its mantissa. Infinity is all bits of the exponent.
  kind = f"uint{8 * dtype.itemsize}"
  exponent = np.array(np.inf, dtype).view(kind)
  bits = jax.lax.bitcast_convert_type(largest, kind)
  return jax.lax.bitcast_convert_type(bits & exponent, dtype)
