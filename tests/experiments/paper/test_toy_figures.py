"""The toy figures: exact curves, unbiased estimates, files that appear."""

import csv
import fractions
import functools
import importlib
import math
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from experiments.paper import (
  fig2_rank_weights,
  fig4_variance,
  fig5_effective_rewards,
  toy_problem,
)

N = fig5_effective_rewards.N
KS = (1, 2, 4, 8, 16)
THETAS = (-0.1, 0.3, 0.86, 1.0, 1.15, 1.3)
TRUE_GRADIENT = -1.777170


def best_of_k_moment(theta, k, power=1):
  """E[best reward ** power] from the density of the best x: another integral.

  The best of k draws is at x in [0, 1] with density k p(x) F(x)^(k-1), where
  F(x) is the probability that a draw is no better.
  """
  policy = stats.norm(theta, toy_problem.SD)

  def integrand(x):
    no_better = 1 - (policy.cdf(1) - policy.cdf(x))
    return x ** (2 * power) * k * policy.pdf(x) * no_better ** (k - 1)

  near = [x for x in (theta - 0.1, theta, theta + 0.1) if 0 < x < 1]
  options = {"points": near, "epsabs": 1e-12, "epsrel": 1e-11, "limit": 200}
  return integrate.quad(integrand, 0, 1, **options)[0]


@pytest.mark.slow
@pytest.mark.parametrize("k", KS)
def test_max_at_k_equals_another_quadrature(k):
  expected = [best_of_k_moment(theta, k) for theta in THETAS]
  np.testing.assert_allclose(
    toy_problem.max_at_k(np.array(THETAS), k), expected, rtol=1e-9, atol=1e-12
  )


@pytest.mark.slow
@pytest.mark.parametrize("k", KS)
def test_gradient_equals_differences_of_another_quadrature(k):
  """Central differences of step 1e-4; their error is below 1e-5."""
  differences = [
    (best_of_k_moment(t + 1e-4, k) - best_of_k_moment(t - 1e-4, k)) / 2e-4
    for t in THETAS
  ]
  gradient = toy_problem.max_at_k_gradient(np.array(THETAS), k)
  np.testing.assert_allclose(gradient, differences, atol=2e-5)


def test_max_at_k_equals_monte_carlo():
  """A million draws of the best of 4, within 5 standard errors."""
  rng = np.random.default_rng(0)
  x = 1 + toy_problem.SD * rng.normal(size=(1_000_000, 4))
  best = np.where((0 <= x) & (x <= 1), x**2, 0).max(axis=1)
  error = abs(best.mean() - toy_problem.max_at_k(1.0, 4))
  assert error < 5 * best.std() / 1000


def test_reward():
  x = np.array([-0.5, 0, 0.5, 1, 1.001])
  np.testing.assert_allclose(toy_problem.reward(x), [0, 0, 0.25, 1, 0])


def test_true_gradient_at_the_cliff():
  assert toy_problem.max_at_k_gradient(1.0, 4) == pytest.approx(TRUE_GRADIENT)


def test_best_theta_grows_with_k():
  best = [toy_problem.best_theta(k) for k in KS]
  assert best[0] == pytest.approx(0.8624, abs=5e-5)
  assert best == sorted(best) and best[-1] < 1
  for theta, k in zip(best, KS):
    assert toy_problem.max_at_k_gradient(theta, k) == pytest.approx(0, abs=1e-9)
    assert toy_problem.max_at_k_gradient(theta - 0.01, k) > 0


