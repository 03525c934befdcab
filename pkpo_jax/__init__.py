"""Pass@k Policy Optimization (PKPO, arXiv:2505.15201) in JAX.

The names here are the estimators: pure functions on the rewards of one
problem, which need jax alone. `pkpo_jax.lm`, `pkpo_jax.tasks` and
`pkpo_jax.rl` train language models with them and need the extra `[train]`.
"""

from pkpo_jax.estimators import (
  max_at_k,
  max_at_k_standard_error,
  pass_at_k,
  pass_at_k_standard_error,
)
from pkpo_jax.schedules import constant_k, linear_k, piecewise_k
from pkpo_jax.solve_rates import k_from_solve_rate
from pkpo_jax.transforms import (
  dr_grpo,
  get_transform,
  grpo,
  k_mixture,
  maxrl,
  order_statistics,
  passk_training,
  rloo,
  s,
  scloo,
  sloo,
  sloo_minus_one,
  tailrl,
)

__version__ = "0.1.0"

__all__ = (
  "constant_k",
  "dr_grpo",
  "get_transform",
  "grpo",
  "k_from_solve_rate",
  "k_mixture",
  "linear_k",
  "max_at_k",
  "max_at_k_standard_error",
  "maxrl",
  "order_statistics",
  "pass_at_k",
  "pass_at_k_standard_error",
  "passk_training",
  "piecewise_k",
  "rloo",
  "s",
  "scloo",
  "sloo",
  "sloo_minus_one",
  "tailrl",
)
