"""rl.optimizers: rates by step, clipping by the norm, AdamW."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pkpo_jax.rl import optimizers


def run_optimizer(gradients, params=(0.0, 0.0), steps=None, **changes):
  """What the optimiser adds to the parameters in each step."""
  options = {"learning_rate": 0.5} | changes
  optimizer = optimizers.make_optimizer(**options)
  params = jnp.array(params)
  state, updates = optimizer.init(params), []
  for i, gradient in enumerate(gradients):
    step = i if steps is None else steps[i]
    new, state = optimizers.apply(
      optimizer, jnp.array(gradient), state, params, step
    )
    updates.append(new - params)
  return np.array(updates)


def test_warm_up_is_linear():
  """AdamW moves by its rate against the sign of a constant gradient."""
  gradients = [(3.0, -1e-2)] * 7
  updates = run_optimizer(gradients, warmup_steps=4)
  rates = [0.125, 0.21875, 0.3125, 0.40625, 0.5, 0.5, 0.5]
  np.testing.assert_allclose(updates[:, 0], np.negative(rates), rtol=1e-4)
  np.testing.assert_allclose(updates[:, 1], rates, rtol=1e-4)


def test_without_a_warm_up_the_rate_is_constant():
  updates = run_optimizer([(1.0, 1.0)] * 3)
  np.testing.assert_allclose(updates, -0.5, rtol=1e-4)


@pytest.mark.parametrize("warmup_steps", [0, 2])
def test_a_decay_is_a_cosine_to_a_tenth_which_stays(warmup_steps):
  updates = run_optimizer(
    [(1.0, 1.0)] * 12, warmup_steps=warmup_steps, decay_steps=6
  )
  done = np.clip((np.arange(12) - warmup_steps) / 6, 0, 1)
  rates = 0.5 * (0.1 + 0.9 * (1 + np.cos(np.pi * done)) / 2)
  np.testing.assert_allclose(
    updates[warmup_steps:, 0], -rates[warmup_steps:], rtol=1e-4
  )


def test_the_rate_is_that_of_the_step_and_not_of_the_count_of_updates():
  """Two updates in a step; and steps whose update was skipped."""
  updates = run_optimizer([(1.0, 1.0)] * 4, steps=[0, 0, 3, 9], warmup_steps=4)
  np.testing.assert_allclose(
    updates[:, 0], [-0.125, -0.125, -0.40625, -0.5], rtol=1e-4
  )


def test_an_optimiser_that_asks_for_no_step_is_taken_too():
  params, gradient = jnp.array([1.0]), jnp.array([2.0])
  optimizer = optax.sgd(0.5)
  new, _ = optimizers.apply(
    optimizer, gradient, optimizer.init(params), params, 7
  )
  assert new == 0


def test_gradients_are_clipped_by_their_global_norm():
  """(3, 4) has norm 5: within the limit it stays as it is, bit by bit."""
  gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
  clipped = optimizers.clip(gradient, jnp.float32(5), 0.5)
  assert clipped["a"] == pytest.approx(0.3) and clipped["b"] == 0.4
  for limit in (5.0, 7.0, 0.0):
    assert optimizers.clip(gradient, jnp.float32(5), limit) == gradient


def test_weight_decay_is_decoupled():
  updates = run_optimizer([(0.0, 0.0)], params=(2.0, -4.0), weight_decay=0.1)
  np.testing.assert_allclose(updates, [[-0.1, 0.2]], rtol=1e-6)
