"""Figure 1a: the reward and the exact max@k of the toy policy.

The larger k, the closer to the cliff at theta = 1 is the best policy: with
many draws it pays to risk some that fall over it.

Example:
  python -m experiments.paper.fig1a_objective --out=figures
"""

import pathlib

import numpy as np

from experiments import plotting
from experiments.paper import toy_problem


def draw(out: str | pathlib.Path) -> None:
  """Writes fig1a_objective.png and .csv to the folder `out`."""
  theta = np.linspace(-0.2, 1.4, 801)
  curves = {k: toy_problem.max_at_k(theta, k) for k in toy_problem.KS}
  best = np.array([toy_problem.best_theta(k) for k in toy_problem.KS])
  peaks = [toy_problem.max_at_k(t, k) for t, k in zip(best, toy_problem.KS)]
  reward = {"color": "0.6", "linewidth": 1, "label": "$g(\\theta)$"}

  figure, axes = plotting.subplots()
  axes.plot(theta, toy_problem.reward(theta), **reward)
  for k, curve in curves.items():
    axes.plot(theta, curve, **plotting.k_style(k))
  axes.plot(best, peaks, "ko", label="best $\\theta$")
  axes.set_xlabel("mean of the policy $\\theta$")
  axes.set_ylabel("max@$k$")
  axes.legend(loc="upper left")
  rows = (
    {"k": k, "theta": t, "max_at_k": value}
    for k, curve in curves.items()
    for t, value in zip(theta, curve)
  )
  plotting.save(figure, rows, out, "fig1a_objective")


if __name__ == "__main__":
  draw(**vars(plotting.parser(__doc__).parse_args()))
