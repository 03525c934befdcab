"""Held-out problems -> graded answers; and two policies compared."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import chex
import jax
import numpy as np

from pkpo_jax import intervals
from pkpo_jax.lm import sharding
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import rollout_metrics
from pkpo_jax.tasks import base


def draw(
  problems: Sequence[base.Problem], count: int, seed: int
) -> Sequence[base.Problem]:
  """Draws so many problems, and leaves them in their order.

  Whether a problem is drawn hangs on its id and the seed, not on its place, so
  that all runs of a seed evaluate the same ones. All if there are no more.
  """

  def rank(i: int) -> bytes:
    return hashlib.sha256(f"{seed} {problems[i].id}".encode()).digest()

  rows = sorted(range(len(problems)), key=rank)[:count]
  return [problems[i] for i in sorted(rows)]


class Batch(NamedTuple):
  """What an evaluation samples at once.

  Attributes:
    prompts: how many; one stands there several times if it has more samples.
    samples: of each prompt.
  """

  prompts: int
  samples: int


def plan_batch(
  num_problems: int, n: int, *, prompts: int, samples: int
) -> Batch:
  """Plans the batches of an evaluation: none is larger than one of training.

  So that it fits into memory at any n, and where n is a multiple of `samples`,
  is the program that training has compiled. On any mesh that training splits
  over, batches do.

  Args:
    num_problems: N.
    n: answers to each problem.
    prompts: of a training step.
    samples: of each prompt in a training step.
  """
  at_once = math.gcd(n, samples)
  unit = sharding.fewest_prompts(at_once)
  needed = num_problems * (n // at_once)
  most = prompts * samples // at_once
  return Batch(min(most, -(-needed // unit) * unit), at_once)


def evaluate(
  rollout_worker: rollout_lib.RolloutWorker,
  params: chex.ArrayTree,
  problems: Sequence[base.Problem],
  key: chex.PRNGKey,
  *,
  n: int,
  batch: Batch,
  progress: Callable[..., Iterable[int]] = iter,
) -> rollout_metrics.Answers:
  """Samples n answers to every problem, a batch at a time.

  The key of an answer depends on the place of its problem in `problems` and on
  its number among the n alone: batches of any size give the same samples, and
  more samples begin with the same.

  Args:
    rollout_worker: samples and grades.
    params: parameters of its model.
    problems: N problems.
    key: the root of all keys.
    n: answers to each problem, a multiple of `batch.samples`.
    batch: what is sampled at once, of `plan_batch`.
    progress: is given the batches, and yields them.

  Returns:
    The graded answers to all N problems.
  """
  parts = n // batch.samples  # that the n answers to a problem come in
  total = len(problems) * parts

  def started() -> Iterator[Callable[[], rollout_metrics.Answers]]:
    for start in progress(range(0, total, batch.prompts)):
      # The last batch is filled up from the front, to compile only once.
      place = np.arange(start, start + batch.prompts) % total
      rows, part = place // parts, place % parts
      samples = part[:, None] * batch.samples + np.arange(batch.samples)
      some = [problems[i] for i in rows]
      finish = rollout_worker.start(
        params, some, _keys(key, rows, samples), n=batch.samples
      )

      def answers(finish=finish, some=some):
        rollout, reasons, _ = finish()
        return rollout_metrics.answers(rollout, some, reasons)

      yield answers

  graded = []
  batches = started()
  finish = next(batches, None)
  while finish:
    # The next batch is sampled while this one is graded.
    following = next(batches, None)
    graded.append(finish())
    finish = following
  whole = rollout_metrics.Answers(
    *(np.concatenate(columns)[:total] for columns in zip(*graded))
  )
  tiers = whole.tiers[::parts]
  by_problem = (x.reshape(len(problems), -1) for x in whole)
  return rollout_metrics.Answers(*by_problem)._replace(tiers=tiers)


def _keys(
  key: chex.PRNGKey, rows: np.ndarray, samples: np.ndarray
) -> chex.PRNGKey:
  """[B, m] keys of the samples [B, m] of the problems at rows [B]."""
  fold_in = jax.vmap(jax.random.fold_in)
  return jax.vmap(fold_in, (None, 1), 1)(
    jax.vmap(jax.random.fold_in, (None, 0))(key, rows), samples
  )


class Bounds(NamedTuple):
  """What stands in place of a mean that does not exist.

  That of a problem with fewer than k graded answers, say.

  Attributes:
    lower: the mean if ungraded answers were wrong.
    upper: the same if they were right.
  """

  lower: float
  upper: float


Estimate = intervals.Interval | Bounds


def estimate(
  rewards: chex.Array, valid: chex.Array, ks: Sequence[int], *, binary: bool
) -> dict[str, Estimate]:
  """Means over problems, and how sure they are.

  Args:
    rewards: [N, n].
    valid: [N, n].
    ks: each at most n.
    binary: whether all rewards are 0 or 1; else there is max@k too.

  Returns:
    For each metric such as "pass@4" its interval, see
    `intervals.over_problems`.

  Raises:
    ValueError: as `rollout_metrics.curves`.
  """
  found: dict[str, Estimate] = {}
  curves = rollout_metrics.curves(rewards, valid, ks, binary=binary)
  for name, curve in curves.items():
    for i, k in enumerate(ks):
      values = curve.by_problem[:, i]
      exists = not np.isnan(curve.mean[i])
      found[f"{name}@{k}"] = (
        intervals.over_problems(values)
        if exists
        else Bounds(float(curve.lower[i]), float(curve.upper[i]))
      )
  return found


def compare(
  before: tuple[chex.Array, chex.Array],
  after: tuple[chex.Array, chex.Array],
  ks: Sequence[int],
  *,
  binary: bool,
) -> dict[str, Estimate]:
  """Gains of one policy over another, on the same problems.

  Args:
    before: rewards and valid, each [N, n], of one policy.
    after: of the other, on the same problems in the same order; its n may
      differ.
    ks: at which to compare them, each at most both n.
    binary: whether all rewards are 0 or 1; else max@k is compared too.

  Returns:
    For each metric such as "pass@4" the interval of after - before, from paired
    differences, see `intervals.paired`.

  Raises:
    ValueError: they are not of equally many problems, or as
      `rollout_metrics.curves`.
  """
  if len(before[0]) != len(after[0]):
    raise ValueError(
      f"The policies have answers to {len(before[0])} and {len(after[0])}"
      " problems; compare them on the same ones."
    )
  old_curves, new_curves = (
    rollout_metrics.curves(*policy, ks, binary=binary)
    for policy in (before, after)
  )
  gains: dict[str, Estimate] = {}
  for name, old in old_curves.items():
    new = new_curves[name]
    for i, k in enumerate(ks):
      exists = not np.isnan(new.mean[i] - old.mean[i])
      gains[f"{name}@{k}"] = (
        intervals.paired(new.by_problem[:, i], old.by_problem[:, i])
        if exists
        else Bounds(
          float(new.lower[i] - old.upper[i]), float(new.upper[i] - old.lower[i])
        )
      )
  return gains


def key(seed: int) -> chex.PRNGKey:
  """The root key of evaluations, apart from that of training at any seed."""
  return jax.random.fold_in(jax.random.key(seed), 1)
