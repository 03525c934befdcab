"""Weights that other papers propose, in the signature of PKPO's transforms."""

import chex
import jax.numpy as jnp

from pkpo_jax import _order_statistics as ranks


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
  return ranks.masked(weights, mask, finite=binary)


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
  return ranks.masked(
    advantages / jnp.maximum(n, 1), mask, mixed, finite=binary
  )


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
  return ranks.masked(shifted - mean, mask, finite=finite), n


def _check_binary(
  name: str, rewards: chex.Array, where: chex.Array | None
) -> tuple[chex.Array, chex.Array, chex.Array]:
  """(1 for a correct sample, else 0; mask; whether all rewards are 0 or 1)."""
  rewards, mask, _ = ranks.check_group(name, rewards, where)
  binary = jnp.all((rewards == 0) | (rewards == 1) | ~mask)
  correct = (rewards == 1) & mask
  return correct.astype(rewards.dtype), mask, binary
