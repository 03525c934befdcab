"""What n graded answers to each of N problems say of a policy.

All of it is numpy in float64 on the host, so that it needs no device while one
updates, and so that no zero of the rewards and no dtype changes an error.

No problem is left out of a mean. An estimate at k needs k graded answers; if a
problem has fewer, the mean at k does not exist, and two bounds stand in its
place: as if all ungraded answers were wrong, with reward 0, and as if all were
right, with reward 1.
"""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import numpy as np

from pkpo_jax import intervals
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.tasks import base

_WRONG, _RIGHT = 0.0, 1.0
# A grader of a user's may give every answer a reason of its own.
_MAX_REASONS = 16


class Answers(NamedTuple):
  """n graded answers to each of N problems, without their tokens.

  Attributes:
    rewards: [N, n] float32.
    valid: [N, n] bool, False where grading itself failed, twice.
    reasons: [N, n] text, of the grades.
    lengths: [N, n] tokens, with the one that ends an answer.
    entropy: [N, n] nats, summed over the tokens.
    tiers: [N] text, difficulty of the problems.
    truncated: [N, n] bool, whether an answer was cut off.
  """

  rewards: np.ndarray
  valid: np.ndarray
  reasons: np.ndarray
  lengths: np.ndarray
  entropy: np.ndarray
  tiers: np.ndarray
  truncated: np.ndarray


class Curve(NamedTuple):
  """pass@k or max@k, averaged over N problems, at several k.

  Attributes:
    ks: the values of k.
    mean: [len(ks)]; NaN where a problem has fewer than k graded answers.
    standard_error: [len(ks)] of that mean, for problems drawn at random: it
      holds the spread between problems and the noise within them. NaN where
      the mean is, and for a single problem.
    lower: [len(ks)] the mean if ungraded answers had reward 0; where the mean
      exists, the mean.
    upper: [len(ks)] the same with reward 1.
    by_problem: [N, len(ks)] the estimates that it is the mean of.
  """

  ks: tuple[int, ...]
  mean: np.ndarray
  standard_error: np.ndarray
  lower: np.ndarray
  upper: np.ndarray
  by_problem: np.ndarray


def k_eval(n: int) -> tuple[int, ...]:
  """The ks up to n at which is reported: powers of two, and the paper's 12."""
  return tuple(k for k in sorted({12, *(2**i for i in range(32))}) if k <= n)


def pass_at_k_curve(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int]
) -> Curve:
  """Probability that the best of k answers has a reward of at least 1.

  Args:
    rewards: [N, n] of N problems.
    valid: [N, n] bool.
    ks: each at most n.

  Raises:
    ValueError: a k exceeds n, or a valid reward is not finite.
  """
  base.check_rewards(rewards, valid)
  return max_at_k_curve(np.asarray(rewards) >= 1, valid, ks)


def max_at_k_curve(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int]
) -> Curve:
  """Expected best reward of k answers; arguments as of `pass_at_k_curve`."""
  estimates, every = by_problem(rewards, valid, ks), np.ones_like(valid, bool)
  lower, upper = (
    by_problem(np.where(valid, rewards, other), every, ks).mean(axis=0)
    for other in (_WRONG, _RIGHT)
  )
  mean, error = intervals.mean_and_error(estimates)
  lower, upper = (np.where(np.isnan(mean), x, mean) for x in (lower, upper))
  return Curve(tuple(ks), mean, error, lower, upper, estimates)


def by_problem(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int]
) -> np.ndarray:
  """Unbiased estimates of max@k, float64, as `estimators.max_at_k` has them.

  Args:
    rewards: [N, n] of N problems; a bool is 0 or 1.
    valid: [N, n] bool.
    ks: each at most n.

  Returns:
    [N, len(ks)]; NaN where a problem has fewer than k graded answers.

  Raises:
    ValueError: a k exceeds n, or a valid reward is not finite.
  """
  rewards, valid = np.asarray(rewards, float), np.asarray(valid, bool)
  chex.assert_rank([rewards, valid], 2)
  chex.assert_equal_shape([rewards, valid])
  base.check_rewards(rewards, valid)
  n = rewards.shape[1]
  if max(ks) > n:
    raise ValueError(f"pass@{max(ks)} needs as many samples; there are n={n}.")
  graded = valid.sum(axis=1)
  ordered = np.sort(np.where(valid, rewards, -np.inf), axis=1)
  estimates = np.full((len(rewards), len(ks)), np.nan)
  for m in np.unique(graded):
    rows = graded == m
    best = ordered[rows, n - m :]
    for column, k in enumerate(ks):
      if k <= m:
        estimates[rows, column] = best @ _rank_weights(int(m), k)
  return estimates


def _rank_weights(m: int, k: int) -> np.ndarray:
  """[m] chances C(i-1, k-1) / C(m, k) that rank i is the best of k (eq 12)."""
  i = np.arange(m - 1, 0, -1)  # from i + 1 down to i
  steps = np.maximum(i - k + 1, 0) / i
  return k / m * np.cumprod([1.0, *steps])[::-1]


def named(curve: Curve, name: str = "pass") -> dict[str, float]:
  """The curve as metrics: "pass@4" and "pass@4_stderr" for every k.

  Both are NaN where the mean does not exist; then "pass@4_lower" and
  "pass@4_upper" are there too.
  """
  metrics: dict[str, float] = {}
  for k, mean, error, lower, upper in zip(*curve[:-1]):
    metrics |= {f"{name}@{k}": mean, f"{name}@{k}_stderr": error}
    if np.isnan(mean):
      metrics |= {f"{name}@{k}_lower": lower, f"{name}@{k}_upper": upper}
  return metrics


