"""Figure 5: what the transforms make of rewards uniform on [-1/2, 1/2].

The mean effective reward (the weight of a sample) against its raw reward, in
groups of n = 32. The weights of `s` are offset, the more the larger k is; the
baselined ones are nearly centred, and leave the signal to the best samples.

Example:
  python -m experiments.paper.fig5_effective_rewards --num_groups=1000
"""

import functools
import pathlib
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

import pkpo_jax
from experiments import plotting

N = 32
KS = (1, 2, 4, 8, 16)
BINS = 20
TRANSFORMS = (pkpo_jax.s, pkpo_jax.sloo, pkpo_jax.sloo_minus_one)


@functools.partial(jax.jit, static_argnames=("transform", "num_groups"))
def binned_weights(
  transform: Callable[..., chex.Array],
  k: chex.Numeric,
  key: chex.PRNGKey,
  num_groups: int,
) -> chex.Array:
  """[BINS] the mean weight of the samples in each bin of raw reward."""
  raw = jax.random.uniform(key, (num_groups, N), minval=-0.5, maxval=0.5)
  weights = jax.vmap(lambda group: transform(group, k))(raw)
  edges = jnp.linspace(-0.5, 0.5, BINS + 1)
  count, _ = jnp.histogram(raw, edges)
  total, _ = jnp.histogram(raw, edges, weights=weights)
  return total / count


def measure(num_groups: int, seed: int) -> list[dict[str, float | str]]:
  """One row for each transform, k and bin."""
  key = jax.random.key(seed)
  centres = (np.arange(BINS) + 0.5) / BINS - 0.5
  return [
    {"transform": f.__name__, "k": k, "raw": raw, "effective": effective}
    for f in TRANSFORMS
    for k in KS
    for raw, effective in zip(
      centres, np.asarray(binned_weights(f, k, key, num_groups))
    )
  ]


def draw(
  out: str | pathlib.Path, *, num_groups: int = 10_000, seed: int = 0
) -> None:
  """Writes fig5_effective_rewards.png and .csv to the folder `out`."""
  rows = measure(num_groups, seed)
  figure, panels = plotting.subplots(3, width=8.0, height=3.2)
  panels[2].sharey(panels[1])
  for transform, axes in zip(TRANSFORMS, panels):
    of_panel = [row for row in rows if row["transform"] == transform.__name__]
    for k in KS:
      curve = [
        (row["raw"], row["effective"]) for row in of_panel if row["k"] == k
      ]
      style = plotting.k_style(k) | {"marker": plotting.k_marker(k)}
      axes.plot(*zip(*curve), markersize=3, **style)
    axes.axhline(0, color="0.4", linewidth=0.8, zorder=0)
    axes.set_title(transform.__name__)
    axes.set_xlabel("raw reward $g_i$")
  panels[0].set_ylabel("effective reward $w_i$")
  panels[2].legend()
  plotting.save(figure, rows, out, "fig5_effective_rewards")


def main() -> None:
  """The command."""
  parser = plotting.parser(__doc__)
  parser.add_argument(
    "--num_groups",
    type=int,
    default=10_000,
    help=f"groups of n = {N} rewards to average over (default: 10000)",
  )
  parser.add_argument("--seed", type=int, default=0, help="default: 0")
  draw(**vars(parser.parse_args()))


if __name__ == "__main__":
  main()