def test_gradient_has_the_range_of_the_papers_figure():
  theta = np.linspace(-0.2, 1.4, 801)
  curves = np.stack([toy_problem.max_at_k_gradient(theta, k) for k in KS[1:]])
  assert -7.5 < curves.min() < -7 and 1.5 < curves.max() < 2


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_rank_weights_are_ratios_of_binomials(k):
  expected = [
    float(fractions.Fraction(math.comb(i - 1, k - 1), math.comb(8, k)))
    for i in range(1, 9)
  ]
  np.testing.assert_allclose(
    fig2_rank_weights.rank_weights(8, k), expected, rtol=1e-6
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ("method", "expected"),
  [
    (fig4_variance.partitioned_s, [1.5, 1.5, 2, 2]),
    (fig4_variance.partitioned_sloo, [-0.5, -0.5, 0.5, 0.5]),
    (fig4_variance.partitioned_sloo_minus_one, [0, 1, 1.5, 0]),
  ],
)
def test_partitioned_weights_by_hand(method, expected):
  """Groups (1, 3) and (4, 1), averaged over the two and not summed."""
  rewards = np.array([1.0, 3.0, 4.0, 1.0])
  np.testing.assert_allclose(method(rewards, 2), expected)


@functools.cache
def variances():
  """n -> method -> row of Fig 4: 50,000 estimates each."""
  table = {}
  for row in fig4_variance.measure((8, 32), num_estimates=50_000, seed=1):
    table.setdefault(row["n"], {})[row["method"]] = row
  return table


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 32])
@pytest.mark.parametrize("method", [f.__name__ for f in fig4_variance.METHODS])
def test_gradient_estimates_are_unbiased(n, method):
  """Within 4 standard errors; these are 0.1% to 3% of the gradient."""
  row = variances()[n][method]
  assert row["mean_se"] < 0.03 * abs(TRUE_GRADIENT)
  assert abs(row["mean"] - TRUE_GRADIENT) < 4 * row["mean_se"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 32])
def test_sloo_minus_one_has_the_least_variance(n):
  rows = variances()[n]
  least = rows["sloo_minus_one"]
  for method, row in rows.items():
    if method != "sloo_minus_one":
      error = math.hypot(least["variance_se"], row["variance_se"])
      assert row["variance"] - least["variance"] > 10 * error
  assert rows["s"]["variance"] > 10 * least["variance"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 32])
@pytest.mark.parametrize("name", ["s", "sloo", "sloo_minus_one"])
def test_all_subsets_beat_a_partition(n, name):
  rows = variances()[n]
  assert rows[name]["variance"] < rows[f"partitioned_{name}"]["variance"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 32])
def test_variance_of_partitioned_s_is_exact(n):
  """k/n times that of one group, within 5 standard errors.

  One group's estimate is G S with G its best reward and S its summed score.
  As d^2/dtheta^2 E[G^2] = E[G^2 (S^2 - k/sd^2)], quadrature gives E[(G S)^2].
  """
  k, h = fig4_variance.K, 1e-3
  below, at, above = (best_of_k_moment(1 + t, k, 2) for t in (-h, 0, h))
  second_moment = (below - 2 * at + above) / h**2 + k / toy_problem.SD**2 * at
  exact = k / n * (second_moment - TRUE_GRADIENT**2)
  row = variances()[n]["partitioned_s"]
  assert row["variance_se"] < 0.02 * exact
  assert abs(row["variance"] - exact) < 5 * row["variance_se"]


@pytest.mark.parametrize(
  ("draws", "kurtosis"), [("normal", 3), ("exponential", 9)]
)
def test_standard_error_of_the_variance(draws, kurtosis):
  """v sqrt((kurtosis - 1) / m) for large m, to 3%."""
  sample = getattr(jax.random, draws)(jax.random.key(0), (400_000,))
  expected = math.sqrt((kurtosis - 1) / 400_000)
  row = fig4_variance.summarise(sample)
  assert row["variance_se"] == pytest.approx(expected, rel=0.03)
  assert row["mean_se"] == pytest.approx(1 / math.sqrt(400_000), rel=0.03)


