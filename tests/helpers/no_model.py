"""Runs without a model: given rewards, and updates that count steps alone."""

import numpy as np
from helpers import plain

from pkpo_jax.rl import rollout
from pkpo_jax.training import build_run, initial_policy, loop


def patch(monkeypatch, rewards_of):
  """Makes runs cheap: nothing is sampled, updated or evaluated.

  Args:
    monkeypatch: the fixture.
    rewards_of: (problems, n) -> [B, n], what is said of the answers of a step.

  Returns:
    A list that grows by (problems, rewards, k) of each step.
  """
  steps = []

  def roll(self, params, problems, keys, *, n):
    rewards = np.asarray(rewards_of(problems, n), np.float32)
    mask = np.ones((*rewards.shape, 1), bool)
    completions = rollout.sampler.Completions(
      mask * 3, mask * 0, mask * 1, mask
    )
    valid = np.ones_like(rewards, bool)
    reasons = np.full(rewards.shape, "graded")
    some = rollout.Rollout(None, None, completions, rewards, valid, ~valid)
    steps.append((problems, rewards))
    return some, reasons, {}

  def update(state, some, k, *_):
    steps[-1] += (k,)
    return state.replace(step=state.step + 1), {"loss": 0.0}

  def base_policy(config, parts, folder):
    return plain.random_params(parts.model)

  monkeypatch.setattr(rollout.RolloutWorker, "__call__", roll)
  monkeypatch.setattr(build_run, "compile_train_step", lambda *_: update)
  monkeypatch.setattr(initial_policy, "base_params", base_policy)
  monkeypatch.setattr(loop.Run, "evaluate", lambda *_: None)
  return steps
