"""A k for each problem, from how often it was solved in earlier steps.

A schedule anneals k by the step of the run; this anneals it by the progress of
each problem. Nobody has published it: rule and defaults are ours.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_NAME = "k_from_solve_rate"
_STEPS = 30
# A pool that is all alike, or of one sample each, has no finite best prior. So
# its size a + b is exponentially distributed itself, with this mean: then it
# counts as some tens of samples if nothing tells, and 100 are hardly moved.
_SIZE = 1000.0
# Beside the pool one more problem counts, one of its two samples right: the fit
# exists for every pool, and a pool of any size outvotes it.
_RIGHT, _SAMPLES = 1.0, 2.0


def k_from_solve_rate(
  num_correct: ArrayLike,
  num_samples: ArrayLike,
  *,
  k_max: int,
  target: float = 1 - 1 / math.e,
) -> jax.Array:
  """The k of each problem: the smallest that is likely to find an answer.

  A problem's solve rate p is taken to have a Beta prior, which is fitted to the
  whole pool, so that problems that were visited once, or never, borrow from the
  others; its counts make that a posterior Beta(a, b). k is the smallest with

    E[1 - (1-p)^k] = 1 - product over j < k of (b + j) / (a + b + j) >= target,

  the expected pass@k under the posterior, not pass@k at its mean. So k is 1
  where a problem is mastered, and grows as 1/p where it is not, up to k_max. It
  is k_max where a problem was visited and never solved, and everywhere before
  anything was.

  The gradient of max@k stays unbiased as long as k is fixed by *earlier* steps:
  then it is that of the mean over problems of max@k_b at the current
  parameters. Never count the group itself; if a problem stands twice in a
  batch, both take the counts from before the step, and later epochs over a
  rollout keep its k.

  Args:
    num_correct: [P], right samples of each problem of the pool; fractions where
      older steps count less. May be traced.
    num_samples: [P], graded samples of each, weighted alike; 0 for a problem
      that was not visited yet. May be traced.
    k_max: the largest k, >= 1; n // 2 suits groups of n samples.
    target: what expected pass@k has to reach, between 0 and 1. The default is
      pass@k at k = -1/log(1-p), about 1/p: the k whose pass@k gains most when
      the logit of p is raised a little.

  Returns:
    [P] int32, 1 <= k <= k_max. NaN does not exist for integers: where a traced
    count is out of range, 0, which every transform answers with NaN.

  Raises:
    ValueError: counts are not of the same shape [P] with P >= 1, or not
      0 <= num_correct <= num_samples and finite where they are known; k_max is
      not an integer >= 1; target is not between 0 and 1.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import k_from_solve_rate
    >>> k_from_solve_rate(np.array([0, 2, 4, 15]), np.full(4, 16), k_max=8)
    Array([8, 8, 4, 1], dtype=int32)
  """
  right, graded = _check_counts(num_correct, num_samples)
  whole = isinstance(k_max, numbers.Integral) and not isinstance(k_max, bool)
  if not whole or k_max < 1:
    raise ValueError(f"{_NAME}: k_max={k_max!r} must be an integer >= 1.")
  if not 0 < target < 1:
    raise ValueError(f"{_NAME}: target={target} must be between 0 and 1.")
  valid = jnp.isfinite(graded) & (0 <= right) & (right <= graded)
  right, graded = (jnp.where(valid, x, 0) for x in (right, graded))
  a, b = fit_prior(right, graded)
  hits = expected_pass_at_k(a + right, b + graded - right, int(k_max))
  k = 1 + jnp.sum(hits[:, :-1] < target, axis=1, dtype=jnp.int32)
  unsolved = (right == 0) & ((graded > 0) | jnp.all(right == 0))
  return jnp.where(valid, jnp.where(unsolved, k_max, k), 0)


def fit_prior(
  num_correct: jax.Array, num_samples: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """(a, b) of the Beta prior under which the counts [P] are most likely.

  The likelihood is that of the Beta-binomial distribution, which fractional
  counts have as well, with a mild preference for a smaller a + b. Unvisited
  problems, with counts of 0, change nothing. Newton's method in the logit of
  the mean and the logarithm of a + b.
  """
  right, wrong = num_correct, num_samples - num_correct
  mean = (jnp.sum(right) + _RIGHT) / (jnp.sum(num_samples) + _SAMPLES)

  def prior(point: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = jnp.exp(point[1])
    return size * jax.nn.sigmoid(point[0]), size * jax.nn.sigmoid(-point[0])

  def slopes(point: jax.Array) -> jax.Array:
    """[2] gradient of the log-likelihood."""
    a, b = prior(point)
    in_a = jnp.sum(_rise(a, right)) + _rise(a, _RIGHT)
    in_b = jnp.sum(_rise(b, wrong)) + _rise(b, _SAMPLES - _RIGHT)
    in_both = jnp.sum(_rise(a + b, num_samples)) + _rise(a + b, _SAMPLES)
    of_size = a * (in_a - in_both) + b * (in_b - in_both) - (a + b) / _SIZE
    return jnp.stack([a * b / (a + b) * (in_a - in_b), of_size])

  def improve(_: Any, point: jax.Array) -> jax.Array:
    slope, bend = slopes(point), jax.jacfwd(slopes)(point)
    (xx, xy), (_, yy) = bend
    # Where the likelihood is not concave: uphill on a curve that is.
    radius = jnp.hypot((xx - yy) / 2, xy)
    damp = jnp.maximum(0, xx + yy + 2 * radius) + 1e-6 * radius
    xx, yy = xx - damp, yy - damp
    step = jnp.stack(
      [xy * slope[1] - yy * slope[0], xy * slope[0] - xx * slope[1]]
    )
    return point + jnp.clip(step / (xx * yy - xy * xy), -1, 1)

  # Made of the counts, so that a shard's are fitted by themselves.
  start = jnp.stack([jnp.log(mean) - jnp.log1p(-mean), 0 * mean])
  return prior(jax.lax.fori_loop(0, _STEPS, improve, start))


def _rise(x: jax.Array, count: ArrayLike) -> jax.Array:
  """How much the digamma function rises from x > 0 to x + count, count >= 0.

  By Stirling's series, six places up the recurrence, with differences taken
  term by term: two calls of `jax.lax.digamma` would take ten times as long on a
  CPU, and cancel.
  """
  low, high = x + 6, x + 6 + count
  tails = [(0.5 + _tail(y) / y) / y for y in (low, high)]
  places = sum(count / ((x + i) * (x + i + count)) for i in range(6))
  return jnp.log1p(count / low) + tails[0] - tails[1] + places


def _tail(y: jax.Array) -> jax.Array:
  z = 1 / (y * y)
  return 1 / 12 - z * (1 / 120 - z * (1 / 252 - z / 240))


def expected_pass_at_k(a: jax.Array, b: jax.Array, k_max: int) -> jax.Array:
  """[P, k_max] expected pass@k, k = 1..k_max, of solve rates Beta(a, b) [P]."""
  j = jnp.arange(k_max, dtype=b.dtype)[None, :]
  a, b = a[:, None], b[:, None]
  return 1 - jnp.cumprod((b + j) / (a + b + j), axis=1)


def _check_counts(
  num_correct: ArrayLike, num_samples: ArrayLike
) -> tuple[jax.Array, jax.Array]:
  """Both as floats [P]."""
  counts = [
    x if isinstance(x, jax.Array) else np.asarray(x)
    for x in (num_correct, num_samples)
  ]
  shapes = [x.shape for x in counts]
  if shapes[0] != shapes[1] or len(shapes[0]) != 1 or 0 in shapes[0]:
    raise ValueError(
      f"{_NAME}: num_correct and num_samples must be [P] with P >= 1, but have"
      f" shapes {shapes[0]} and {shapes[1]}."
    )
  if not any(isinstance(x, jax.core.Tracer) for x in counts):
    c, n = (np.asarray(x) for x in counts)
    for i in np.flatnonzero(~((0 <= c) & (c <= n) & np.isfinite(n)))[:1]:
      raise ValueError(
        f"{_NAME}: num_correct[{i}]={c[i]} of num_samples[{i}]={n[i]}; needs"
        " 0 <= num_correct <= num_samples < infinity."
      )
  right, graded = (jnp.asarray(x, float) for x in counts)
  return right, graded
