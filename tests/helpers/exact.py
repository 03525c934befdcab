"""Exact references, from the definitions: subsets enumerated, in fractions.

Nothing here sorts, uses ranks or knows a closed form, so that it shares no
mistake with the code under test.
"""

import functools
import itertools
import math
from fractions import Fraction

# The transforms; each has a reference of its name below. These are unbiased for
# the gradient of max@k; their last valid k is n less this. BINARY are known for
# 0/1 rewards.
PKPO = {"s": 0, "sloo": 1, "sloo_minus_one": 0, "scloo": 1}
WITHOUT_K = ("rloo", "grpo", "dr_grpo", "tailrl")
BINARY = ("maxrl", "passk_training")
NAMES = (*PKPO, *WITHOUT_K, *BINARY)
# These need a second sample for their baseline.
BASELINED = ("sloo", "sloo_minus_one", "scloo", *WITHOUT_K)
TAKES_K = (*PKPO, "passk_training")

# Dyadic rewards, exact in every float type: distinct, tied, equal, spread.
GROUPS = (
  (0.25, -1.5, 3.0, 0.5, -0.75, 2.0, 1.25),
  (0.5, 2.0, 0.5, -1.0, 2.0, 0.5, -1.0),
  (1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5),
  (0.0, 0.0, 96.0, 0.0, 0.0, -0.125, 64.0),
)


def groups(n):
  """Groups of n rewards that hold ties, negatives and outliers."""
  return sorted({group[:n] for group in GROUPS})


def binary_groups(n):
  """Every group of n rewards 0 or 1."""
  return list(itertools.product((0.0, 1.0), repeat=n))


def masks(n):
  """Every mask of n samples."""
  return list(itertools.product((False, True), repeat=n))


def _fractions(function):
  @functools.cache
  def cached(rewards, *args):
    return function(tuple(Fraction(g) for g in rewards), *args)

  return functools.wraps(function)(
    lambda rewards, *args: cached(tuple(rewards), *args)
  )


def _mean(values):
  return sum(values, Fraction(0)) / len(values)


def _without(rewards, i):
  return rewards[:i] + rewards[i + 1 :]


def pass_at_k(n, c, k):
  """Share of the k-subsets of n samples, the first c right, with a hit."""
  subsets = list(itertools.combinations(range(n), k))
  return Fraction(sum(min(subset) < c for subset in subsets), len(subsets))


@_fractions
def max_at_k(rewards, k):
  """Mean over the k-subsets of the best reward."""
  return _mean([max(best) for best in itertools.combinations(rewards, k)])


@_fractions
def jackknife_variance(rewards, k):
  """(n-1)/n times the sum of squares of the leave-one-out estimates."""
  n = len(rewards)
  left_out = [max_at_k(_without(rewards, i), k) for i in range(n)]
  squares = [(value - _mean(left_out)) ** 2 for value in left_out]
  return Fraction(n - 1, n) * sum(squares)


@_fractions
def s(rewards, k):
  """1/C(n,k) times the sum of the best over the k-subsets that hold i."""
  n = len(rewards)
  subsets = list(itertools.combinations(range(n), k))
  totals = [Fraction(0)] * n
  for subset in subsets:
    best = max(rewards[j] for j in subset)
    for i in subset:
      totals[i] += best
  return [total / len(subsets) for total in totals]


@_fractions
def sloo(rewards, k):
  """`s` less k/(n-1) max@k of the others."""
  n = len(rewards)
  return [
    value - Fraction(k, n - 1) * max_at_k(_without(rewards, i), k)
    for i, value in enumerate(s(rewards, k))
  ]


@_fractions
def scloo(rewards, k):
  """`s` less k/n max@k of the others."""
  n = len(rewards)
  return [
    value - Fraction(k, n) * max_at_k(_without(rewards, i), k)
    for i, value in enumerate(s(rewards, k))
  ]


@_fractions
def sloo_minus_one(rewards, k):
  """What i adds to the best of the k-subsets that hold it; RLOO/n at k = 1."""
  if k == 1:
    return rloo(rewards, k)
  n = len(rewards)
  subsets = list(itertools.combinations(range(n), k))
  totals = [Fraction(0)] * n
  for subset in subsets:
    for i in subset:
      others = [rewards[j] for j in subset if j != i]
      totals[i] += max(*others, rewards[i]) - max(others)
  return [total / len(subsets) for total in totals]


@_fractions
def rloo(rewards, k=None):
  """(g_i - mean of the others) / n."""
  n = len(rewards)
  return [(g - _mean(_without(rewards, i))) / n for i, g in enumerate(rewards)]


