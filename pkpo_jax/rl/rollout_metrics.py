"""What a rollout says of its policy: pass@k, solved problems, entropy."""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from pkpo_jax import estimators
from pkpo_jax.rl import rollout as rollout_lib

K_EVAL = (1, 2, 4, 8, 12, 16)


class Curve(NamedTuple):
  """pass@k over problems (expected best reward of k, if continuous).

  Attributes:
    ks: the values of k.
    mean: [len(ks)] over the problems where the estimate exists.
    standard_error: [len(ks)] of that mean, for problems drawn at random: it
      holds the spread between problems and the noise within them. NaN for a
      single problem.
    num_problems: [len(ks)] how many problems have at least k graded samples.
  """

  ks: tuple[int, ...]
  mean: np.ndarray
  standard_error: np.ndarray
  num_problems: np.ndarray


def pass_at_k_curve(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int]
) -> Curve:
  """Rewards and valid [N, n] of N problems -> the curve at the given ks.

  Raises:
    ValueError: a k exceeds n.
  """
  return over_problems(by_problem(rewards, valid, ks), ks)


def by_problem(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int]
) -> np.ndarray:
  """[N, len(ks)] estimates; NaN where a problem has too few graded samples."""
  chex.assert_rank([rewards, valid], 2)
  chex.assert_equal_shape([rewards, valid])
  n = rewards.shape[1]
  if max(ks) > n:
    raise ValueError(f"pass@{max(ks)} needs as many samples; there are n={n}.")
  return np.asarray(_estimates(rewards, valid, jnp.asarray(ks)))


@jax.jit
def _estimates(
  rewards: chex.Array, valid: chex.Array, ks: chex.Array
) -> chex.Array:
  """[N, len(ks)] estimates of max@k from rewards and valid [N, n]."""

  def at(g, where, k):
    return estimators.max_at_k(g, k, where=where)

  over_ks = jax.vmap(at, (None, None, 0))
  return jax.vmap(over_ks, (0, 0, None))(rewards, valid, ks)


def over_problems(estimates: np.ndarray, ks: Sequence[int]) -> Curve:
  """The mean over the problems where the estimate exists, and its error."""
  count = np.sum(~np.isnan(estimates), axis=0)
  mean = np.nansum(estimates, axis=0) / np.where(count, count, np.nan)
  squares = np.nansum((estimates - mean) ** 2, axis=0)
  spread = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
  error = spread / np.sqrt(np.maximum(count, 1))
  return Curve(tuple(ks), mean, error, count)


def named(curve: Curve) -> dict[str, float]:
  """The curve as metrics: "pass@4" and "pass@4_stderr" for every k."""
  values = {f"pass@{k}": m for k, m in zip(curve.ks, curve.mean)}
  errors = {
    f"pass@{k}_stderr": e for k, e in zip(curve.ks, curve.standard_error)
  }
  return values | errors


def solved(rollout: rollout_lib.Rollout) -> np.ndarray:
  """[B] bool: a problem is solved by a valid sample of reward >= 1."""
  return np.any((rollout.rewards >= 1) & rollout.valid, axis=1)


def rollout_metrics(rollout: rollout_lib.Rollout) -> dict[str, float]:
  """What one rollout says of the policy: pass@k, entropy, lengths, groups."""
  n = rollout.rewards.shape[1]
  ks = [k for k in K_EVAL if k <= n]
  curve = pass_at_k_curve(rollout.rewards, rollout.valid, ks)
  mask, valid = rollout.completions.mask, rollout.valid
  graded = valid.any(axis=1)
  right = graded & ((rollout.rewards >= 1) | ~valid).all(axis=1)
  wrong = graded & ((rollout.rewards <= 0) | ~valid).all(axis=1)
  metrics = {
    "entropy": rollout.completions.entropy[mask].mean(),
    "completion_length": mask.sum(axis=-1).mean(),
    "groups_all_right": right.mean(),
    "groups_all_wrong": wrong.mean(),
    "invalid": 1 - valid.mean(),
  }
  metrics |= named(curve)
  return {name: float(value) for name, value in metrics.items()}
