"""rl.train_step: updates in a row, and their optimiser."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import plain, steps
from helpers.rollouts import KEY, REWARDS, TEMPERATURE, B, make_config

from pkpo_jax.lm import sampler
from pkpo_jax.rl import rollout, train_step
from pkpo_jax.training import build_run


def take_rows(some, rows):
  return jax.tree.map(lambda x: x[rows], some)


@pytest.mark.slow
def test_epochs_and_minibatches_are_single_updates_in_a_row(make_rollout):
  """With the log-probs of the sampler as the old ones throughout."""
  clip = {"loss.clip_low": 0.05, "loss.clip_high": 0.1}
  constant_k = {"k_opt": (2,), "k_boundaries": ()}
  config = make_config(epochs=2, minibatches=2, **clip, **constant_k)
  model, params = plain.tiny()
  optimizer = optax.sgd(0.3, momentum=0.9)
  some = make_rollout(REWARDS["binary"])
  state = train_step.init_state(params, optimizer)
  update = steps.compiled(model, config, optimizer)
  ours, our_metrics = update(state, some, KEY, {}, None)
  assert int(ours.step) == 1

  config = make_config(epochs=1, minibatches=1, **clip, **constant_k)
  single = steps.compiled(model, config, optimizer)
  metrics = collections.defaultdict(list)
  for rows in np.array(train_step._minibatch_order(KEY, B, 2, 2)):
    state, one = single(state, take_rows(some, rows), KEY, {}, None)
    for name, value in one.items():
      metrics[name].append(value)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
    (ours.params, ours.opt_state),
    (state.params, state.opt_state),
  )
  for name in ("loss", "clip_fraction", "grad_norm"):
    expected = np.mean(metrics[name])
    assert our_metrics[name] == pytest.approx(expected, rel=1e-4), name
  assert our_metrics["clip_fraction"] > 0.05


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
  order = np.array(train_step._minibatch_order(KEY, 12, 3, 4))
  assert order.shape == (12, 3)
  epochs = order.reshape(3, 12)
  np.testing.assert_array_equal(np.sort(epochs), [range(12)] * 3)
  assert len(np.unique(epochs, axis=0)) == 3
  other = train_step._minibatch_order(jax.random.key(2), 12, 3, 4)
  assert np.any(order != np.array(other))


@pytest.mark.slow
def test_a_bandit_is_learned_with_one_compilation():
  """One prompt, one token, which is right if it is 3; k goes from 4 to 1."""
  config = make_config(
    num_steps=40,
    n=16,
    prompts_per_step=1,
    k_opt=(4, 2, 1),
    k_boundaries=(10, 20),
    learning_rate=1e-2,
    warmup_steps=2,
    **{"microbatch.prompts": 1},
  )
  model, params = plain.tiny()
  optimizer = build_run.make_optimizer(config)
  update = steps.compiled(model, config, optimizer)
  state = train_step.init_state(params, optimizer)
  prompt, length = np.array([[2, 5]]), np.array([2])
  right, ks = [], []
  for step in range(config.num_steps):
    drawn = sampler.sample(
      model,
      state.params,
      prompt,
      length,
      jax.random.key(step),
      n=config.n,
      max_new_tokens=1,
      temperature=TEMPERATURE,
      stop_tokens=(),
    )
    drawn = jax.device_get(drawn)
    rewards = np.float32(drawn.tokens[..., 0] == 3)
    valid = np.ones_like(rewards, bool)
    some = rollout.Rollout(prompt, length, drawn, rewards, valid, ~valid)
    state, metrics = update(state, some, KEY, {}, None)
    right.append(rewards.mean())
    ks.append(int(metrics["k"]))
  assert update.num_compiled() == 1
  assert ks == [4] * 10 + [2] * 10 + [1] * 20
  assert np.mean(right[:3]) < 0.3
  assert np.mean(right[-5:]) > 0.8


def run_optimizer(gradients, params=(0.0, 0.0), **changes):
  """What the optimiser adds to the parameters in each step."""
  optimizer = build_run.make_optimizer(make_config(**changes))
  params = jnp.array(params)
  state, updates = optimizer.init(params), []
  for gradient in gradients:
    update, state = optimizer.update(jnp.array(gradient), state, params)
    updates.append(update)
  return np.array(updates)


def test_warm_up_is_linear():
  """AdamW moves by its rate against the sign of a constant gradient."""
  gradients = [(3.0, -1e-2)] * 7
  updates = run_optimizer(gradients, learning_rate=0.5, warmup_steps=4)
  rates = [0.125, 0.21875, 0.3125, 0.40625, 0.5, 0.5, 0.5]
  np.testing.assert_allclose(updates[:, 0], np.negative(rates), rtol=1e-4)
  np.testing.assert_allclose(updates[:, 1], rates, rtol=1e-4)


def test_without_a_warm_up_the_rate_is_constant():
  updates = run_optimizer([(1.0, 1.0)] * 3, learning_rate=0.5, warmup_steps=0)
  np.testing.assert_allclose(updates, -0.5, rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm():
  """(3, 4) has norm 5; the second gradient is within the limit."""
  options = {"warmup_steps": 0, "max_grad_norm": 0.5}
  clipped = run_optimizer([(3.0, 4.0), (0.1, 0.4)], **options)
  expected = run_optimizer([(0.3, 0.4), (0.1, 0.4)], **options)
  np.testing.assert_allclose(clipped, expected, rtol=1e-5)
  loose = run_optimizer([(3.0, 4.0), (0.1, 0.4)], warmup_steps=0)
  assert np.abs(clipped - loose).max() > 1e-5


def test_weight_decay_is_decoupled():
  updates = run_optimizer(
    [(0.0, 0.0)],
    params=(2.0, -4.0),
    weight_decay=0.1,
    learning_rate=0.5,
    warmup_steps=0,
  )
  np.testing.assert_allclose(updates, [[-0.1, 0.2]], rtol=1e-6)
