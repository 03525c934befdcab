"""Blends of objectives: over k, and over the order statistics of k samples."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pkpo_jax import _order_statistics as ranks
from pkpo_jax.transforms import baselines


def k_mixture(
  rewards: ArrayLike,
  k_weights: ArrayLike,
  *,
  where: ArrayLike | None = None,
  centred: bool = False,
) -> jax.Array:
  """Any blend of pass@k objectives, in one sort.

  `sum over k of k_weights[k-1] * sloo_minus_one(rewards, k)`, or of `scloo` if
  `centred`, in O(n K) for K weights. Unbiased for the gradient of the same
  blend of max@k.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k_weights: [K] with 1 <= K <= n and n >= 2, or K <= n - 1 if centred; may be
      traced.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn. A k that needs more than are left adds 0, as it does
      alone: what is left is the blend of the smaller ones.
    centred: whether the weights are to sum to zero.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: `k_weights` are not finite or K is out of range, rewards are not
      [n], real and finite, or `where` is not [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import k_mixture
    >>> k_mixture(np.array([0, 1, 1, 0]), np.array([0.5, 0, 0.5])).round(3)
    Array([-0.083,  0.208,  0.208, -0.083], dtype=float32)
  """
  group = ranks.sort_group("k_mixture", rewards, where, shift_free=True)
  size = group.sorted.size
  last = size - centred if size > 1 else 0
  k_weights = _check_weights("k_mixture: k_weights", k_weights, group, last)
  ks = jnp.arange(1, k_weights.size + 1, dtype=k_weights.dtype)
  n = group.n - int(centred)
  weights_of = jax.vmap(lambda k: ranks.rank_weights(group, n, k))
  used = jnp.where((ks <= n) & (centred | (ks > 1)), k_weights, 0)
  # Not `@`, which accelerators compute in reduced precision by default.
  blend = jnp.sum(used[:, None] * weights_of(ks), axis=0)
  defined = group.n > 1
  if centred:
    weights = ranks.centred_climb(group, blend[:-1] * ranks.gaps(group))
    return ranks.by_sample(group, weights, defined)
  weights = ranks.climb(group, blend[1:] * ranks.gaps(group))
  at_one = baselines.rloo(rewards, where=where)
  return ranks.by_sample(group, weights, defined) + k_weights[0] * at_one


def order_statistics(
  rewards: ArrayLike, weights: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """Any objective that weighs the sorted rewards of K fresh samples.

  The objective is the mean of `sum over j of weights[j-1] * (the j-th smallest
  of K rewards)`: the last weight alone is max@K, and this is `scloo`; the last
  two are the mean of the best two of K; all of them, 1/K each, the mean reward.
  Sample i is paid `rho(all) - rho(all without i)`, with rho the mean of that
  over the K-subsets. Centred and unbiased, in O(n K). The estimator is that of
  OrderGrad (arXiv:2606.06096).

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    weights: [K] with 1 <= K <= n - 1; may be traced.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than K + 1 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: `weights` are not finite or K is not in 1..n-1, rewards are not
      [n], real and finite, or `where` is not [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import order_statistics
    >>> order_statistics(np.array([0, 1, 1, 0]), np.array([0, 0.5, 0.5]))
    Array([-0.25,  0.25,  0.25, -0.25], dtype=float32)
  """
  name = "order_statistics"
  group = ranks.sort_group(name, rewards, where, shift_free=True)
  last = group.sorted.size - 1
  weights = _check_weights(f"{name}: weights", weights, group, last)
  K = weights.size
  shares = _hypergeometric(group.ranks[:-1] - 1, group.n - 2, K - 1)
  blend = jnp.sum(shares * weights[None, :], axis=1)
  blend = blend * K / jnp.maximum(group.n - 1, 1)
  climbed = ranks.centred_climb(group, blend * ranks.gaps(group))
  return ranks.by_sample(group, climbed, group.n > K)


def _hypergeometric(good: jax.Array, total: jax.Array, draws: int) -> jax.Array:
  """[R, draws + 1] chance of h good ones in `draws` of `total` with good [R].

  Up from the smallest h by ratios of neighbours, in logarithms: no factorials.
  """
  good, h = good[:, None], jnp.arange(draws + 1, dtype=good.dtype)[None, :]
  bad = total - good
  possible = (h <= good) & (draws - h <= bad)
  # From h - 1 to h; 0 where one of the two is not possible.
  up = (good - h + 1) * (draws - h + 1)
  down = h * (bad - draws + h)
  both = possible & (h > 0) & (up > 0) & (down > 0)
  ratio = jnp.where(both, up, 1) / jnp.where(both, down, 1)
  logs = jnp.cumsum(jnp.log(ratio), axis=1)
  least = jnp.finfo(good.dtype).min
  top = jnp.max(jnp.where(possible, logs, least), axis=1, keepdims=True)
  shares = jnp.where(possible, jnp.exp(jnp.where(possible, logs - top, 0)), 0)
  return shares / jnp.maximum(jnp.sum(shares, axis=1, keepdims=True), 1)


def _check_weights(
  name: str, weights: ArrayLike, group: ranks.Group, last: int
) -> jax.Array:
  """[K] weights in the dtype of the rewards, K in 1..last."""
  weights = jnp.asarray(weights, group.sorted.dtype)
  if weights.ndim != 1 or not 1 <= weights.size <= last:
    n = group.sorted.size
    raise ValueError(
      f"{name} must be [K] with K in 1..{last}, but has shape"
      f" {weights.shape}; n={n} (needs n >= 2)."
    )
  known = not isinstance(weights, jax.core.Tracer)
  if known and not np.all(np.isfinite(jax.device_get(weights))):
    raise ValueError(f"{name} must be finite, but are {weights}.")
  return weights
