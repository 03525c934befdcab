"""The main arms on mazes once more: another base, other problems.

At the rates that study mazes has chosen, so that nothing is tuned here.

Cost: eighteen runs of about three minutes on one core.
Command, after study mazes:

  python -m experiments.studies.run --study=mazes_again --processes=2
"""

from experiments.studies import mazes

STUDY = mazes.STUDY.once_more(("k1", "k8", "annealed"))
