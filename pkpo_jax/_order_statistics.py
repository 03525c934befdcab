"""One sort, and weights by rank: the arithmetic that every estimate shares.

A group is the n rewards of one problem. Ranks are 1..n in ascending reward.
Everything here costs O(n log n) for any k, static or traced.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Group(NamedTuple):
  """The rewards of one problem, sorted.

  Masked samples take the value of the best unmasked one, so that they sort to
  the end with gaps of exactly zero and need no special case downstream.

  Attributes:
    sorted: [size] rewards in ascending order.
    order: [size] int, `rewards[order]` is `sorted`.
    ranks: [size] 1..size, as floats.
    mask: [size] bool, in the order of the samples.
    n: how many samples are unmasked, as a float scalar.
    finite: scalar bool, whether all unmasked rewards are finite.
  """

  sorted: chex.Array
  order: chex.Array
  ranks: chex.Array
  mask: chex.Array
  n: chex.Array
  finite: chex.Array


def sort_group(
  name: str, rewards: chex.Array, where: chex.Array | None
) -> Group:
  """Sorts `rewards` [n]; `name` is the caller, for its error messages."""
  rewards, mask, n = check_group(name, rewards, where)
  finite = jnp.all(jnp.isfinite(rewards) | ~mask)
  if where is not None:
    best = jnp.max(rewards, initial=-jnp.inf, where=mask)
    rewards = jnp.where(mask, rewards, jnp.where(n > 0, best, 0.0))
  ranks = jnp.arange(1, rewards.size + 1)
  in_order, order = jax.lax.sort((rewards, ranks - 1), num_keys=1)
  return Group(in_order, order, ranks.astype(n.dtype), mask, n, finite)


def check_group(
  name: str, rewards: chex.Array, where: chex.Array | None
) -> tuple[chex.Array, chex.Array, chex.Array]:
  """Checks and promotes: (rewards [n] as floats, mask [n], number unmasked)."""
  rewards = jnp.asarray(rewards)
  if rewards.ndim != 1 or rewards.size == 0:
    raise ValueError(
      f"{name}: rewards must be one group of shape [n] with n >= 1, but have"
      f" shape {rewards.shape}; use jax.vmap for a batch of groups."
    )
  if jnp.issubdtype(rewards.dtype, jnp.complexfloating):
    raise ValueError(f"{name}: rewards must be real, not {rewards.dtype}.")
  if rewards.dtype != jnp.float64:
    rewards = rewards.astype(jnp.float32)
  mask = jnp.ones(rewards.shape, bool) if where is None else jnp.asarray(where)
  if mask.shape != rewards.shape or mask.dtype != jnp.bool_:
    raise ValueError(
      f"{name}: where must be bool of shape {rewards.shape}, but is"
      f" {mask.dtype} of shape {mask.shape}."
    )
  return rewards, mask, jnp.sum(mask).astype(rewards.dtype)


def check_k(name: str, n: int, k: chex.Numeric, last: int) -> None:
  """Raises ValueError unless k is an integer, in 1..last where concrete.

  Where no k is valid at all, a traced one raises too.
  """
  dtype, shape = jnp.result_type(k), jnp.shape(k)
  if not jnp.issubdtype(dtype, jnp.integer) or shape:
    raise ValueError(
      f"{name}: k must be an integer scalar, but is {dtype} of shape {shape};"
      f" n={n}, valid k: {_interval(last)}."
    )
  traced = isinstance(k, jax.core.Tracer)
  if last < 1 or (not traced and not 1 <= int(k) <= last):
    value = "(traced)" if traced else int(k)
    raise ValueError(
      f"{name}: k={value} is out of range for n={n} samples; valid k:"
      f" {_interval(last)}."
    )


def _interval(last: int) -> str:
  return f"1..{last}" if last >= 1 else "none"


def as_k(name: str, group: Group, k: chex.Numeric, *, last: int) -> chex.Array:
  """Checks k against 1..last and returns it in the dtype of the rewards."""
  check_k(name, group.sorted.size, k, last)
  return jnp.asarray(k, group.sorted.dtype)


def rank_weights(group: Group, n: chex.Array, k: chex.Array) -> chex.Array:
  """`C(r-1, k-1) / C(n, k)` for the ranks r <= n (Thm 3); constant above n.

  The recursion `d_n = k/n`, `d_r = d_{r+1} (r-k+1) / r`, in logarithms: no
  factorials, and underflow of the smallest weights to 0 is harmless. A running
  product of ratios next to 1 would gather their rounding, up to 1e-4 at
  n = 16384 where XLA turns the division into a product with 1/r.
  """
  r = group.ranks
  # log(r / (r-k+1)), infinite for r < k: there the weights are exactly 0.
  log_ratio = jnp.log1p((k - 1) / jnp.maximum(r - k + 1, 0))
  log_ratio = jnp.where(r < n, log_ratio, 0)
  return k / jnp.maximum(n, 1) * jnp.exp(-jnp.cumsum(log_ratio[::-1])[::-1])


def gaps(group: Group) -> chex.Array:
  """[size - 1] `g_(r+1) - g_(r)`, never negative; zero from rank n on."""
  return jnp.diff(group.sorted)


def climb(steps: chex.Array) -> chex.Array:
  """[size] from 0 at rank 1, up by `steps` [size - 1] from rank to rank."""
  return jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])


def descend(steps: chex.Array) -> chex.Array:
  """[size] down to 0 at the last rank, by `steps` [size - 1] rank by rank."""
  return climb(steps[::-1])[::-1]


def leave_one_out(group: Group, k: chex.Array) -> chex.Array:
  """[size] max@k of the samples without the one at each rank, 1 <= k <= n-1.

  Without the best it is the rank-weighted sum of the others. Each rank further
  down puts the larger neighbour in its place, so that only non-negative terms
  are added (eq 31-32 in a form without cancellation).
  """
  weights = rank_weights(group, group.n - 1, k)
  others = group.ranks < group.n
  without_best = jnp.sum(jnp.where(others, weights * group.sorted, 0))
  return without_best + descend(weights[:-1] * gaps(group))


def centre(group: Group, weights: chex.Array) -> chex.Array:
  """Subtracts the mean over the unmasked ranks."""
  total = jnp.sum(jnp.where(group.ranks <= group.n, weights, 0))
  return weights - total / jnp.maximum(group.n, 1)


def masked(
  weights: chex.Array,
  mask: chex.Array,
  defined: chex.Numeric = True,
  *,
  finite: chex.Array,
) -> chex.Array:
  """Zeros where undefined, NaN unless the rewards are usable, 0 if masked."""
  weights = jnp.where(defined, weights, 0)
  weights = jnp.where(finite, weights, jnp.nan)
  return jnp.where(mask, weights, 0)


def by_sample(
  group: Group, by_rank: chex.Array, defined: chex.Array
) -> chex.Array:
  """Values by rank -> weights by sample."""
  weights = (
    jnp.zeros_like(by_rank).at[group.order].set(by_rank, unique_indices=True)
  )
  return masked(weights, group.mask, defined, finite=group.finite)
