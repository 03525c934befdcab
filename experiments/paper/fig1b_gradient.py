"""Figure 1b: the exact derivative of max@k in the mean of the toy policy.

The larger k, the closer to the cliff at theta = 1 it vanishes, and the later
and the harder it pushes back from beyond it.

Example:
  python -m experiments.paper.fig1b_gradient --out=figures
"""

import pathlib

import numpy as np

from experiments import plotting
from experiments.paper import toy_problem


def draw(out: str | pathlib.Path) -> None:
  """Writes fig1b_gradient.png and .csv to the folder `out`."""
  theta = np.linspace(-0.2, 1.4, 801)
  curves = {
    k: toy_problem.max_at_k_gradient(theta, k) for k in toy_problem.KS[1:]
  }
  figure, axes = plotting.subplots()
  axes.axhline(0, color="0.6", linewidth=1)
  for k, curve in curves.items():
    axes.plot(theta, curve, **plotting.k_style(k))
  axes.set_xlabel("mean of the policy $\\theta$")
  axes.set_ylabel("d max@$k$ / d$\\theta$")
  axes.legend(loc="lower left")
  rows = (
    {"k": k, "theta": t, "gradient": value}
    for k, curve in curves.items()
    for t, value in zip(theta, curve)
  )
  plotting.save(figure, rows, out, "fig1b_gradient")


if __name__ == "__main__":
  draw(**vars(plotting.parser(__doc__).parse_args()))
