"""Arms: named changes to a config, for runs and for studies alike.

An arm is a dict from the name of a value ("k_opt", "loss.entropy_coef") to what
it becomes. After the name of a config's file, --config=FILE:ARM chooses one.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

Arm = Mapping[str, Any]


def of_the_paper(boundary: int) -> dict[str, Arm]:
  """The arms that the paper compares, at n = 16.

  Args:
    boundary: the step at which the annealed arm goes from k = 8 to 1.
  """
  return {
    "k1": {"k_opt": (1,)},
    "k2": {"k_opt": (2,)},
    "k4": {"k_opt": (4,)},
    "k8": {"k_opt": (8,)},
    # A hard step, Fig 3.
    "annealed": {"k_opt": (8, 1), "k_boundaries": (boundary,)},
    # k = n: Tang et al., arXiv:2503.19595.
    "tzsm25": {"k_opt": (16,)},
    # One of those of `entropy_bonuses`.
    "entropyreg": {"k_opt": (1,), "loss.entropy_coef": 0.001},
  }


# The paper tried .001, .005, .01, .05, .1 and reports the best, unnamed; in
# which unit it does not say. These are a thirtieth of them: where a tenth of
# the answers is right, trainers that divide by the standard deviation of 0/1
# rewards, .3, and average over the tokens of an answer, about 10 here, mean by
# .001 what .00003 nats per completion are. docs/training.md has the units.
ENTROPY_COEFS = (0.00003, 0.00015, 0.0003, 0.0015, 0.003)


def entropy_bonuses() -> dict[str, Arm]:
  """EntropyReg of the paper, k = 1 with a bonus, at each coefficient."""
  return {
    f"entropy{coef:g}": {"k_opt": (1,), "loss.entropy_coef": coef}
    for coef in ENTROPY_COEFS
  }


def of_a_study(boundary: int) -> dict[str, Arm]:
  """Arms of the paper, with each of `entropy_bonuses` for "entropyreg"."""
  found = of_the_paper(boundary)
  del found["entropyreg"]
  return found | entropy_bonuses()


def apply(
  config: ml_collections.ConfigDict, arms: Mapping[str, Arm], name: str
) -> ml_collections.ConfigDict:
  """Changes a config as an arm says; "" changes nothing.

  Raises:
    ValueError: there is no arm of that name.
  """
  if not name:
    return config
  if name not in arms:
    raise ValueError(
      f"Unknown arm {name!r} of the config; known: {', '.join(arms)}."
    )
  config.update_from_flattened_dict(arms[name])
  return config
