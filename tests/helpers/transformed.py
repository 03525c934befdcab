"""Groups of rewards, and what every transform makes of them at once."""

import functools
import itertools
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
from helpers import bits, exact

import pkpo_jax

# float32 rank weights at n = 16384 are within 3e-6.
RANK_WEIGHT_ERROR = 3e-6

properties = hypothesis.settings(
  deadline=None, derandomize=True, max_examples=60
)

SHIFT = 10.0
# A policy over three actions, and what these are rewarded with.
PROBS = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 6))
ACTION_REWARDS = ((0.0, 1.0, 3.0), (1.0, 1.0, -2.0), (0.0, 0.0, 1.0))

quarters = st.integers(-64, 64).map(lambda x: x / 4)


def rewards_of_length(n):
  return st.lists(quarters, min_size=n, max_size=n)


def valid_ks(name, n):
  if name in exact.BASELINED and n < 2:
    return range(0)
  return range(1, n + 1 - exact.PKPO.get(name, 0))


def groups_for(name, n):
  binary = exact.binary_groups(n) if name in exact.BINARY else []
  return binary + exact.groups(n)


def references(name, rewards, ks):
  reference = getattr(exact, name)
  return exact.floats([reference(g, int(k)) for g, k in zip(rewards, ks)])


_jitted = {name: jax.jit(pkpo_jax.get_transform(name)) for name in exact.NAMES}


def jitted(name, rewards, k=1, where=None):
  """The weights of one group, with a traced k."""
  return _jitted[name](np.asarray(rewards), np.int32(k), where=where)


@functools.partial(jax.jit, static_argnames="names")
def by_name(names, rewards, ks, where=None):
  """{name: weights [G, n]} of rewards [G, n] at ks [G], in one compilation."""
  if where is None:
    return {
      name: jax.vmap(getattr(pkpo_jax, name))(rewards, ks) for name in names
    }
  weights = {}
  for name in names:
    masked = functools.partial(_masked, getattr(pkpo_jax, name))
    weights[name] = jax.vmap(masked)(rewards, ks, where)
  return weights


def _masked(function, rewards, k, where):
  return function(rewards, k, where=where)


@functools.cache
def evaluated(n):
  """{name: {(rewards, k): weights [n]}} in float64, for every k."""
  shifted = [tuple(g + SHIFT for g in group) for group in exact.groups(n)]
  groups = exact.groups(n) + exact.binary_groups(n) + shifted
  cases = list(itertools.product(groups, range(1, n + 1)))
  names = tuple(f for f in exact.NAMES if n > 1 or f not in exact.BASELINED)
  with bits.enable_x64(True):
    weights = by_name(names, *map(np.array, zip(*cases)))
  return {f: dict(zip(cases, np.asarray(weights[f]))) for f in names}


def assert_is_its_definition(name, n):
  """At every valid k, in float64, against enumerated subsets."""
  for case in itertools.product(groups_for(name, n), valid_ks(name, n)):
    weights = evaluated(n)[name][case]
    (expected,) = references(name, *zip(case))
    np.testing.assert_allclose(
      weights, expected, rtol=1e-13, atol=1e-13, err_msg=str(case)
    )


@functools.cache
def evaluated_with_masks():
  """(cases, {name: weights [G, n]}) in float32, for every mask and k."""
  cases = list(itertools.product(exact.groups(7), range(1, 7), exact.masks(7)))
  return cases, by_name(exact.NAMES, *map(np.array, zip(*cases)))


def assert_a_mask_drops_samples(name):
  """For every mask and k: as if the masked had never been drawn."""
  cases, weights = evaluated_with_masks()
  reference, ignores_k = getattr(exact, name), name not in exact.TAKES_K
  expected = []
  for group, k, mask in cases:
    valid = valid_ks(name, sum(mask))
    defined = bool(valid) and (ignores_k or k in valid)
    values = (
      exact.masked(reference, group, mask, k) if defined else [0] * len(group)
    )
    expected.append(exact.floats(values))
  scale = np.max(np.abs([group for group, _, _ in cases]), axis=1).clip(1)
  error = np.abs(weights[name] - np.array(expected)) / scale[:, None]
  assert np.max(error) < 1e-6
  masked = ~np.array([mask for _, _, mask in cases])
  assert not np.any(np.asarray(weights[name])[masked])


def sampled_actions(n):
  return np.array(list(itertools.product(range(3), repeat=n)))


def expected_estimate(weights, n):
  """Exact mean of `sum_i w_i grad log p(x_i)` over the 3^n groups."""
  probs, actions = np.array(exact.floats(PROBS)), sampled_actions(n)
  scores = np.eye(3)[actions] - probs
  estimates = np.einsum("gi,gia->ga", weights, scores)
  return np.prod(probs[actions], axis=1) @ estimates


@functools.cache
def weights_of_samples(n, action_rewards):
  """{name: weights [K, 3^n, n]} in float64, for k = 1..n."""
  rewards = np.array(action_rewards)[sampled_actions(n)]
  ks = np.repeat(np.arange(1, n + 1), len(rewards))
  names = (*exact.PKPO, "rloo", "dr_grpo") if n > 1 else ("s",)
  with bits.enable_x64(True):
    weights = by_name(names, np.tile(rewards, (n, 1)), ks)
  return {f: np.asarray(w).reshape(n, -1, n) for f, w in weights.items()}


def gradient(action_rewards, k):
  return np.array(exact.floats(exact.policy_gradient(PROBS, action_rewards, k)))
