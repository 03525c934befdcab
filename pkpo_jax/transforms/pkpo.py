"""The transforms of PKPO, arXiv:2505.15201; equations are its own."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from pkpo_jax import _order_statistics as ranks


def s(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """The plain transform, without a baseline (eq 18-28; eq 8 for 0/1 rewards).

  `s_i = 1/C(n,k) * sum of max(rewards[I]) over the k-subsets I that contain i`.
  Unbiased for the gradient of max@k, with the largest variance.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: the k of pass@k, 1 <= k <= n. A Python int, or a traced integer: one
      compilation serves a whole annealing run.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than k are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced k is out of range
    or a traced reward is not finite.

  Raises:
    ValueError: k is not an integer or out of range, rewards are not [n], real
      and finite, or `where` is not [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import s
    >>> s(np.array([0, 1, 1, 0]), k=2).round(3)
    Array([0.333, 0.5  , 0.5  , 0.333], dtype=float32)
  """
  group = ranks.sort_group("s", rewards, where)
  k, in_range = ranks.as_budget("s", group, k, last=group.sorted.size)
  weights = _s_by_rank(group, k)
  return ranks.by_sample(group, weights, k <= group.n, in_range)


def sloo(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """`s` with a leave-one-out baseline of the other samples (eq 29-32).

  `sloo_i = s_i - k/(n-1) * max_at_k(rewards without i, k)`. Unbiased for the
  gradient of max@k.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: the k of pass@k, 1 <= k <= n - 1. A Python int, or a traced integer: one
      compilation serves a whole annealing run.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than k + 1 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced k is out of range
    or a traced reward is not finite.

  Raises:
    ValueError: k is not an integer or out of range, rewards are not [n], real
      and finite, or `where` is not [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import sloo
    >>> sloo(np.array([0, 1, 1, 0]), k=2).round(3)
    Array([-0.333,  0.056,  0.056, -0.333], dtype=float32)
  """
  group = ranks.sort_group("sloo", rewards, where)
  k, in_range = ranks.as_budget("sloo", group, k, last=group.sorted.size - 1)
  scale = k / jnp.maximum(group.n - 1, 1)
  weights = _s_by_rank(group, k) - scale * ranks.leave_one_out(group, k)
  return ranks.by_sample(group, weights, k < group.n, in_range)


def sloo_minus_one(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """What sample i adds to the best of k (eq 33-34): the one to train with.

  `1/C(n,k) * sum over the k-subsets I that contain i of
  (max(rewards[I]) - max(rewards[I without i]))`. Unbiased for the gradient of
  max@k. For k >= 2 never negative, and exactly 0 for a wrong sample with 0/1
  rewards. k = n is the method of Tang et al. (arXiv:2503.19595). At k = 1 there
  is no "I without i": there it is defined as `rloo`, as in the paper's runs at
  k = 1.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: the k of pass@k, 1 <= k <= n, and n >= 2. A Python int, or a traced
      integer: one compilation serves a whole annealing run.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than max(k, 2) are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced k is out of range
    or a traced reward is not finite.

  Raises:
    ValueError: k is not an integer or out of range, rewards are not [n], real
      and finite, or `where` is not [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import sloo_minus_one
    >>> sloo_minus_one(np.array([0, 1, 1, 0]), k=2).round(3)
    Array([0.   , 0.333, 0.333, 0.   ], dtype=float32)
  """
  group = ranks.sort_group("sloo_minus_one", rewards, where, shift_free=True)
  last = group.sorted.size if group.sorted.size > 1 else 0
  k, in_range = ranks.as_budget("sloo_minus_one", group, k, last=last)
  # From rank r to r + 1 the weight climbs by C(r, k-1) / C(n, k) times the
  # gap: no term is negative, so nothing cancels.
  steps = ranks.rank_weights(group, group.n, k)[1:] * ranks.gaps(group)
  weights = ranks.climb(group, steps)
  # At k = 1 that is (g - min g) / n, and centred it is (1 - 1/n) rloo.
  at_one = ranks.centre(group, weights) * group.n / jnp.maximum(group.n - 1, 1)
  weights = jnp.where(k == 1, at_one, weights)
  defined = (k <= group.n) & (group.n > 1)
  return ranks.by_sample(group, weights, defined, in_range)


def scloo(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """The exactly centred transform: weights that sum to zero.

  `scloo_i = s_i - k/n * max_at_k(rewards without i, k)
  = max_at_k(rewards, k) - max_at_k(rewards without i, k)`. Not in the paper;
  unbiased for the gradient of max@k as the others, and equal to the
  mean-centred `s` divided by the factor `1 - k/n` by which centring alone would
  shrink the gradient. For trainers that subtract the mean of a group, which
  leave it as it is.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: the k of pass@k, 1 <= k <= n - 1. A Python int, or a traced integer: one
      compilation serves a whole annealing run.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than k + 1 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced k is out of range
    or a traced reward is not finite.

  Raises:
    ValueError: k is not an integer or out of range, rewards are not [n], real
      and finite, or `where` is not [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import scloo
    >>> scloo(np.array([0, 1, 1, 0]), k=2).round(2)
    Array([-0.17,  0.17,  0.17, -0.17], dtype=float32)
  """
  group = ranks.sort_group("scloo", rewards, where, shift_free=True)
  k, in_range = ranks.as_budget("scloo", group, k, last=group.sorted.size - 1)
  # From rank r to r + 1 `s` climbs by C(r-1, k-1) / C(n, k) times the gap; the
  # baseline adds what makes that C(r-1, k-1) / C(n-1, k).
  steps = ranks.rank_weights(group, group.n - 1, k)[:-1] * ranks.gaps(group)
  weights = ranks.centred_climb(group, steps)
  return ranks.by_sample(group, weights, k < group.n, in_range)


def _s_by_rank(group: ranks.Group, k: jax.Array) -> jax.Array:
  """`s` at each rank: k/n of the best at the top, less gap by gap below."""
  weights = ranks.rank_weights(group, group.n, k)
  top = k / jnp.maximum(group.n, 1) * group.sorted[-1]
  return top - ranks.descend(group, weights[:-1] * ranks.gaps(group))
