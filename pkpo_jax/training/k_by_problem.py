"""A k for each problem, from how often it was right in earlier steps.

`pkpo_jax.k_from_solve_rate` has the rule. Here is what a run keeps for it: the
counts of every training problem, which the checkpoint holds. The k of a step is
read before its answers are counted, so that the gradient stays unbiased.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np

from pkpo_jax import solve_rates


class Counts(NamedTuple):
  """What earlier steps have counted, older ones with less weight.

  Attributes:
    right: [N] float32, answers with a reward of at least 1 to each training
      problem.
    graded: [N] float32, its answers that were graded, weighted alike.
    visits: [N] int32, the steps that these counts are from, all with weight 1.
  """

  right: np.ndarray
  graded: np.ndarray
  visits: np.ndarray


def no_counts(num_problems: int) -> Counts:
  """The counts before the first step."""
  zeros = np.zeros(num_problems, np.float32)
  return Counts(zeros, zeros.copy(), zeros.astype(np.int32))


def ks(counts: Counts, rows: np.ndarray, *, k_max: int) -> np.ndarray:
  """[B] int32, the k of the problems `rows` [B], at most `k_max`."""
  return np.asarray(_of_pool(counts.right, counts.graded, k_max=k_max))[rows]


_of_pool = functools.partial(jax.jit, static_argnames="k_max")(
  solve_rates.k_from_solve_rate
)


def count(
  counts: Counts,
  rows: np.ndarray,
  rewards: np.ndarray,
  valid: np.ndarray,
  *,
  forgetting: float,
) -> Counts:
  """Adds the answers of a step to the counts.

  Args:
    counts: before the step; left as they are.
    rows: [B] the problems of the step; one may be there twice, and both of its
      groups count.
    rewards: [B, n]; 1 and more are right, as in pass@k.
    valid: [B, n] bool, which of them count. A group without any leaves its
      problem as it was.
    forgetting: the fraction of its earlier counts that a problem of this step
      loses.
  """
  some = np.any(valid, axis=1)
  rows, valid = np.asarray(rows)[some], valid[some]
  right = (rewards[some] >= 1) & valid
  seen = np.unique(rows)
  new = Counts(*(x.copy() for x in counts))
  for total, answers in ((new.right, right), (new.graded, valid)):
    total[seen] *= np.float32(1 - forgetting)
    np.add.at(total, rows, np.sum(answers, axis=1, dtype=np.float32))
  new.visits[seen] += 1
  return new


def measure(
  counts: Counts, rows: np.ndarray, k: np.ndarray
) -> dict[str, float]:
  """How much the k [B] of the problems `rows` differ, and what is behind it."""
  return {
    "k_std": float(np.std(k)),
    "k_visits": float(np.mean(counts.visits[rows])),
  }
