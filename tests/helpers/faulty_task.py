"""A task on whose grader anything can be inflicted, see `moments`."""

import os

from helpers import moments

from pkpo_jax.tasks import countdown


class Faulty(countdown.Countdown):
  """Countdown; one problem fewer where the environment says FEWER_PROBLEMS."""

  binary_rewards = False  # of other sizes, if a moment says so

  def problems(self, split):
    found = super().problems(split)
    return found[:-1] if os.environ.get("FEWER_PROBLEMS") else found

  def grades(self, problems, completions):
    """Those of Countdown, but for the first answer if a moment has a reward."""
    reward = moments.reached("grading")
    grades = super().grades(problems, completions)
    if reward is not None:
      grades[0][0] = grades[0][0]._replace(reward=reward)
    return grades
