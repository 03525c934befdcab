"""training.problem_order: every problem once an epoch, in another order."""

import numpy as np

from pkpo_jax.training import problem_order


def order(num_problems, prompts_per_step, seed, num_steps):
  rows_of = problem_order.problem_order(
    num_problems, prompts_per_step=prompts_per_step, seed=seed
  )
  return np.concatenate([rows_of(step) for step in range(num_steps)])


def test_every_epoch_has_every_problem_once_in_another_order():
  epochs = order(12, 4, seed=0, num_steps=6).reshape(2, 12)
  np.testing.assert_array_equal(np.sort(epochs), [range(12)] * 2)
  assert np.any(epochs[0] != epochs[1])
  assert np.any(order(12, 4, seed=1, num_steps=3) != epochs[0])


def test_the_order_does_not_depend_on_where_a_run_was_stopped():
  whole = order(7, 3, seed=0, num_steps=6)
  after = problem_order.problem_order(7, prompts_per_step=3, seed=0)
  np.testing.assert_array_equal(after(5), whole[15:])


def test_a_step_may_take_more_problems_than_there_are():
  rows = order(3, 8, seed=0, num_steps=1)
  assert len(rows) == 8 and set(rows) == {0, 1, 2}
