"""All figures of the toy experiments: 1a, 1b, 2, 4 and 5."""

from experiments import plotting
from experiments.toy import fig1a, fig1b, fig2, fig4, fig5

if __name__ == "__main__":
  out = plotting.parser(__doc__).parse_args().out
  for figure in (fig1a, fig1b, fig2, fig4, fig5):
    figure.draw(out)
