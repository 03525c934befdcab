"""All figures of the toy experiments: 1a, 1b, 2, 4 and 5."""

from experiments import plotting
from experiments.paper import (
  fig1a_objective,
  fig1b_gradient,
  fig2_rank_weights,
  fig4_variance,
  fig5_effective_rewards,
)

if __name__ == "__main__":
  out = plotting.parser(__doc__).parse_args().out
  for figure in (
    fig1a_objective,
    fig1b_gradient,
    fig2_rank_weights,
    fig4_variance,
    fig5_effective_rewards,
  ):
    figure.draw(out)
