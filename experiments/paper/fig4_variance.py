"""Figure 4: the variance of six unbiased estimates of the gradient, k = 4.

Three transforms use all k-subsets of the n samples. Their three "partitioned"
relatives split the samples into n/k disjoint groups of k and average over
these. The policy stands at the cliff, theta = 1. A point is the variance of
many estimates; all six methods see the same samples.

Example:
  python -m experiments.paper.fig4_variance --sizes 8 32
"""

import argparse
import functools
import pathlib
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

import pkpo_jax
from experiments import plotting
from experiments.paper import toy_problem

THETA = 1.0
K = 4
SIZES = (8, 16, 32, 64, 128, 256)


def partitioned_s(rewards: chex.Array, k: int) -> chex.Array:
  """Every sample gets the best reward of its group of k."""
  best = jnp.max(rewards.reshape(-1, k), axis=1)
  return jnp.repeat(best / best.size, k)


def partitioned_sloo(rewards: chex.Array, k: int) -> chex.Array:
  """The same, less the mean of the other groups' best. n >= 2k."""
  best = jnp.max(rewards.reshape(-1, k), axis=1)
  return jnp.repeat(pkpo_jax.rloo(best), k)


def partitioned_sloo_minus_one(rewards: chex.Array, k: int) -> chex.Array:
  """Best less second best to the best of each group (arXiv:2503.19595)."""
  groups = rewards.reshape(-1, k)
  weights = jax.vmap(lambda group: pkpo_jax.sloo_minus_one(group, k))(groups)
  return jnp.ravel(weights) / len(groups)


METHODS = (
  pkpo_jax.s,
  pkpo_jax.sloo,
  pkpo_jax.sloo_minus_one,
  partitioned_s,
  partitioned_sloo,
  partitioned_sloo_minus_one,
)
_COLORS = {"s": "#D55E00", "sloo": "#0072B2", "sloo_minus_one": "#000000"}
_MARKERS = {"s": "o", "sloo": "s", "sloo_minus_one": "^"}


@functools.partial(jax.jit, static_argnames=("n", "num_estimates"))
def gradient_estimates(
  key: chex.PRNGKey, n: int, num_estimates: int
) -> dict[str, chex.Array]:
  """Method -> [num_estimates] estimates of d max@k / d theta.

  Each is `sum over i of w_i * d/dtheta log p(x_i)` for n fresh samples, with
  `d/dtheta log p(x) = (x - theta) / sd^2 = noise / sd`.
  """
  noise = jax.random.normal(key, (num_estimates, n))
  rewards = toy_problem.reward(THETA + toy_problem.SD * noise)

  def estimate(method):
    weights = jax.vmap(lambda group: method(group, K))(rewards)
    return jnp.sum(weights * noise / toy_problem.SD, axis=1)

  return {method.__name__: estimate(method) for method in METHODS}


def summarise(estimates: chex.Array) -> dict[str, float]:
  """Mean and variance of m estimates, each with its standard error.

  That of the variance v is sqrt((m4 - v^2 (m-3)/(m-1)) / m), with m4 the
  fourth central moment: it holds without the estimates being normal.
  """
  estimates = np.asarray(estimates, np.float64)
  m, variance = estimates.size, estimates.var(ddof=1)
  fourth = np.mean((estimates - estimates.mean()) ** 4)
  return {
    "mean": estimates.mean(),
    "mean_se": np.sqrt(variance / m),
    "variance": variance,
    "variance_se": np.sqrt((fourth - variance**2 * (m - 3) / (m - 1)) / m),
  }


def measure(
  sizes: Sequence[int], num_estimates: int, seed: int
) -> list[dict[str, float | int | str]]:
  """One row for each n and method: n, method and what `summarise` gives."""
  key = jax.random.key(seed)
  return [
    {"n": n, "method": name} | summarise(estimates)
    for n in sizes
    for name, estimates in gradient_estimates(
      jax.random.fold_in(key, n), n, num_estimates
    ).items()
  ]


def draw(
  out: str | pathlib.Path,
  *,
  sizes: Sequence[int] = SIZES,
  num_estimates: int = 10_000,
  seed: int = 0,
) -> None:
  """Writes fig4_variance.png and .csv to the folder `out`."""
  rows = measure(sizes, num_estimates, seed)
  figure, axes = plotting.subplots(height=4.0)
  for method in METHODS:
    name = method.__name__
    of_method = [row for row in rows if row["method"] == name]
    variances = [row["variance"] for row in of_method]
    errors = [2 * row["variance_se"] for row in of_method]
    axes.errorbar(sizes, variances, errors, **_style(name))
  axes.set_xscale("log", base=2)
  axes.xaxis.set_major_formatter("{x:.0f}")
  axes.set_yscale("log")
  axes.set_xlabel("number of samples $n$")
  axes.set_ylabel("variance of the gradient estimate")
  figure.legend(loc="outside upper center", ncols=2)
  plotting.save(figure, rows, out, "fig4_variance")


def _style(name: str) -> dict:
  """Colour by baseline; broken lines and open markers for the partitioned."""
  baseline = name.removeprefix("partitioned_")
  partitioned = name != baseline
  return {
    "color": _COLORS[baseline],
    "marker": _MARKERS[baseline],
    "linestyle": "--" if partitioned else "-",
    "markerfacecolor": "white" if partitioned else _COLORS[baseline],
    "capsize": 2,
    "label": f"{baseline}, partitioned" if partitioned else baseline,
  }


def _size(text: str) -> int:
  n = int(text)
  if n % K or n < 2 * K:
    raise argparse.ArgumentTypeError(
      f"{n} samples do not make two or more groups of {K}"
    )
  return n


def main() -> None:
  """The command."""
  parser = plotting.parser(__doc__)
  parser.add_argument(
    "--sizes",
    type=_size,
    nargs="+",
    default=SIZES,
    metavar="n",
    help=f"numbers of samples (default: {' '.join(map(str, SIZES))})",
  )
  parser.add_argument(
    "--num_estimates",
    type=int,
    default=10_000,
    help="gradient estimates for each point (default, as the paper: 10000)",
  )
  parser.add_argument("--seed", type=int, default=0, help="default: 0")
  draw(**vars(parser.parse_args()))


if __name__ == "__main__":
  main()
