"""Weights and log-probs -> the terms of the loss.

Every term is a sum over the tokens of completions, like the policy's own: the
transforms weigh log p(completion), which is a sum too.
"""

import math

import chex
import jax.numpy as jnp


def policy_loss(
  log_probs: chex.Array,
  old_log_probs: chex.Array,
  mask: chex.Array,
  weights: chex.Array,
  *,
  clip_low: float,
  clip_high: float,
) -> tuple[chex.Array, chex.Array]:
  """PPO's clipped surrogate in the sum convention of the transforms.

  Summed over the tokens and the n samples of a problem, averaged over the B
  problems. At the parameters that sampled, its gradient is exactly
  `-mean over b of sum over i of weights[b, i] * grad log p(x_bi)`.

  What the clip stops, and what has weight 0, is left out before the ratio is
  computed: its log-probs may be of any size, infinite ones too.

  Args:
    log_probs: [B, n, T] of the tokens now.
    old_log_probs: [B, n, T] when they were sampled.
    mask: [B, n, T] bool.
    weights: [B, n], from a transform.
    clip_low: the ratio of a token is clipped at 1 - clip_low from below ...
    clip_high: ... and at 1 + clip_high from above.

  Returns:
    The loss, and [B, n, T] bool: where the clipping stops the gradient.
  """
  chex.assert_equal_shape([log_probs, old_log_probs, mask])
  chex.assert_shape(weights, log_probs.shape[:2])
  low = math.log1p(-clip_low) if clip_low < 1 else -math.inf
  weights = weights[..., None]
  log_ratio = jnp.where(mask, log_probs - old_log_probs, 0)
  above = (weights > 0) & (log_ratio > math.log1p(clip_high))
  below = (weights < 0) & (log_ratio < low)
  stopped = mask & (above | below)
  free = mask & (weights != 0) & ~stopped
  ratio = jnp.exp(jnp.where(free, log_ratio, 0))
  bound = jnp.where(above, 1 + clip_high, 1 - clip_low)
  ratio = jnp.where(stopped, bound, ratio)
  surrogate = jnp.where(free | stopped, ratio * weights, 0)
  return -jnp.sum(surrogate) / len(weights), stopped


def kl_loss(
  log_probs: chex.Array,
  old_log_probs: chex.Array,
  reference_log_probs: chex.Array,
  mask: chex.Array,
) -> chex.Array:
  """Estimates KL(policy || reference) per token, to be differentiated.

  `1 + ratio * (d - 1)`, with d = log policy - log reference and the ratio of
  the policy to the one that sampled, which is not clipped. Its expectation over
  the tokens of the sampling policy is the KL of the two distributions at a
  context, and that of its gradient, `ratio * d * grad log policy`, is the
  gradient of this KL, however far the policy has moved since. Contexts count as
  they were sampled: that the policy also changes which contexts come up is left
  out.

  Args:
    log_probs: [B, n, T] of the tokens now.
    old_log_probs: [B, n, T] when they were sampled.
    reference_log_probs: [B, n, T] under the reference.
    mask: [B, n, T] bool.

  Returns:
    [B, n, T], zero where masked. A single token may have a negative one; for a
    value to look at see `kl_estimate`.
  """
  log_ratio = jnp.where(mask, log_probs - old_log_probs, 0)
  d = jnp.where(mask, log_probs - reference_log_probs, 0)
  return jnp.where(mask, 1 + jnp.exp(log_ratio) * (d - 1), 0)


def kl_estimate(
  log_probs: chex.Array,
  old_log_probs: chex.Array,
  reference_log_probs: chex.Array,
  mask: chex.Array,
) -> chex.Array:
  """Estimates KL(policy || reference) per token, to be looked at.

  `ratio * (exp(-d) - 1 + d)`, as in `kl_loss`: never negative, and unbiased on
  tokens of the policy that sampled. Not for the loss, whose gradient needs no
  `exp(-d)`: that is infinite where the reference is e^88 times as likely as the
  policy that sampled.

  Args:
    log_probs: [B, n, T] of the tokens now.
    old_log_probs: [B, n, T] when they were sampled.
    reference_log_probs: [B, n, T] under the reference.
    mask: [B, n, T] bool.

  Returns:
    [B, n, T], zero where masked.
  """
  log_ratio = jnp.where(mask, log_probs - old_log_probs, 0)
  d = jnp.where(mask, log_probs - reference_log_probs, 0)
  ratio = jnp.exp(log_ratio)
  # Far below, exp(-d) alone would overflow before the ratio makes it small.
  odds = jnp.where(d > -80, ratio * jnp.expm1(-d), jnp.exp(log_ratio - d))
  return jnp.where(mask, odds + ratio * d, 0)


def token_mean(values: chex.Array, mask: chex.Array) -> chex.Array:
  """The mean of [...] values over the unmasked tokens; 0 if there are none."""
  total = jnp.sum(jnp.where(mask, values, 0))
  return total / jnp.maximum(jnp.sum(mask, dtype=total.dtype), 1)
