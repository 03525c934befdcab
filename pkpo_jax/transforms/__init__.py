"""Rewards [n] of one problem -> one policy-gradient weight per sample [n].

Every function here has the same signature and the same **sum convention**:
`sum_i weights[i] * grad log p(x_i)` estimates the gradient. A loss that
averages over the n samples must multiply by n. Weights are constants to the
gradient: it does not flow through them.

Shared by all:
  rewards: [n], any real dtype, or Python numbers. Integers, bools and halves
    are computed in float32; float64 stays float64. Wide numbers of the host
    keep what sets them apart: a transform that ignores shifts takes off the
    smallest before it rounds. Not inside jax.vmap or jax.jit, where jax itself
    has cast 64 bits to 32 before (unless jax_enable_x64 is set): for a batch of
    wide numbers use `pkpo_jax.adapters.group_advantages`.
  k: the k of pass@k. A Python int (out of range raises ValueError) or a traced
    integer (one compilation serves a whole annealing run). A traced one that is
    out of range for [n] gives NaN for every sample.
  where: [n] bool, False for samples that could not be graded. They get weight
    0, and the others are treated as if these had never been drawn. A group in
    which the transform is undefined for the samples left gets all zeros.

They return [n] float32 (float64 for float64 rewards). An unmasked reward that
is not finite raises ValueError where it is known; a traced one makes all
unmasked weights NaN. ValueError, too, for a group that is not [n] with n >= 1.
Unbatched, as in rlax: use `jax.vmap` for a batch. Equations are those of
arXiv:2505.15201.
"""

from collections.abc import Callable

import jax

from pkpo_jax import _imports as imports
from pkpo_jax.transforms.baselines import (
  dr_grpo,
  grpo,
  maxrl,
  passk_training,
  rloo,
  tailrl,
)
from pkpo_jax.transforms.mixtures import k_mixture, order_statistics
from pkpo_jax.transforms.pkpo import s, scloo, sloo, sloo_minus_one

__all__ = (
  "Transform",
  "dr_grpo",
  "get_transform",
  "grpo",
  "k_mixture",
  "maxrl",
  "order_statistics",
  "passk_training",
  "rloo",
  "s",
  "scloo",
  "sloo",
  "sloo_minus_one",
  "tailrl",
)

Transform = Callable[..., jax.Array]

_TRANSFORMS: dict[str, Transform] = {
  f.__name__: f
  for f in (
    s,
    sloo,
    sloo_minus_one,
    scloo,
    rloo,
    grpo,
    dr_grpo,
    maxrl,
    passk_training,
    tailrl,
  )
}


def get_transform(name: str) -> Transform:
  """The transform of that name: "sloo_minus_one", or your own "module:name".

  A function of your own takes `(rewards, k, *, where)` as those here do.

  Args:
    name: such as "scloo", or "my_package.rewards:transform", with the module in
      the current directory or installed.

  Raises:
    ValueError: unknown name; the message lists the known ones. Or there is no
      such module, or nothing callable of that name in it.

  Example:
    >>> import pkpo_jax
    >>> pkpo_jax.get_transform("sloo_minus_one") is pkpo_jax.sloo_minus_one
    True
  """
  if ":" in name:
    return imports.load(name, "transform")
  if name not in _TRANSFORMS:
    known = ", ".join(sorted(_TRANSFORMS))
    raise ValueError(
      f"Unknown transform {name!r}; known: {known}, or 'module:name'."
    )
  return _TRANSFORMS[name]
