"""One sort, and weights by rank: the arithmetic that every estimate shares.

A group is the n rewards of one problem. Ranks are 1..n in ascending reward.
Everything here costs O(n log n) for any k, static or traced. Nothing on the way
is infinite or NaN, which jax_debug_infs and jax_debug_nans would stop at.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from pkpo_jax import _rewards


class Group(NamedTuple):
  """The rewards of one problem, sorted.

  Masked samples take the value of the best unmasked one, so that they sort to
  the end with gaps of exactly zero and need no special case downstream. Bools
  are counted, not sorted.

  Attributes:
    sorted: [size] rewards / unit in ascending order.
    unit: scalar power of two, see `_rewards.Rewards`. What is linear in the
      rewards is computed without it, and multiplied by it at the end.
    order: [size] int, `rewards[order]` is `sorted`; None for bools.
    right: [size] bool, the rewards without the masked, if they are bools.
    ranks: [size] 1..size, as floats.
    mask: [size] bool, in the order of the samples.
    n: how many samples are unmasked, as a float scalar.
    finite: scalar bool, whether all unmasked rewards are finite.
  """

  sorted: jax.Array
  unit: jax.Array
  order: jax.Array | None
  right: jax.Array | None
  ranks: jax.Array
  mask: jax.Array
  n: jax.Array
  finite: jax.Array


def sort_group(
  name: str,
  rewards: ArrayLike,
  where: ArrayLike | None,
  *,
  shift_free: bool = False,
) -> Group:
  """Checks and sorts `rewards` [n]; see `_rewards.check_rewards`."""
  checked = _rewards.check_rewards(name, rewards, where, shift_free=shift_free)
  values, mask, n = checked.values, checked.mask, checked.n
  ranks = jnp.arange(1, values.size + 1).astype(n.dtype)
  order = right = None
  if checked.binary:
    right = values > 0
    num_right = jnp.sum(right).astype(n.dtype)
    in_order = jnp.where(ranks > n - num_right, jnp.max(values), 0)
  else:
    if where is not None:
      least = jnp.finfo(values.dtype).min
      best = jnp.max(values, initial=least, where=mask)
      values = jnp.where(mask, values, jnp.where(n > 0, best, 0))
    order = jnp.argsort(_integers(values))
    in_order = values[order]
  return Group(
    in_order, checked.unit, order, right, ranks, mask, n, checked.finite
  )


def _integers(values: jax.Array) -> jax.Array:
  """Integers in the order of finite floats.

  XLA compares them several times as fast as floats, whose NaN and -0 it has to
  mind.
  """
  kind = f"int{8 * values.dtype.itemsize}"
  bits = jax.lax.bitcast_convert_type(values, kind)
  # Floats are a sign and a magnitude.
  return jnp.where(bits < 0, bits ^ jnp.iinfo(kind).max, bits)


def as_budget(
  name: str, group: Group, k: ArrayLike, *, last: int
) -> _rewards.Budget:
  """Checks k against 1..last and returns it in the dtype of the rewards."""
  size, dtype = group.sorted.size, group.sorted.dtype
  return _rewards.as_budget(name, size, k, last, dtype)


def rank_weights(group: Group, n: jax.Array, k: jax.Array) -> jax.Array:
  """`C(r-1, k-1) / C(n, k)` for the ranks r <= n (Thm 3); constant above n.

  The recursion `d_n = k/n`, `d_r = d_{r+1} (r-k+1) / r`, in logarithms: no
  factorials, and underflow of the smallest weights to 0 is harmless. A running
  product of ratios next to 1 would gather their rounding, up to 1e-4 at
  n = 16384 where XLA turns the division into a product with 1/r.
  """
  r = group.ranks
  # log(r / (r-k+1)), which exists from rank k on.
  log_ratio = jnp.log1p((k - 1) / jnp.maximum(r - k + 1, 1))
  log_ratio = jnp.where(r < n, log_ratio, 0)
  weights = jnp.exp(-jnp.cumsum(log_ratio[::-1])[::-1])
  return jnp.where(r < k, 0, k / jnp.maximum(n, 1) * weights)


def gaps(group: Group) -> jax.Array:
  """[size - 1] `g_(r+1) - g_(r)`, never negative; zero from rank n on."""
  return jnp.diff(group.sorted)


def climb(group: Group, steps: jax.Array) -> jax.Array:
  """[size] from 0 at rank 1, up by `steps` [size - 1] from rank to rank.

  Steps are 0 where the gap is.
  """
  if group.right is not None:  # at most one of the gaps is not 0
    return jnp.where(group.sorted > 0, jnp.sum(steps), 0)
  return jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])


def descend(group: Group, steps: jax.Array) -> jax.Array:
  """[size] down to 0 at the last rank, by `steps` [size - 1] rank by rank."""
  if group.right is not None:
    return jnp.where(group.sorted > 0, 0, jnp.sum(steps))
  return climb(group, steps[::-1])[::-1]


def leave_one_out(group: Group, k: jax.Array) -> jax.Array:
  """[size] max@k of the samples without the one at each rank, 1 <= k <= n-1.

  Without the best it is the rank-weighted sum of the others. Each rank further
  down puts the larger neighbour in its place, so that only non-negative terms
  are added (eq 31-32 in a form without cancellation).
  """
  weights = rank_weights(group, group.n - 1, k)
  others = group.ranks < group.n
  without_best = jnp.sum(jnp.where(others, weights * group.sorted, 0))
  return without_best + above_without_best(group, weights)


def above_without_best(group: Group, weights: jax.Array) -> jax.Array:
  """[size] how far `leave_one_out` is above that without the best.

  The same for all shifts of the rewards. `weights` are those of n - 1.
  """
  return descend(group, weights[:-1] * gaps(group))


def centre(group: Group, weights: jax.Array) -> jax.Array:
  """Subtracts the mean over the unmasked ranks."""
  total = jnp.sum(jnp.where(group.ranks <= group.n, weights, 0))
  return weights - total / jnp.maximum(group.n, 1)


def centred_climb(group: Group, steps: jax.Array) -> jax.Array:
  """`climb` less its mean over the unmasked ranks, added up from both ends.

  A step from rank r to r + 1 lifts the n - r samples above it by r/n of itself,
  and lowers the r others by the rest.
  """
  share = group.ranks[:-1] / jnp.maximum(group.n, 1)
  return climb(group, steps * share) - descend(group, steps * (1 - share))


def masked(
  weights: jax.Array,
  mask: jax.Array,
  defined: ArrayLike = True,
  *,
  finite: jax.Array,
  in_range: ArrayLike = True,
) -> jax.Array:
  """Weights of samples, or what stands in their place.

  Zero for masked samples, and for all where a mask left too few (`defined`);
  NaN unless the rewards are `finite`; NaN for all samples, masked or not, where
  no group of this size admits the traced k (`in_range`). Weights are constants
  to the gradient: it does not flow into the rewards.
  """
  weights = jnp.where(defined, weights, 0)
  weights = jnp.where(finite, weights, jnp.nan)
  weights = jnp.where(mask, weights, 0)
  return jax.lax.stop_gradient(jnp.where(in_range, weights, jnp.nan))


def by_sample(
  group: Group,
  by_rank: jax.Array,
  defined: jax.Array,
  in_range: ArrayLike = True,
) -> jax.Array:
  """Values by rank, in the unit of the group -> weights by sample.

  Equal rewards have equal values.
  """
  if group.right is not None:
    weights = jnp.where(group.right, by_rank[-1], by_rank[0])
  else:
    zeros = jnp.zeros_like(by_rank)
    weights = zeros.at[group.order].set(by_rank, unique_indices=True)
  weights = weights * group.unit
  finite = group.finite
  return masked(weights, group.mask, defined, finite=finite, in_range=in_range)
