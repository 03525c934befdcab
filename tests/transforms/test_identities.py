"""How transforms are related, in exact arithmetic on their definitions.

That the code equals these definitions is tested beside each transform; what is
related here is what docs/transforms.md says.
"""

from fractions import Fraction

import numpy as np
import pytest
from helpers import exact, transformed

CASES = [
  (group, n)
  for n in range(2, 7)
  for group in (*exact.groups(n), *exact.binary_groups(min(n, 4)))
  if len(group) == n
]


def less_mean(weights):
  mean = sum(weights, Fraction(0)) / len(weights)
  return [w - mean for w in weights]


def blend(n, *terms):
  """The sum of factor * weights over the terms."""
  return [sum((f * w[i] for f, w in terms), Fraction(0)) for i in range(n)]


def best(group):
  return Fraction(max(group))


def test_scloo_is_what_the_estimate_loses_without_a_sample():
  for group, n in CASES:
    others = [group[:i] + group[i + 1 :] for i in range(n)]
    for k in range(1, n):
      whole = exact.max_at_k(group, k)
      expected = [whole - exact.max_at_k(rest, k) for rest in others]
      assert exact.scloo(group, k) == expected


def test_what_centring_makes_of_s():
  for group, n in CASES:
    for k in range(1, n):
      expected = blend(n, (1 - Fraction(k, n), exact.scloo(group, k)))
      assert less_mean(exact.s(group, k)) == expected
    assert not any(less_mean(exact.s(group, n)))


def test_what_centring_makes_of_sloo():
  for group, n in CASES:
    for k in range(1, n):
      factor = 1 + Fraction(k, n * (n - 1))
      expected = blend(n, (factor, exact.scloo(group, k)))
      assert less_mean(exact.sloo(group, k)) == expected


def test_what_centring_makes_of_sloo_minus_one():
  for group, n in CASES:
    assert sum(exact.sloo_minus_one(group, 1)) == 0
    for k in range(2, n + 1):
      share = Fraction(k, n)
      terms = [(share, exact.scloo(group, k - 1))]
      if k < n:
        terms.append((1 - share, exact.scloo(group, k)))
      assert less_mean(exact.sloo_minus_one(group, k)) == blend(n, *terms)


def test_what_centring_leaves_as_it_is():
  for group, n in CASES:
    for reference in (exact.rloo, exact.dr_grpo, exact.tailrl):
      assert sum(reference(group)) == 0
    for k in range(1, n):
      assert sum(exact.scloo(group, k)) == 0
      assert sum(exact.order_statistics(group, (0.5,) * (k - 1) + (2.0,))) == 0
    assert abs(sum(exact.passk_training(group, 1 + n // 2))) < 1e-12


def test_what_centring_makes_of_maxrl():
  for group, n in CASES:
    tail = exact.maxrl(group)
    assert sum(tail) == best(group)
    harmonic = [(Fraction(1, k), exact.scloo(group, k)) for k in range(1, n)]
    assert less_mean(tail) == blend(n, *harmonic) == exact.tailrl(group)


def test_maxrl_is_a_tail():
  """Sorted, the weights climb by the gap over how many are above it."""
  for group, n in CASES:
    in_order = sorted(Fraction(g) for g in group)
    total, previous, expected = Fraction(0), Fraction(0), {}
    for j, g in enumerate(in_order):
      total += (g - previous) / (n - j)
      previous, expected[g] = g, total
    assert exact.maxrl(group) == [expected[Fraction(g)] for g in group]


def test_a_mixture_of_1_over_k_is_the_tail_less_the_mean_of_the_others():
  for group, n in CASES:
    by_k = tuple(Fraction(1, k) for k in range(1, n + 1))
    mixture = exact.k_mixture(group, by_k)
    total = sum((Fraction(g) for g in group), Fraction(0))
    expected = [
      tail - (total - Fraction(g)) / (n - 1) / n
      for tail, g in zip(exact.maxrl(group), group)
    ]
    assert mixture == expected


@pytest.mark.parametrize("n", [2, 3])
def test_the_tail_is_cut_at_n_minus_one_by_centring(n):
  """The gradient of the sum of max@k / k: to n, and centred to n - 1."""
  for rewards in transformed.ACTION_REWARDS:
    by_k = [transformed.gradient(rewards, k) / k for k in range(1, n + 1)]
    groups = np.array(rewards)[transformed.sampled_actions(n)].tolist()
    for reference, last in ((exact.maxrl, n), (exact.tailrl, n - 1)):
      weights = [exact.floats(reference(tuple(group))) for group in groups]
      mean = transformed.expected_estimate(np.array(weights), n)
      np.testing.assert_allclose(mean, np.sum(by_k[:last], axis=0), atol=1e-14)


@pytest.mark.parametrize(("k", "n"), [(2, 3), (3, 3), (3, 4)])
def test_the_objective_of_centred_sloo_minus_one(k, n):
  """What trainers make of it that subtract the mean of a group."""
  for rewards in transformed.ACTION_REWARDS:
    groups = np.array(rewards)[transformed.sampled_actions(n)].tolist()
    weights = [less_mean(exact.sloo_minus_one(tuple(g), k)) for g in groups]
    mean = transformed.expected_estimate(np.array(exact.floats(weights)), n)
    at_k, below = (transformed.gradient(rewards, i) for i in (k, k - 1))
    expected = (1 - k / n) * at_k + k / n * below
    np.testing.assert_allclose(mean, expected, atol=1e-14)
    assert np.max(np.abs(mean - at_k)) > 1e-3
