"""PKPO in google-tunix: an advantage estimator, and rewards that stay NaN.

Written for google-tunix 0.1.7 and its `GRPOLearner`; docs/other_trainers.md has
what else to mind. Needs tunix beside jax.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from tunix.rl import function_registry, reward_manager

from pkpo_jax import schedules, transforms
from pkpo_jax.adapters import any_trainer


def register(
  k: int | Callable[[int], Any],
  *,
  step: Callable[[], int] | None = None,
  transform: str | transforms.Transform = "sloo_minus_one",
  name: str = "pkpo",
) -> dict[str, Any]:
  """Makes PKPO known to tunix, under a name.

  Args:
    k: the k of pass@k; or a function of the step, such as
      `pkpo_jax.piecewise_k([8, 1], [1500])`.
    step: says which step it is, where k depends on it: `lambda:
      cluster.global_steps`, which a resume restores.
    transform: a name, see `pkpo_jax.get_transform`, or a function
      `(rewards, k, *, where)`.
    name: what tunix is to call it; a second `register` replaces the first.

  Returns:
    What `GRPOConfig` needs for exact gradients, beside `num_generations`: the
    estimator and the reward manager, a sum over the tokens of a completion, and
    no KL term. The default of `loss_agg_mode` would divide each completion by
    its own length.

  Raises:
    ValueError: k depends on the step, and `step` is missing, or the reverse; or
      an unknown transform. In training: a k of the schedule is out of range for
      `num_generations`, or a reward is infinite.

  Example:
    cluster = rl_cluster.RLCluster(...)
    schedule = pkpo_jax.piecewise_k([8, 1], [1500])
    options = register(schedule, step=lambda: cluster.global_steps)
    config = GRPOConfig(num_generations=16, **options)
    GRPOLearner(rl_cluster=cluster, algo_config=config, reward_fns=grade)
  """
  if callable(k) != (step is not None):
    raise ValueError(
      f"register: k={k!r} with step={step!r}; a k that depends on the step"
      " needs step=lambda: cluster.global_steps, and no other takes one."
    )
  if isinstance(transform, str):
    transform = transforms.get_transform(transform)

  @function_registry.register_advantage_estimator(name)
  def advantages(rewards: np.ndarray, num_generations: int) -> np.ndarray:
    """Returns the [B * n] weights of rewards, n of each prompt in a row."""
    if isinstance(k, schedules.Schedule):  # Now, and not after hours.
      any_trainer.check_ks(k.max_k, (1, num_generations), transform)
    return any_trainer.group_advantages(
      rewards,
      num_generations,
      k(step()) if callable(k) and step else k,
      transform=transform,
    )

  function_registry.register_reward_manager(name)(_KeepsUngraded)
  return {
    "advantage_estimator": name,
    "reward_manager": name,
    "loss_agg_mode": "seq-mean-token-sum",
    "beta": 0.0,
  }


class _KeepsUngraded(reward_manager.SequenceRewardManager):
  """Sums the rewards of a completion; NaN if any is, where tunix takes 0.

  NaN says that grading failed: the completion is left out of its group. So
  tunix' logged means of rewards are NaN for a batch with such a completion.
  """

  def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What tunix makes of the rewards, but for those that are NaN."""
    info = super().__call__(*args, **kwargs)
    least, _ = info["log_metrics"]["rewards/min"]  # of its reward functions
    rewards = np.where(np.isnan(least), np.nan, info["rewards"])
    return info | {"rewards": rewards}
