"""Held-out problems -> rewards of a policy, and two policies compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import chex
import jax
import numpy as np

from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import rollout_metrics
from pkpo_jax.tasks import base


def evaluate(
  rollout_worker: rollout_lib.RolloutWorker,
  params: chex.ArrayTree,
  problems: Sequence[base.Problem],
  key: chex.PRNGKey,
  *,
  n: int,
  batch_size: int,
  progress: Callable[..., Iterable[int]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
  """Samples n answers to every problem, a batch of problems at a time.

  The key of a problem depends on its place in `problems` alone, so that
  batches of any size give the same samples.

  Returns:
    rewards and valid, each [N, n].
  """

  def started() -> Iterator[Callable[[], Any]]:
    for start in progress(range(0, len(problems), batch_size)):
      # The last batch is filled up with problems again, to compile only once.
      rows = np.arange(start, start + batch_size) % len(problems)
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
      yield rollout_worker.start(params, [problems[i] for i in rows], keys, n=n)

  graded = []
  batches = started()
  finish = next(batches, None)
  while finish:
    # The next batch is sampled while this one is graded.
    following = next(batches, None)
    rollout, _ = finish()
    graded.append((rollout.rewards, rollout.valid))
    finish = following
  rewards, valid = map(np.concatenate, zip(*graded))
  return rewards[: len(problems)], valid[: len(problems)]


def compare(
  before: tuple[chex.Array, chex.Array],
  after: tuple[chex.Array, chex.Array],
  ks: Sequence[int],
) -> list[dict[str, Any]]:
  """Two policies on the same problems.

  Args:
    before: rewards and valid, [N, n], of one policy.
    after: of the other.
    ks: at which to compare them.

  Returns:
    For each k a row of k and (mean, standard error) of "base", "trained" and
    of the "gain" by problem, whose error is that of paired differences.
  """
  estimates = {
    "base": rollout_metrics.by_problem(*before, ks),
    "trained": rollout_metrics.by_problem(*after, ks),
  }
  estimates["gain"] = estimates["trained"] - estimates["base"]
  curves = {
    name: rollout_metrics.over_problems(x, ks) for name, x in estimates.items()
  }
  return [
    {"k": k}
    | {
      name: (float(curve.mean[i]), float(curve.standard_error[i]))
      for name, curve in curves.items()
    }
    for i, k in enumerate(ks)
  ]


def key(seed: int) -> chex.PRNGKey:
  """The root key of evaluations, apart from that of training at any seed."""
  return jax.random.fold_in(jax.random.key(seed), 1)


def powers_of_two(n: int) -> tuple[int, ...]:
  """1, 2, 4, ... up to n: the ks at which held-out curves are drawn."""
  return tuple(2**i for i in range(n.bit_length()))
