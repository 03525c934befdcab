"""A task whose grades make a run log every metric that there is."""

import itertools

from pkpo_jax.tasks import base, countdown


class Awkward(countdown.Countdown):
  """Countdown with fractions, many reasons, and problems without grades."""

  binary_rewards = False

  def __init__(self, **options):
    super().__init__(**options)
    self._count = itertools.count()
    splits = map(self.problems, ("train", "test"))
    self._ungraded = {p.id for split in splits for p in split[::4]}

  def grade(self, problem, completion):
    i = next(self._count)
    valid = problem.id not in self._ungraded
    return base.Grade(i % 3 / 2, valid, f"kind {i % 20}")
