"""Figure 2: how much each rank counts in the estimate of max@k, n = 8.

The estimate is the sum over ranks i of C(i-1, k-1) / C(n, k) times the i-th
smallest reward (eq 12-14): the mean at k = 1, the maximum at k = n.

Example:
  python -m experiments.paper.fig2_rank_weights --out=figures
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import pkpo_jax
from experiments import plotting

N = 8
KS = (1, 2, 4, 8)


def rank_weights(n: int, k: int) -> np.ndarray:
  """[n] the weight of each rank, worst first.

  The estimate is linear in the sorted rewards: its slopes are the weights.
  """
  in_order = jnp.arange(n, dtype=jnp.float32)
  return np.asarray(jax.grad(pkpo_jax.max_at_k)(in_order, k))


def draw(out: str | pathlib.Path) -> None:
  """Writes fig2_rank_weights.png and .csv to the folder `out`."""
  ranks = np.arange(1, N + 1)
  curves = {k: rank_weights(N, k) for k in KS}
  figure, axes = plotting.subplots()
  for k, weights in curves.items():
    style = plotting.k_style(k) | {"marker": plotting.k_marker(k)}
    axes.plot(ranks, weights, **style)
  axes.set_xlabel(f"rank $i$ of the reward, worst to best of $n={N}$")
  axes.set_ylabel("weight $\\binom{i-1}{k-1} / \\binom{n}{k}$")
  axes.legend()
  rows = (
    {"k": k, "rank": rank, "weight": weight}
    for k, weights in curves.items()
    for rank, weight in zip(ranks, weights)
  )
  plotting.save(figure, rows, out, "fig2_rank_weights")


if __name__ == "__main__":
  draw(**vars(plotting.parser(__doc__).parse_args()))
