"""Weights that other papers propose, in the signature of PKPO's transforms."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from pkpo_jax import _order_statistics as ranks
from pkpo_jax import _rewards


def rloo(
  rewards: ArrayLike,
  k: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """REINFORCE leave-one-out: `(g_i - mean of the others) / n`.

  Unbiased for the gradient of the mean reward, pass@1.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: ignored, so that transforms can be exchanged.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than 2 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: n = 1, rewards are not [n], real and finite, or `where` is not
      [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import rloo
    >>> rloo(np.array([0, 1, 1, 0])).round(2)
    Array([-0.17,  0.17,  0.17, -0.17], dtype=float32)
  """
  del k
  group, deviations = _deviations("rloo", rewards, where)
  return _weights(group, deviations / jnp.maximum(group.n - 1, 1) * group.unit)


def grpo(
  rewards: ArrayLike,
  k: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """GRPO: `(g_i - mean) / (std + 1e-6) / n`.

  With the sample standard deviation (n - 1), as the public trainers have it
  (arXiv:2402.03300). Biased: it re-weights problems by 1/std.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: ignored, so that transforms can be exchanged.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than 2 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: n = 1, rewards are not [n], real and finite, or `where` is not
      [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import grpo
    >>> grpo(np.array([0, 1, 1, 0])).round(2)
    Array([-0.22,  0.22,  0.22, -0.22], dtype=float32)
  """
  del k
  group, deviations = _deviations("grpo", rewards, where)
  variance = jnp.sum(deviations**2) / jnp.maximum(group.n - 1, 1)
  std = jnp.sqrt(variance) + 1e-6 / group.unit
  return _weights(group, deviations / std / jnp.maximum(group.n, 1))


def dr_grpo(
  rewards: ArrayLike,
  k: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """Dr. GRPO: `(g_i - mean) / n` (arXiv:2503.20783).

  `rloo` times `1 - 1/n`.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: ignored, so that transforms can be exchanged.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than 2 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: n = 1, rewards are not [n], real and finite, or `where` is not
      [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import dr_grpo
    >>> dr_grpo(np.array([0, 1, 1, 0]))
    Array([-0.125,  0.125,  0.125, -0.125], dtype=float32)
  """
  del k
  group, deviations = _deviations("dr_grpo", rewards, where)
  return _weights(group, deviations / jnp.maximum(group.n, 1) * group.unit)


def maxrl(
  rewards: ArrayLike,
  k: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """MaxRL: `g_i / c` for 0/1 rewards with c right ones, 0 if none is right.

  A harmonic mixture over all k: `g_i/n + sum over k = 2..n of
  sloo_minus_one(k)_i / k` (arXiv:2602.02710), which is how it takes any
  rewards: from rank r to r + 1 the weight climbs by the gap over n - r, and the
  smallest reward has its n-th.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: ignored, so that transforms can be exchanged.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than 1 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: rewards are not [n], real and finite, or `where` is not [n]
      bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import maxrl
    >>> maxrl(np.array([0, 1, 1, 0]))
    Array([0. , 0.5, 0.5, 0. ], dtype=float32)
  """
  del k
  group = ranks.sort_group("maxrl", rewards, where)
  least = group.sorted[0] / jnp.maximum(group.n, 1)
  weights = least + ranks.climb(group, _tail_steps(group))
  return ranks.by_sample(group, weights, group.n > 0)


def tailrl(
  rewards: ArrayLike,
  k: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """TailRL: `maxrl` less its mean, for any rewards.

  Equal to the sum over k = 1..n-1 of `scloo(k) / k`, so unbiased for the
  gradient of the sum of max@k / k; for 0/1 rewards `g_i / c - 1/n`, and zeros
  if none is right.

  Args:
    rewards: [n], any real dtype, or Python numbers; computed in float32, but
      float64 stays float64.
    k: ignored, so that transforms can be exchanged.
    where: [n] bool, False for samples that could not be graded. They get 0 and
      count as never drawn; all get 0 if fewer than 2 are left.

  Returns:
    [n] weights for a *sum* over the samples of weight times log-prob; times n
    for a mean. Constants to the gradient. NaN where a traced reward is not
    finite.

  Raises:
    ValueError: n = 1, rewards are not [n], real and finite, or `where` is not
      [n] bool.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import tailrl
    >>> tailrl(np.array([0, 1, 1, 0]))
    Array([-0.25,  0.25,  0.25, -0.25], dtype=float32)
  """
  del k
  group = ranks.sort_group("tailrl", rewards, where, shift_free=True)
  if group.sorted.size < 2:
    raise ValueError("tailrl: needs n >= 2 samples for a baseline, has n=1.")
  weights = ranks.centred_climb(group, _tail_steps(group))
  return ranks.by_sample(group, weights, group.n > 1)


def _tail_steps(group: ranks.Group) -> jax.Array:
  """[size - 1] the gap above each rank r, over the n - r samples above it."""
  return ranks.gaps(group) / jnp.maximum(group.n - group.ranks[:-1], 1)


def passk_training(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """Pass@k training of Chen et al. (arXiv:2508.10751), over all k-subsets.

  `((n/k) s_i - rho) / std / n`, with rho the mean and std the standard
  deviation of the best over the k-subsets: for 0/1 rewards the pass@k estimate
  and `sqrt(rho (1 - rho))`. Zeros where all subsets have the same best. Biased,
  as `grpo` is.

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
    >>> from pkpo_jax import passk_training
    >>> passk_training(np.array([0, 1, 1, 0]), k=2).round(2)
    Array([-0.11,  0.11,  0.11, -0.11], dtype=float32)
  """
  name = "passk_training"
  group = ranks.sort_group(name, rewards, where, shift_free=True)
  k, in_range = ranks.as_budget(name, group, k, last=group.sorted.size)
  weights = ranks.rank_weights(group, group.n, k)
  variance = _variance_of_the_best(group, weights)
  steps = weights[:-1] * ranks.gaps(group) / k
  std = jnp.sqrt(jnp.where(variance > 0, variance, 1))
  defined = (k <= group.n) & (variance > 0)
  advantages = ranks.centred_climb(group, steps) / std
  return ranks.by_sample(group, advantages / group.unit, defined, in_range)


def _variance_of_the_best(group: ranks.Group, weights: jax.Array) -> jax.Array:
  """Variance of the best of a random k-subset, from its rank weights.

  `sum over a, b of gap_a gap_b F_min(a,b) (1 - F_max(a,b))`, with F_r the share
  of the subsets whose best has a rank up to r: no term is negative, so that it
  is right where almost all subsets have the same best.
  """
  gaps = ranks.gaps(group)
  unmasked = jnp.where(group.ranks <= group.n, weights, 0)
  up_to = jnp.cumsum(unmasked)[:-1]
  above = jnp.cumsum(unmasked[::-1])[::-1][1:]
  below = ranks.climb(group, gaps * up_to)[:-1]
  return jnp.sum(gaps * above * (2 * below + gaps * up_to))


def _deviations(
  name: str, rewards: ArrayLike, where: ArrayLike | None
) -> tuple[_rewards.Rewards, jax.Array]:
  """(the group, `g_i - mean g` in its unit); exact zeros for equal rewards."""
  group = _rewards.check_rewards(name, rewards, where, shift_free=True)
  values, mask = group.values, group.mask
  if values.size < 2:
    raise ValueError(f"{name}: needs n >= 2 samples for a baseline, has n=1.")
  top = jnp.finfo(values.dtype).max
  least = jnp.min(values, initial=top, where=mask)
  shifted = jnp.where(mask, values - least, 0)
  mean = jnp.sum(shifted) / jnp.maximum(group.n, 1)
  return group, jnp.where(mask, shifted - mean, 0)


def _weights(group: _rewards.Rewards, weights: jax.Array) -> jax.Array:
  return ranks.masked(weights, group.mask, finite=group.finite)
