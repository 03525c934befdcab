"""What is the objective worth? Unbiased pass@k and max@k from n samples.

Equations and theorems are those of arXiv:2505.15201. Functions act on one
problem (`max_at_k`) or broadcast over problems (`pass_at_k`); `jax.vmap` does
the rest. `k` is a Python int, which is checked, or a traced integer, which
serves every k with one compilation.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from pkpo_jax import _order_statistics as ranks


def pass_at_k(
  num_correct: chex.Numeric, num_samples: chex.Numeric, k: chex.Numeric
) -> chex.Array:
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
  """
  if isinstance(num_samples, jax.core.Tracer):
    raise ValueError(
      "pass_at_k: num_samples must be concrete, but it is traced; for a varying"
      " number of graded samples use max_at_k(rewards, k, where=valid)."
    )
  if not jnp.issubdtype(jnp.asarray(k).dtype, jnp.integer):
    raise ValueError(
      f"pass_at_k: k must be integer, but is {jnp.asarray(k).dtype};"
      f" n={num_samples}, valid k: 1..n."
    )
  max_samples = int(np.max(num_samples))
  if _is_concrete(k) and np.ndim(num_samples) == 0:
    ranks.check_k("pass_at_k", max_samples, k, max_samples)
  if _is_concrete(num_correct):
    c = float(num_correct)
    if not (0 <= c <= max_samples and c.is_integer()):
      raise ValueError(
        f"pass_at_k: num_correct={c:g} is not an integer in 0..{max_samples}."
      )
  n, c, k = (
    jnp.asarray(x, float)[..., None] for x in (num_samples, num_correct, k)
  )
  # C(n-c, k) / C(n, k) = product over the c largest j <= n of (1 - k/j).
  j = jnp.arange(1, max_samples + 1)
  factor = jnp.log1p(-jnp.minimum(k / j, 1))
  log_miss = jnp.sum(jnp.where((j > n - c) & (j <= n), factor, 0), axis=-1)
  defined = (1 <= k) & (k <= n) & (0 <= c) & (c <= n) & (c == jnp.floor(c))
  return jnp.where(defined[..., 0], jnp.abs(jnp.expm1(log_miss)), jnp.nan)


def max_at_k(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
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
    exist: a traced k out of range, fewer than k unmasked rewards, or an
    unmasked reward that is not finite.

  Raises:
    ValueError: `rewards` is not [n] with n >= 1, `where` has another shape, or
      a Python int k is out of range.
  """
  group = ranks.sort_group("max_at_k", rewards, where)
  k = ranks.as_k("max_at_k", group, k, last=group.sorted.size)
  weights = ranks.rank_weights(group, group.n, k)
  unmasked = group.ranks <= group.n
  value = jnp.sum(jnp.where(unmasked, weights * group.sorted, 0))
  defined = (1 <= k) & (k <= group.n) & group.finite
  return jnp.where(defined, value, jnp.nan)


def pass_at_k_standard_error(
  num_correct: chex.Numeric, num_samples: chex.Numeric, k: chex.Numeric
) -> chex.Array:
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
    ValueError: a concrete scalar is out of its range, or n is traced.
  """
  estimate = pass_at_k(num_correct, num_samples, k)
  if _is_concrete(k) and np.ndim(num_samples) == 0:
    name, n = "pass_at_k_standard_error", int(num_samples)
    ranks.check_k(name, n, k, n - 1)
  c, n = jnp.asarray(num_correct), np.asarray(num_samples)
  without_right = pass_at_k(jnp.maximum(c - 1, 0), n - 1, k)
  without_wrong = pass_at_k(jnp.minimum(c, n - 1), n - 1, k)
  squares = c * (without_right - estimate) ** 2
  squares += (n - c) * (without_wrong - estimate) ** 2
  return jnp.sqrt((n - 1) / n * squares)


def max_at_k_standard_error(
  rewards: chex.Array, k: chex.Numeric, *, where: chex.Array | None = None
) -> chex.Array:
  """Standard error of one problem's `max_at_k`, by the jackknife.

  From the n estimates that each leave one sample out. Its square is on average
  at least the true variance (Efron and Stein 1981), and equal to it for k = 1
  and for large n.

  Args:
    rewards: [n], any real dtype.
    k: the budget, 1 <= k <= n - 1. May be traced.
    where: [n] bool, False for samples to leave out.

  Returns:
    A scalar, float32 (float64 for float64 rewards); NaN where `max_at_k` of
    n - 1 samples does not exist.

  Raises:
    ValueError: as `max_at_k`, with k = n out of range too.
  """
  name = "max_at_k_standard_error"
  group = ranks.sort_group(name, rewards, where)
  k = ranks.as_k(name, group, k, last=group.sorted.size - 1)
  left_out = ranks.leave_one_out(group, k)
  valid = group.ranks <= group.n
  mean = jnp.sum(jnp.where(valid, left_out, 0)) / group.n
  squares = jnp.sum(jnp.where(valid, left_out - mean, 0) ** 2)
  error = jnp.sqrt((group.n - 1) / group.n * squares)
  defined = (1 <= k) & (k < group.n) & group.finite
  return jnp.where(defined, error, jnp.nan)


def _is_concrete(x: chex.Numeric) -> bool:
  """Whether x is a scalar whose value is known now."""
  return not isinstance(x, jax.core.Tracer) and np.ndim(x) == 0
