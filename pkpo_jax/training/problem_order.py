"""Which problems a step takes, and after a resume: a function of the step."""

from collections.abc import Callable

import grain


def problem_order(
  num_problems: int, *, prompts_per_step: int, seed: int
) -> Callable[[int], list[int]]:
  """Shuffles the problems anew in every epoch.

  The order depends on the seed and the step alone, not on how often a run was
  stopped: no cursor is saved that could run ahead of what was trained.

  Args:
    num_problems: N.
    prompts_per_step: B; a step at the border of two epochs may take a problem
      twice.
    seed: another seed, another order.

  Returns:
    step -> B rows of problems, each in 0..N-1.
  """
  rows = grain.MapDataset.range(num_problems).seed(seed).shuffle().repeat()
  B = prompts_per_step
  return lambda step: [int(rows[i]) for i in range(step * B, (step + 1) * B)]
