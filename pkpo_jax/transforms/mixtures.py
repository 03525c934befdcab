"""Blends of pass@k objectives over k."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from pkpo_jax import _order_statistics as ranks
from pkpo_jax.transforms import baselines


def k_mixture(
  rewards: ArrayLike,
  k_weights: ArrayLike,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """Any blend of pass@k objectives, in one sort.

  `sum over k of k_weights[k-1] * sloo_minus_one(rewards, k)`, in O(n K) for K
  weights. Undefined, hence zeros, where a k with a weight other than 0 exceeds
  the number of unmasked samples. n >= 2.

  Args:
    rewards: [n], any real dtype.
    k_weights: [K] with 1 <= K <= n; may be traced.
    where: [n] bool, False for samples to leave out.

  Raises:
    ValueError: K is not in 1..n, or n = 1.
  """
  group = ranks.sort_group("k_mixture", rewards, where, shift_free=True)
  k_weights = jnp.asarray(k_weights, group.sorted.dtype)
  last = group.sorted.size if group.sorted.size > 1 else 0
  if k_weights.ndim != 1 or not 1 <= k_weights.size <= last:
    raise ValueError(
      f"k_mixture: k_weights must be [K] with K in 1..{last}, but has shape"
      f" {k_weights.shape}; n={group.sorted.size} (needs n >= 2)."
    )
  ks = jnp.arange(1, k_weights.size + 1, dtype=k_weights.dtype)
  weights_of = jax.vmap(lambda k: ranks.rank_weights(group, group.n, k))
  # Not `@`, which accelerators compute in reduced precision by default.
  above_one = jnp.where(ks > 1, k_weights, 0)
  blend = jnp.sum(above_one[:, None] * weights_of(ks), axis=0)
  weights = ranks.climb(blend[1:] * ranks.gaps(group))
  largest = jnp.max(jnp.where(k_weights != 0, ks, 0))
  defined = (largest <= group.n) & (group.n > 1)
  at_one = jnp.where(defined, baselines.rloo(rewards, where=where), 0)
  return ranks.by_sample(group, weights, defined) + k_weights[0] * at_one
