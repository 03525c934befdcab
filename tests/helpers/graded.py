"""Rewards of problems with known success counts, and rollouts with them."""

import math

import numpy as np

from pkpo_jax.lm import sampler
from pkpo_jax.rl import rollout, rollout_metrics
from pkpo_jax.tasks import base


def pass_at_k(n, c, k):
  return 1 - math.comb(n - c, k) / math.comb(n, k)


def group(n, c):
  """c right answers of n, the last ones."""
  return np.arange(n) >= n - c


def make_rollout(rewards, valid, lengths, T=4):
  """A rollout whose entropies are 100 outside of the mask."""
  rewards, valid = np.array(rewards, np.float32), np.array(valid, bool)
  B, n = rewards.shape
  mask = np.arange(T) < np.array(lengths)[..., None]
  entropy = np.where(mask, np.arange(B * n).reshape(B, n, 1), 100.0)
  completions = sampler.Completions(
    np.zeros((B, n, T), np.int32), np.zeros((B, n, T)), entropy, mask
  )
  prompts = np.zeros((B, 2), np.int32)
  return rollout.Rollout(
    prompts, np.full(B, 2), completions, rewards, valid, mask[..., -1]
  )


def make_answers(rewards, valid, reasons=None):
  """Answers of one token each, to problems without tiers."""
  valid = np.array(valid, bool)
  rollout = make_rollout(rewards, valid, np.ones(valid.shape))
  problems = [base.Problem(str(i), "", "", None) for i in range(len(valid))]
  reasons = np.full(valid.shape, "graded") if reasons is None else reasons
  return rollout_metrics.answers(rollout, problems, reasons)
