"""Fixtures of the step: see helpers/rollouts.py."""

import jax
import numpy as np
import pytest
from helpers import plain
from helpers.rollouts import (
  KEY,
  LENGTHS,
  PROMPTS,
  TEMPERATURE,
  VALID,
  T,
  n,
  plain_values,
)

from pkpo_jax.lm import sampler
from pkpo_jax.rl import rollout


@pytest.fixture(scope="module")
def completions():
  model, params = plain.tiny()
  drawn = jax.device_get(
    sampler.sample(
      model,
      params,
      PROMPTS,
      LENGTHS,
      KEY,
      n=n,
      max_new_tokens=T,
      temperature=TEMPERATURE,
      stop_tokens=(1, 2),
    )
  )
  lengths = drawn.mask.sum(axis=-1)
  assert lengths.min() < T, "some completions should end early"
  return drawn


@pytest.fixture(scope="module")
def make_rollout(completions):
  def make(rewards, valid=VALID["all"], truncated=~VALID["all"]):
    # What could not be graded may hold anything.
    rewards = np.where(valid, np.array(rewards, np.float32), np.nan)
    rewards = rewards.astype(np.float32)
    return rollout.Rollout(
      PROMPTS, LENGTHS, completions, rewards, valid, truncated
    )

  return make


@pytest.fixture(scope="module")
def sample_gradients(completions):
  """Two trees with leaves [B, n, ...]: of log p(sample), of its entropies."""

  @jax.jit
  @jax.jacrev
  def jacobian(params):
    return [value.sum(axis=-1) for value in plain_values(params, completions)]

  return jax.device_get(jacobian(plain.tiny()[1]))
