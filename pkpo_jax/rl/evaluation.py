"""Held-out problems -> graded answers; and two policies compared."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import chex
import jax
import numpy as np

from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import rollout_metrics
from pkpo_jax.tasks import base


class Number(NamedTuple):
  """A mean over problems.

  Attributes:
    mean: NaN where some problem has too few graded answers.
    standard_error: of the mean; NaN where it is, and for a single problem.
    lower: the mean if ungraded answers were wrong; where it exists, the mean.
    upper: the same if they were right.
  """

  mean: float
  standard_error: float
  lower: float
  upper: float


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


def evaluate(
  rollout_worker: rollout_lib.RolloutWorker,
  params: chex.ArrayTree,
  problems: Sequence[base.Problem],
  key: chex.PRNGKey,
  *,
  n: int,
  batch_size: int,
  progress: Callable[..., Iterable[int]] = iter,
) -> rollout_metrics.Answers:
  """Samples n answers to every problem, a batch of problems at a time.

  The key of a problem depends on its place in `problems` alone, so that
  batches of any size give the same samples.

  Returns:
    The graded answers to all N problems.
  """

  def started() -> Iterator[Callable[[], rollout_metrics.Answers]]:
    for start in progress(range(0, len(problems), batch_size)):
      # The last batch is filled up with problems again, to compile only once.
      rows = np.arange(start, start + batch_size) % len(problems)
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
      some = [problems[i] for i in rows]
      finish = rollout_worker.start(params, some, keys, n=n)

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
  return rollout_metrics.Answers(
    *(np.concatenate(parts)[: len(problems)] for parts in zip(*graded))
  )


def compare(
  before: tuple[chex.Array, chex.Array],
  after: tuple[chex.Array, chex.Array],
  ks: Sequence[int],
  *,
  binary: bool,
) -> dict[str, dict[str, Number]]:
  """Compares two policies on the same problems.

  Args:
    before: rewards and valid, [N, n], of one policy.
    after: of the other, on the same problems in the same order.
    ks: at which to compare them.
    binary: whether all rewards are 0 or 1; else max@k is compared too.

  Returns:
    For each metric such as "pass@4" the numbers of "base", of "trained" and of
    the "gain" by problem: it is trained - base, and its error that of paired
    differences.

  Raises:
    ValueError: they are not of equally many problems, or as
      `rollout_metrics.curves`.
  """
  if len(before[0]) != len(after[0]):
    raise ValueError(
      f"The policies have answers to {len(before[0])} and {len(after[0])}"
      " problems; compare them on the same ones."
    )
  base_curves, trained_curves = (
    rollout_metrics.curves(*policy, ks, binary=binary)
    for policy in (before, after)
  )
  rows: dict[str, dict[str, Number]] = {}
  for name, old in base_curves.items():
    new = trained_curves[name]
    gain = rollout_metrics.over_problems(
      new.by_problem - old.by_problem,
      ks,
      new.lower - old.upper,
      new.upper - old.lower,
    )
    for i, k in enumerate(ks):
      rows[f"{name}@{k}"] = {
        who: Number(*(float(x[i]) for x in curve[1:-1]))
        for who, curve in (("base", old), ("trained", new), ("gain", gain))
      }
  return rows


def key(seed: int) -> chex.PRNGKey:
  """The root key of evaluations, apart from that of training at any seed."""
  return jax.random.fold_in(jax.random.key(seed), 1)
