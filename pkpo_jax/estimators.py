"""What is the objective worth? Unbiased pass@k and max@k from n samples.

Equations and theorems are those of arXiv:2505.15201. Functions act on one
problem (`max_at_k`) or broadcast over problems (`pass_at_k`); `jax.vmap` does
the rest. `k` is a Python int, which is checked, or a traced integer, which
serves every k with one compilation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pkpo_jax import _order_statistics as ranks
from pkpo_jax import _rewards


def pass_at_k(
  num_correct: ArrayLike, num_samples: ArrayLike, k: ArrayLike
) -> jax.Array:
  """Unbiased estimate of pass@k from c correct answers among n (eq 3, Thm 1).

  `1 - C(n-c, k) / C(n, k)`, the probability that a random subset of k of the
  n samples holds a correct one. Evaluated in the log domain: no factorial
  overflows, and small values keep their relative precision.

  Args:
    num_correct: c, how many samples are right, 0 <= c <= n. May be traced.
    num_samples: n, how many samples there are. Concrete, not traced.
    k: the budget, 1 <= k <= n. May be traced.

  Returns:
    The estimate in [0, 1], of the three arguments' broadcast shape. NaN where
    a traced or array argument is out of range: the estimate does not exist.

  Raises:
    ValueError: a concrete scalar is out of its range, k is not of an integer
      dtype, or n is traced.

  Example:
    >>> from pkpo_jax import pass_at_k
    >>> print(f"{pass_at_k(num_correct=2, num_samples=4, k=2):.3f}")
    0.833
  """
  counts = _check_counts("pass_at_k", num_correct, num_samples, k, spare=0)
  log_miss, misses = _log_miss(counts)
  hits = jnp.where(misses, jnp.abs(jnp.expm1(log_miss)), 1)
  return jnp.where(counts.defined, hits, jnp.nan)


def max_at_k(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """Unbiased estimate of the expected best of k rewards (eq 12-14, Thm 3).

  The mean of `max(rewards[I])` over all k-subsets I of the samples; equal to
  `pass_at_k` on 0/1 rewards.

  Args:
    rewards: [n], any real dtype; integers and halves are computed in float32.
    k: the budget, 1 <= k <= n. May be traced.
    where: [n] bool, False for samples that could not be graded. They are left
      out, as if they had never been drawn.

  Returns:
    A scalar, float32 (float64 for float64 rewards). NaN where it does not
    exist: a traced k out of range, fewer than k unmasked rewards, or a traced
    unmasked reward that is not finite.

  Raises:
    ValueError: `rewards` is not [n] with n >= 1, `where` has another shape, a
      Python int k is out of range, or an unmasked reward that is known is not
      finite.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import max_at_k
    >>> print(f"{max_at_k(np.array([0.0, 1.0, 0.5, 0.0]), k=2):.3f}")
    0.667
  """
  group = ranks.sort_group("max_at_k", rewards, where)
  k, in_range = ranks.as_budget("max_at_k", group, k, last=group.sorted.size)
  weights = ranks.rank_weights(group, group.n, k)
  unmasked = group.ranks <= group.n
  value = jnp.sum(jnp.where(unmasked, weights * group.sorted, 0))
  defined = in_range & (k <= group.n) & group.finite
  return jnp.where(defined, value * group.unit, jnp.nan)


def pass_at_k_standard_error(
  num_correct: ArrayLike, num_samples: ArrayLike, k: ArrayLike
) -> jax.Array:
  """Standard error of one problem's `pass_at_k`, by the jackknife.

  `max_at_k_standard_error` on 0/1 rewards, in closed form; at k = 1 exactly
  `sqrt(p(1-p)/(n-1))` with p = c/n.

  Args:
    num_correct: c, how many samples are right, 0 <= c <= n. May be traced.
    num_samples: n, how many samples there are. Concrete, not traced.
    k: the budget, 1 <= k <= n - 1 (at k = n one subset is left, and nothing
      tells how much it varies). May be traced.

  Returns:
    The standard error, of the arguments' broadcast shape; NaN where a traced
    or array argument is out of range.

  Raises:
    ValueError: a concrete scalar is out of its range, k is not of an integer
      dtype, or n is traced.

  Example:
    >>> from pkpo_jax import pass_at_k_standard_error
    >>> print(f"{pass_at_k_standard_error(2, num_samples=4, k=2):.3f}")
    0.289
  """
  name = "pass_at_k_standard_error"
  counts = _check_counts(name, num_correct, num_samples, k, spare=1)
  log_miss, misses = _log_miss(counts)
  # A right sample left out lowers the estimate by miss * k / (n-k), a wrong one
  # raises it by c / (n-c) times that.
  c, n, k = counts.num_correct, counts.num_samples, counts.k
  spread = jnp.sqrt((n - 1) * c / jnp.maximum(n - c, 1))
  error = jnp.exp(log_miss) * k / jnp.maximum(n - k, 1) * spread
  return jnp.where(counts.defined, jnp.where(misses, error, 0), jnp.nan)


def max_at_k_standard_error(
  rewards: ArrayLike, k: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
  """Standard error of one problem's `max_at_k`, by the jackknife.

  `sqrt((n-1)/n * sum over i of (m_i - mean of m)^2)`, with m_i the `max_at_k`
  of the samples without i. Its square is on average
  at least the true variance (Efron and Stein 1981), and equal to it for k = 1
  and for large n.

  Args:
    rewards: [n], any real dtype.
    k: the budget, 1 <= k <= n - 1. May be traced.
    where: [n] bool, False for samples that could not be graded. They are left
      out, as if they had never been drawn.

  Returns:
    A scalar, float32 (float64 for float64 rewards); NaN where `max_at_k` of
    n - 1 samples does not exist.

  Raises:
    ValueError: `rewards` is not [n], real and finite, `where` is not [n] bool,
      or k is not an integer or out of range.

  Example:
    >>> import numpy as np
    >>> from pkpo_jax import max_at_k_standard_error
    >>> print(f"{max_at_k_standard_error(np.array([0, 1, 1, 0]), k=2):.3f}")
    0.289
  """
  name = "max_at_k_standard_error"
  group = ranks.sort_group(name, rewards, where, shift_free=True)
  k, in_range = ranks.as_budget(name, group, k, last=group.sorted.size - 1)
  weights = ranks.rank_weights(group, group.n - 1, k)
  left_out = ranks.above_without_best(group, weights)
  valid = group.ranks <= group.n
  n = jnp.maximum(group.n, 1)
  mean = jnp.sum(jnp.where(valid, left_out, 0)) / n
  squares = jnp.sum(jnp.where(valid, left_out - mean, 0) ** 2)
  error = jnp.sqrt(jnp.maximum(n - 1, 0) / n * squares) * group.unit
  defined = in_range & (k < group.n) & group.finite
  return jnp.where(defined, error, jnp.nan)


class _Counts(NamedTuple):
  """Arguments of `pass_at_k` as floats, broadcast to one shape.

  Attributes:
    num_correct: c, 0 where undefined.
    num_samples: n, 1 where undefined.
    k: 1 where undefined.
    defined: whether 0 <= c <= n are whole and 1 <= k <= n less what is spared.
    most: the largest n.
  """

  num_correct: jax.Array
  num_samples: jax.Array
  k: jax.Array
  defined: jax.Array
  most: int


def _check_counts(
  name: str,
  num_correct: ArrayLike,
  num_samples: ArrayLike,
  k: ArrayLike,
  *,
  spare: int,
) -> _Counts:
  """Checks what is concrete; k goes up to n - spare."""
  if isinstance(num_samples, jax.core.Tracer):
    raise ValueError(
      f"{name}: num_samples must be concrete, but it is traced; for a varying"
      " number of graded samples use max_at_k(rewards, k, where=valid)."
    )
  for what, given in (
    ("num_correct", num_correct),
    ("num_samples", num_samples),
  ):
    if not _is_real(_dtype(given)):
      raise ValueError(f"{name}: {what}={given!r} must be real numbers.")
  graded = np.asarray(num_samples, np.float64)
  if graded.ndim == 0 and not (graded >= 0 and float(graded).is_integer()):
    raise ValueError(f"{name}: num_samples={graded:g} is not an integer >= 0.")
  most = int(np.max(graded, initial=0, where=np.isfinite(graded)))
  if np.ndim(k) == 0 and np.ndim(num_samples) == 0:
    _rewards.check_k(name, most, k, most - spare)
  elif not jnp.issubdtype(_dtype(k), jnp.integer):
    raise ValueError(
      f"{name}: k must be integer, but is {_dtype(k)}; n={num_samples}, valid"
      " k: 1..n."
    )
  if _is_concrete(num_correct):
    c = float(num_correct)
    if not (0 <= c <= most and c.is_integer()):
      raise ValueError(
        f"{name}: num_correct={c:g} is not an integer in 0..{most}."
      )
  numbers = [jnp.asarray(x, float) for x in (num_correct, num_samples, k)]
  shape = np.broadcast_shapes(*(x.shape for x in numbers))
  c, n, k = (jnp.broadcast_to(x, shape) for x in numbers)
  defined = (1 <= k) & (k <= n - spare)
  defined &= (0 <= c) & (c <= n) & (c == jnp.floor(c))
  defined &= jnp.isfinite(n) & (n == jnp.floor(n))
  c, n, k = (
    jnp.where(defined, x, other) for x, other in ((c, 0), (n, 1), (k, 1))
  )
  return _Counts(c, n, k, defined, most)


def _log_miss(counts: _Counts) -> tuple[jax.Array, jax.Array]:
  """(`log C(n-c, k) / C(n, k)`, whether that is above 0, else the log is 0)."""
  n, c, k = (
    x[..., None] for x in (counts.num_samples, counts.num_correct, counts.k)
  )
  # C(n-c, k) / C(n, k) = product over the c largest j <= n of (1 - k/j).
  shape = (1,) * (n.ndim - 1) + (counts.most,)
  j = jnp.arange(1, counts.most + 1, dtype=n.dtype).reshape(shape)
  factor = jnp.log1p(-k / jnp.maximum(j, k + 1))
  misses = k <= n - c
  log_miss = jnp.sum(
    jnp.where(misses & (j > n - c) & (j <= n), factor, 0), axis=-1
  )
  return log_miss, misses[..., 0]


def _dtype(x: Any) -> np.dtype:
  """The dtype that x has, or would have in numpy."""
  return x.dtype if isinstance(x, jax.Array) else np.asarray(x).dtype


def _is_real(dtype: np.dtype) -> bool:
  kinds = (jnp.bool_, jnp.integer, jnp.floating)
  return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def _is_concrete(x: ArrayLike) -> bool:
  """Whether x is a scalar whose value is known now."""
  return not isinstance(x, jax.core.Tracer) and np.ndim(x) == 0