def curves(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int], *, binary: bool
) -> dict[str, Curve]:
  """The curves that are reported: of "pass", and of "max" unless binary.

  Raises:
    ValueError: as `pass_at_k_curve`; or the rewards are not 0/1, but binary.
  """
  found = {"pass": pass_at_k_curve(rewards, valid, ks)}
  if not binary:
    return found | {"max": max_at_k_curve(rewards, valid, ks)}
  graded = np.asarray(rewards)[np.asarray(valid, bool)]
  if others := set(graded.tolist()) - {0, 1}:
    raise ValueError(
      f"A task with binary_rewards=True gave the reward {others.pop()}; leave"
      " the attribute out, or give 0 and 1 alone."
    )
  return found


def solved(rollout: rollout_lib.Rollout) -> np.ndarray:
  """[B] bool: a problem is solved by a valid sample of reward >= 1."""
  return np.any((rollout.rewards >= 1) & rollout.valid, axis=1)


def answers(
  rollout: rollout_lib.Rollout,
  problems: Sequence[base.Problem],
  reasons: Sequence[Sequence[str]],
) -> Answers:
  """What is reported of a rollout: of B problems, with reasons [B][n].

  Raises:
    ValueError: a valid reward is not finite; names the problem.
  """
  ids = [problem.id for problem in problems]
  base.check_rewards(rollout.rewards, rollout.valid, ids)
  mask = np.asarray(rollout.completions.mask)
  entropy = np.where(mask, rollout.completions.entropy, 0.0)
  return Answers(
    np.asarray(rollout.rewards),
    np.asarray(rollout.valid),
    np.array(reasons, object),
    mask.sum(axis=-1),
    entropy.sum(axis=-1, dtype=float),
    np.array([problem.tier for problem in problems], object),
    np.asarray(rollout.truncated),
  )


def describe_problem(some: Answers, row: int) -> dict[str, Any]:
  """What became of the problem at a row, as JSON can hold it.

  Its rewards are in the order of sampling, with None for answers without a
  grade.
  """
  valid = some.valid[row]
  return {
    "num_right": int(np.sum((some.rewards[row] >= 1) & valid)),
    "num_ungraded": int(np.sum(~valid)),
    "num_truncated": int(np.sum(some.truncated[row])),
    "mean_length": round(float(np.mean(some.lengths[row])), 1),
    "reasons": dict(collections.Counter(_kinds(some.reasons[row]))),
    "rewards": [
      (int(x) if x == int(x) else float(x)) if ok else None
      for x, ok in zip(some.rewards[row], valid)
    ],
  }


def measure(some: Answers, *, binary: bool) -> dict[str, float]:
  """All metrics of some answers, by name; docs/metrics.md explains each.

  Args:
    some: answers to one or more problems.
    binary: whether all rewards are 0 or 1, by the task's own word.

  Raises:
    ValueError: as `curves`.
  """
  rewards, valid = some.rewards, some.valid
  graded = valid.any(axis=1)
  right = graded & ((rewards >= 1) | ~valid).all(axis=1)
  wrong = graded & ((rewards <= 0) | ~valid).all(axis=1)
  ks = k_eval(rewards.shape[1])
  metrics: dict[str, float] = _counts(valid)
  for name, curve in curves(rewards, valid, ks, binary=binary).items():
    metrics |= named(curve, name)
  metrics |= {
    "entropy": some.entropy.sum() / some.lengths.sum(),
    "completion_length": some.lengths.mean(),
    "groups_all_right": right.mean(),
    "groups_all_wrong": wrong.mean(),
    "invalid": 1 - valid.mean(),
    "truncated": some.truncated.mean(),
  }
  metrics |= _by_reason(some.reasons) | _by_tier(some)
  return {name: float(value) for name, value in metrics.items()}


def _counts(valid: np.ndarray) -> dict[str, float]:
  """How many problems a mean is over, and answers that have no grade."""
  return {"num_problems": len(valid), "num_ungraded": int(np.sum(~valid))}


def _by_reason(reasons: np.ndarray) -> dict[str, float]:
  """Fraction of all answers by reason, without details after a colon."""
  kinds = _kinds(reasons)
  common = collections.Counter(kinds).most_common(_MAX_REASONS)
  rates = {f"reason/{kind}": n / len(kinds) for kind, n in sorted(common)}
  rest = len(kinds) - sum(n for _, n in common)
  return rates | ({"reason/(others)": rest / len(kinds)} if rest else {})


def _kinds(reasons: np.ndarray) -> list[str]:
  return [reason.partition(":")[0].strip() for reason in reasons.flat]


def _by_tier(some: Answers) -> dict[str, float]:
  """pass@1 of the problems of each tier, and how many they are."""
  metrics: dict[str, float] = {}
  for tier in sorted(set(some.tiers) - {""}):
    rows = some.tiers == tier
    rewards, valid = some.rewards[rows], some.valid[rows]
    found = named(pass_at_k_curve(rewards, valid, (1,))) | _counts(valid)
    metrics |= {f"tier/{tier}/{name}": x for name, x in found.items()}
  return metrics
