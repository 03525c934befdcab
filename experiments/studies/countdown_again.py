"""The main arms on Countdown once more: another base, other problems.

At the rates that study countdown has chosen, so that nothing is tuned here.

Cost: eighteen runs of about one minute on one core.
Command, after study countdown:

  python -m experiments.studies.run --study=countdown_again --processes=2
"""

from experiments.studies import countdown

STUDY = countdown.STUDY.once_more(("k1", "k8", "annealed"))
