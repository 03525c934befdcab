"""Runs without a model: given rewards, and updates that count steps alone."""

import numpy as np
from helpers import plain, tiny_config

from pkpo_jax.rl import rollout
from pkpo_jax.training import build_run, initial_policy, run

N, B = 3, 4  # fewer problems than a step takes: some come twice


def few_problems():
  """A config of two steps with N problems, B a step."""
  config = tiny_config.get_config()
  config.update(num_steps=2, prompts_per_step=B)
  config.task.num_train = N
  return config


def solve_first(monkeypatch):
  """`patch` where the first problem of a step is solved, and no other."""

  def rewards(problems, n):
    return np.arange(len(problems) * n).reshape(-1, n) == n - 1

  return patch(monkeypatch, rewards)


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

  def base_policy(config, parts, *_):
    return plain.random_params(parts.model)

  monkeypatch.setattr(rollout.RolloutWorker, "__call__", roll)
  monkeypatch.setattr(build_run, "compile_train_step", lambda *_: update)
  monkeypatch.setattr(initial_policy, "base_params", base_policy)
  monkeypatch.setattr(run.Run, "evaluate", lambda *_: None)
  return steps
