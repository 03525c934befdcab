"""Weights and log-probs -> one scalar loss."""

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
  ratio = jnp.exp(jnp.where(mask, log_probs - old_log_probs, 0))
  weights = weights[..., None]
  clipped = jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
  surrogate = jnp.minimum(ratio * weights, clipped * weights)
  total = jnp.sum(jnp.where(mask, surrogate, 0))
  stopped = mask & (clipped * weights < ratio * weights)
  return -total / len(weights), stopped


def kl_loss(
  log_probs: chex.Array, reference_log_probs: chex.Array, mask: chex.Array
) -> chex.Array:
  """Losses [B, n, T] with the gradient of KL(policy || reference) per token.

  `(log policy - log reference)^2 / 2`. Only the gradient is meant, unbiased on
  samples of the policy; for the value see `kl_estimate`, whose own gradient
  would be that of the reverse KL. Zero where masked.
  """
  d = jnp.where(mask, log_probs - reference_log_probs, 0)
  return d**2 / 2


def kl_estimate(
  log_probs: chex.Array, reference_log_probs: chex.Array, mask: chex.Array
) -> chex.Array:
  """KL(policy || reference) per token, [B, n, T]; zero where masked.

  The estimator `exp(d) - d - 1` with d = reference - policy log-prob, which is
  never negative and unbiased on samples of the policy.
  """
  d = jnp.where(mask, reference_log_probs - log_probs, 0)
  return jnp.exp(d) - d - 1


def token_mean(
  values: chex.Array, mask: chex.Array, count: chex.Numeric | None = None
) -> chex.Array:
  """The mean of [...] values over the unmasked tokens; 0 if there are none.

  Args:
    values: [...].
    mask: [...] bool.
    count: of the tokens in the whole batch where this is a part of it: the
      means of the parts then add up to the mean of the whole.
  """
  count = jnp.sum(mask) if count is None else count
  return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(count, 1)
