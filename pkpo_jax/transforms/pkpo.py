"""Rewards [n] of one problem -> one policy-gradient weight per sample [n].

Every function here has the same signature and the same **sum convention**:
`sum_i weights[i] * grad log p(x_i)` estimates the gradient. A loss that
averages over the n samples must multiply by n. Weights are constants to the
gradient: call these outside of `jax.grad`, or stop the gradient.

Shared by all:
  rewards: [n], any real dtype. Integers, bools and halves are computed in
    float32; float64 stays float64.
  k: the k of pass@k. A Python int (out of range raises ValueError) or a traced
    integer (one compilation serves a whole annealing run).
  where: [n] bool, False for samples that could not be graded. They get weight
    0, and the others are treated as if these had never been drawn. A group in
    which the transform is undefined for the samples left gets all zeros.

They return [n] float32 (float64 for float64 rewards); all NaN if an unmasked
reward is not finite. They raise ValueError for a group that is not [n] with
n >= 1. Unbatched, as in rlax: use `jax.vmap` for a batch. Equations are those
of arXiv:2505.15201.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from pkpo_jax import _order_statistics as ranks

Transform = Callable[..., chex.Array]


def s(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
  """The plain transform, without a baseline (eq 18-28; eq 8 for 0/1 rewards).

  `1/C(n,k) * sum of max(rewards[I]) over the k-subsets I that contain i`.
  Unbiased for the gradient of max@k, with the largest variance. 1 <= k <= n.
  """
  group = ranks.sort_group("s", rewards, where)
  k = ranks.as_k("s", group, k, last=group.sorted.size)
  return _finish(group, _s_by_rank(group, k), (1 <= k) & (k <= group.n))


def sloo(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
  """`s` with a leave-one-out baseline of the other samples (eq 29-32).

  `s_i - k/(n-1) * max_at_k(rewards without i, k)`. 1 <= k <= n - 1.
  """
  group = ranks.sort_group("sloo", rewards, where)
  k = ranks.as_k("sloo", group, k, last=group.sorted.size - 1)
  scale = k / jnp.maximum(group.n - 1, 1)
  weights = _s_by_rank(group, k) - scale * ranks.leave_one_out(group, k)
  return _finish(group, weights, (1 <= k) & (k < group.n))


def sloo_minus_one(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
  """What sample i adds to the best of k (eq 33-34): the one to train with.

  `1/C(n,k) * sum over the k-subsets I that contain i of
  (max(rewards[I]) - max(rewards[I without i]))`. Never negative; exactly 0 for
  a wrong sample with 0/1 rewards. k = n is the method of Tang et al.
  (arXiv:2503.19595). At k = 1 there is no "I without i": there it is defined
  as `rloo`, as in the paper's runs at k = 1. 1 <= k <= n, n >= 2.
  """
  group = ranks.sort_group("sloo_minus_one", rewards, where)
  last = group.sorted.size if group.sorted.size > 1 else 0
  k = ranks.as_k("sloo_minus_one", group, k, last=last)
  # From rank r to r + 1 the weight climbs by C(r, k-1) / C(n, k) times the
  # gap: no term is negative, so nothing cancels.
  steps = ranks.rank_weights(group, group.n, k)[1:] * ranks.gaps(group)
  weights = ranks.climb(steps)
  # At k = 1 that is (g - min g) / n, and centred it is (1 - 1/n) rloo.
  at_one = _centre(group, weights) * group.n / jnp.maximum(group.n - 1, 1)
  weights = jnp.where(k == 1, at_one, weights)
  return _finish(group, weights, (1 <= k) & (k <= group.n) & (group.n > 1))


def scloo(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
  """The exactly centred transform: weights that sum to zero.

  `s_i - k/n * max_at_k(rewards without i, k)`. Not in the paper; unbiased as
  the others, and equal to the mean-centred `s` divided by the factor
  `1 - k/n` by which centring alone would shrink the gradient. 1 <= k <= n - 1.
  """
  group = ranks.sort_group("scloo", rewards, where)
  k = ranks.as_k("scloo", group, k, last=group.sorted.size - 1)
  weights = ranks.rank_weights(group, group.n, k)
  baseline = ranks.rank_weights(group, group.n - 1, k)
  baseline *= k / jnp.maximum(group.n, 1)
  steps = (weights + baseline)[:-1] * ranks.gaps(group)
  weights = _centre(group, ranks.climb(steps))
  return _finish(group, weights, (1 <= k) & (k < group.n))


def rloo(
  rewards: chex.Array,
  k: chex.Numeric | None = None,
  *,
  where: chex.Array | None = None,
) -> chex.Array:
  """REINFORCE leave-one-out: `(g_i - mean of the others) / n`. Ignores k.

  Unbiased for the gradient of the mean reward, pass@1. n >= 2.
  """
  del k
  deviation, n = _deviations("rloo", rewards, where)
  return deviation / jnp.maximum(n - 1, 1)


def grpo(
  rewards: chex.Array,
  k: chex.Numeric | None = None,
  *,
  where: chex.Array | None = None,
) -> chex.Array:
  """GRPO: `(g_i - mean) / (std + 1e-6) / n`. Ignores k. n >= 2.

  With the sample standard deviation (n - 1), as the public trainers have it
  (arXiv:2402.03300). Biased: it re-weights problems by 1/std.
  """
  del k
  deviation, n = _deviations("grpo", rewards, where)
  std = jnp.sqrt(jnp.sum(deviation**2) / jnp.maximum(n - 1, 1))
  return deviation / (std + 1e-6) / jnp.maximum(n, 1)


def dr_grpo(
  rewards: chex.Array,
  k: chex.Numeric | None = None,
  *,
  where: chex.Array | None = None,
) -> chex.Array:
  """Dr. GRPO: `(g_i - mean) / n` (arXiv:2503.20783). Ignores k. n >= 2.

  `rloo` times `1 - 1/n`.
  """
  del k
  deviation, n = _deviations("dr_grpo", rewards, where)
  return deviation / jnp.maximum(n, 1)


def maxrl(
  rewards: chex.Array,
  k: chex.Numeric | None = None,
  *,
  where: chex.Array | None = None,
) -> chex.Array:
  """MaxRL for 0/1 rewards: `g_i / c`, 0 if none is right. Ignores k.

  A harmonic mixture over all k: `g_i/n + sum over k >= 2 of
  sloo_minus_one(k) / k` (arXiv:2602.02710). Rewards other than 0 and 1 give
  NaN.
  """
  del k
  correct, mask, binary = _check_binary("maxrl", rewards, where)
  weights = correct / jnp.maximum(jnp.sum(correct), 1)
  return _only(weights, mask, finite=binary)


def passk_training(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
  """Pass@k training of Chen et al. for 0/1 rewards (arXiv:2508.10751).

  `((n/k) s_i - rho) / sqrt(rho (1 - rho)) / n` with rho the pass@k estimate;
  zeros where rho is 0 or 1. Biased, as `grpo` is. Rewards other than 0 and 1
  give NaN. 1 <= k <= n.
  """
  correct, mask, binary = _check_binary("passk_training", rewards, where)
  group = ranks.sort_group("passk_training", correct, where)
  k = ranks.as_k("passk_training", group, k, last=group.sorted.size)
  n, c = group.n, jnp.sum(correct)
  weights = ranks.rank_weights(group, n, k)
  right = (group.ranks > n - c) & (group.ranks <= n)
  rho = jnp.sum(jnp.where(right, weights, 0))
  miss = jnp.sum(jnp.where(group.ranks <= n - c, weights, 0))
  # (n/k) s_i is 1 for a correct sample, and the advantages sum to zero: so
  # they follow without subtracting nearly equal numbers.
  mixed = (0 < c) & (c < n) & (1 <= k) & (k <= n)
  std_ratio = jnp.sqrt(miss / jnp.where(mixed, rho, 1))
  advantages = std_ratio * (n * correct - c) / jnp.where(mixed, n - c, 1)
  return _only(advantages / jnp.maximum(n, 1), mask, mixed, finite=binary)


def k_mixture(
  rewards: chex.Array,
  k_weights: chex.Array,
  *,
  where: chex.Array | None = None,
) -> chex.Array:
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
  group = ranks.sort_group("k_mixture", rewards, where)
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
  at_one = jnp.where(defined, rloo(rewards, where=where), 0)
  return _finish(group, weights, defined) + k_weights[0] * at_one


_TRANSFORMS: dict[str, Transform] = {
  f.__name__: f
  for f in (
    s,
    sloo,
    sloo_minus_one,
    scloo,
    rloo,
    grpo,
    dr_grpo,
    maxrl,
    passk_training,
  )
}


def get_transform(name: str) -> Transform:
  """The transform of that name, e.g. "sloo_minus_one".

  Raises:
    ValueError: unknown name; the message lists the known ones.
  """
  if name not in _TRANSFORMS:
    known = ", ".join(sorted(_TRANSFORMS))
    raise ValueError(f"Unknown transform {name!r}; known: {known}.")
  return _TRANSFORMS[name]


def _s_by_rank(group: ranks.Group, k: chex.Array) -> chex.Array:
  """`s` at each rank: k/n of the best at the top, less gap by gap below."""
  weights = ranks.rank_weights(group, group.n, k)
  top = k / jnp.maximum(group.n, 1) * group.sorted[-1]
  return top - ranks.descend(weights[:-1] * ranks.gaps(group))


def _centre(group: ranks.Group, weights: chex.Array) -> chex.Array:
  """Subtracts the mean over the unmasked ranks."""
  total = jnp.sum(jnp.where(group.ranks <= group.n, weights, 0))
  return weights - total / jnp.maximum(group.n, 1)


def _deviations(
  name: str, rewards: chex.Array, where: chex.Array | None
) -> tuple[chex.Array, chex.Array]:
  """(`g_i - mean g`, zero where masked; n); exact zeros for equal rewards."""
  rewards, mask, n = ranks.check_group(name, rewards, where)
  if rewards.size < 2:
    raise ValueError(f"{name}: needs n >= 2 samples for a baseline, has n=1.")
  least = jnp.min(rewards, initial=jnp.inf, where=mask)
  shifted = jnp.where(mask, rewards - least, 0)
  finite = jnp.all(jnp.isfinite(rewards) | ~mask)
  mean = jnp.sum(shifted) / jnp.maximum(n, 1)
  return _only(shifted - mean, mask, finite=finite), n


def _check_binary(
  name: str, rewards: chex.Array, where: chex.Array | None
) -> tuple[chex.Array, chex.Array, chex.Array]:
  """(1 for a correct sample, else 0; mask; whether all rewards are 0 or 1)."""
  rewards, mask, _ = ranks.check_group(name, rewards, where)
  binary = jnp.all((rewards == 0) | (rewards == 1) | ~mask)
  correct = (rewards == 1) & mask
  return correct.astype(rewards.dtype), mask, binary


def _only(
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


def _finish(
  group: ranks.Group, by_rank: chex.Array, defined: chex.Array
) -> chex.Array:
  """Values by rank -> weights by sample."""
  by_sample = (
    jnp.zeros_like(by_rank).at[group.order].set(by_rank, unique_indices=True)
  )
  return _only(by_sample, group.mask, defined, finite=group.finite)