def expected_weight(transform, k, g, n):
  """E[weight | reward g] for rewards uniform on [-1/2, 1/2].

  With u = g + 1/2, the best of u and k-1 others is 1 - (1 - u^k)/k - 1/2 in
  the mean, and the best of k others k/(k+1) - 1/2.
  """
  u = g + 0.5
  plain = k / n * (0.5 - (1 - u**k) / k)
  if transform == "sloo":
    return plain - k / (n - 1) * (k / (k + 1) - 0.5)
  if transform == "sloo_minus_one":
    return g / n if k == 1 else u**k / n
  return plain


@functools.cache
def effective_rewards():
  """(transform, k) -> [BINS, 2], raw and effective: 16,000 groups."""
  table = {}
  for row in fig5_effective_rewards.measure(num_groups=16_000, seed=1):
    point = (row["raw"], row["effective"])
    table.setdefault((row["transform"], row["k"]), []).append(point)
  return {key: np.array(points) for key, points in table.items()}


@pytest.mark.slow
@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("transform", ["s", "sloo", "sloo_minus_one"])
def test_effective_rewards_are_exact(transform, k):
  """Within 0.005 k/n: over 5 standard errors, as measured over 12 seeds.

  The mean over a bin is by Simpson's rule.
  """
  raw, effective = effective_rewards()[transform, k].T
  half = 0.5 / fig5_effective_rewards.BINS
  left, middle, right = (
    expected_weight(transform, k, raw + shift, N) for shift in (-half, 0, half)
  )
  expected = (left + 4 * middle + right) / 6
  np.testing.assert_allclose(effective, expected, atol=0.005 * k / N)


@pytest.mark.slow
@pytest.mark.parametrize("k", KS[1:])
def test_baselined_rewards_are_nearly_centred(k):
  mean = {
    name: effective_rewards()[name, k][:, 1].mean()
    for name in ("s", "sloo", "sloo_minus_one")
  }
  assert abs(mean["sloo"]) < 0.05 * abs(mean["s"])
  assert 0 < mean["sloo_minus_one"] < 1 / (N * k)
  assert mean["s"] > effective_rewards()["s", k // 2][:, 1].mean()


OPTIONS = {
  "fig1a_objective": [],
  "fig1b_gradient": [],
  "fig2_rank_weights": [],
  "fig4_variance": ["--sizes", "8", "16", "--num_estimates=20", "--seed=3"],
  "fig5_effective_rewards": ["--num_groups=20", "--seed=3"],
}
NUM_ROWS = {
  "fig1a_objective": 5 * 801,
  "fig1b_gradient": 4 * 801,
  "fig2_rank_weights": 4 * 8,
  "fig4_variance": 2 * 6,
  "fig5_effective_rewards": 3 * 5 * fig5_effective_rewards.BINS,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_command_writes_picture_and_numbers(name, tmp_path, monkeypatch):
  command = [name, "--out", str(tmp_path / "new"), *OPTIONS[name]]
  monkeypatch.setattr(sys, "argv", command)
  path = importlib.import_module(f"experiments.paper.{name}").__file__
  runpy.run_path(path, run_name="__main__")
  picture = (tmp_path / "new" / f"{name}.png").read_bytes()
  assert picture.startswith(b"\x89PNG")
  with (tmp_path / "new" / f"{name}.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == NUM_ROWS[name]
  assert all(value for row in rows for value in row.values())


@pytest.mark.parametrize("n", ["4", "10", "0"])
def test_fig4_refuses_sizes_without_two_groups(n, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["fig4", "--sizes", n])
  with pytest.raises(SystemExit):
    fig4_variance.main()
  assert f"{n} samples do not make two" in capsys.readouterr().err


@pytest.mark.slow
def test_command_logs_the_paths(tmp_path):
  command = [
    sys.executable,
    "-m",
    "experiments.paper.fig2_rank_weights",
    "--out",
    tmp_path,
  ]
  result = subprocess.run(command, capture_output=True, text=True, check=True)
  assert f"Wrote {tmp_path}/fig2_rank_weights.png" in result.stderr
  assert f"Wrote {tmp_path}/fig2_rank_weights.csv" in result.stderr