@_fractions
def dr_grpo(rewards, k=None):
  """(g_i - mean) / n."""
  return [(g - _mean(rewards)) / len(rewards) for g in rewards]


@_fractions
def grpo(rewards, k=None):
  """(g_i - mean) / (sample standard deviation + 1e-6) / n."""
  n, mean = len(rewards), _mean(rewards)
  variance = sum((g - mean) ** 2 for g in rewards) / (n - 1)
  return [float(g - mean) / (math.sqrt(variance) + 1e-6) / n for g in rewards]


@_fractions
def maxrl(rewards, k=None):
  """g_i/n and the sum over k = 2..n of `sloo_minus_one` over k.

  For 0/1 rewards that is g_i / c, 0 if none is right.
  """
  n = len(rewards)
  blend = [g / n for g in rewards]
  for k in range(2, n + 1):
    blend = [b + w / k for b, w in zip(blend, sloo_minus_one(rewards, k))]
  c = sum(rewards)
  assert set(rewards) - {0, 1} or blend == [g / max(c, 1) for g in rewards]
  return blend


@_fractions
def tailrl(rewards, k=None):
  """The sum over k = 1..n-1 of `scloo` over k; for 0/1 rewards g_i/c - 1/n."""
  n, c = len(rewards), sum(rewards)
  blend = [Fraction(0)] * n
  for k in range(1, n):
    blend = [b + w / k for b, w in zip(blend, scloo(rewards, k))]
  binary = [g / c - Fraction(1, n) if c else Fraction(0) for g in rewards]
  assert set(rewards) - {0, 1} or blend == binary
  assert blend == [w - _mean(maxrl(rewards)) for w in maxrl(rewards)]
  return blend


@_fractions
def passk_training(rewards, k):
  """((n/k) s_i - rho) / std / n, rho and std of the best over the k-subsets."""
  n, rho = len(rewards), max_at_k(rewards, k)
  best = [max(subset) for subset in itertools.combinations(rewards, k)]
  variance = _mean([(value - rho) ** 2 for value in best])
  if not variance:
    return [0.0] * n
  assert set(rewards) - {0, 1} or variance == rho * (1 - rho)
  return [
    float(value * Fraction(n, k) - rho) / math.sqrt(variance) / n
    for value in s(rewards, k)
  ]


@_fractions
def k_mixture(rewards, k_weights, centred=False):
  """The weighted sum of `sloo_minus_one`, or `scloo`, over k = 1..K."""
  blend = [Fraction(0)] * len(rewards)
  for k, weight in enumerate(k_weights, start=1):
    if weight:
      values = (scloo if centred else sloo_minus_one)(rewards, k)
      blend = [b + Fraction(weight) * v for b, v in zip(blend, values)]
  return blend


def l_statistic(rewards, weights):
  """Mean over the K-subsets of the weighted sum of their sorted rewards."""
  return _mean(
    [
      sum(Fraction(w) * g for w, g in zip(weights, sorted(subset)))
      for subset in itertools.combinations(rewards, len(weights))
    ]
  )


@_fractions
def order_statistics(rewards, weights):
  """What the L-statistic loses without each sample."""
  whole = l_statistic(rewards, weights)
  return [
    whole - l_statistic(_without(rewards, i), weights)
    for i in range(len(rewards))
  ]


def masked(reference, rewards, where, *args):
  """`reference` of the unmasked samples alone; weight 0 for the others."""
  kept = iter(reference([g for g, m in zip(rewards, where) if m], *args))
  return [next(kept) if m else 0 for m in where]


def policy_gradient(probs, rewards, k):
  """Gradient of max@k in the logits of a softmax policy over actions.

  max@k is the sum over the values v of v (F(v)^k - F(v-)^k), with F the
  distribution function of the reward; and dF(v)/dlogit_a = p_a ([g_a <= v] -
  F(v)).
  """

  def power_gradient(included):
    total = sum((p for p, i in zip(probs, included) if i), Fraction(0))
    return [
      k * total ** (k - 1) * p * (i - total) for p, i in zip(probs, included)
    ]

  gradient = [Fraction(0)] * len(probs)
  for v in {Fraction(g) for g in rewards}:
    upto = power_gradient([g <= v for g in rewards])
    below = power_gradient([g < v for g in rewards])
    gradient = [t + v * (u - b) for t, u, b in zip(gradient, upto, below)]
  return gradient


def floats(values):
  """Nested lists of fractions as nested lists of floats."""
  if isinstance(values, list | tuple):
    return [floats(value) for value in values]
  return float(values)
