"""rl.train_step: updates in a row, and their optimiser."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import jax_settings, plain, steps
from helpers.rollouts import (
  KEY,
  KL,
  REWARDS,
  TEMPERATURE,
  VALID,
  B,
  exact_weights,
  make_config,
  n,
  plain_values,
  recorder,
)

import pkpo_jax
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
  tokens = some.completions.mask.sum(axis=-1)
  weights = exact_weights(REWARDS["binary"], VALID["all"], 2)
  tokens = np.sum(tokens * (np.array(weights) != 0), axis=-1)
  for rows in np.array(train_step._minibatch_order(KEY, B, 2, 2)):
    state, one = single(state, take_rows(some, rows), KEY, {}, None)
    for name, value in one.items():
      metrics[name].append(value)
    metrics["tokens"].append(tokens[rows].sum())
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
    (ours.params, ours.opt_state),
    (state.params, state.opt_state),
  )
  for name in ("loss", "grad_norm"):
    expected = np.mean(metrics[name])
    assert our_metrics[name] == pytest.approx(expected, rel=1e-4), name
  clipped = np.average(metrics["clip_fraction"], weights=metrics["tokens"])
  assert our_metrics["clip_fraction"] == pytest.approx(clipped, rel=1e-4)
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
    **{"microbatch.rows": 2},
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


@pytest.fixture(scope="module")
def moved(make_rollout):
  """A rollout whose sampler was another policy, and a reference."""
  some = make_rollout(REWARDS["binary"])
  rng = np.random.default_rng(0)
  log_probs = some.completions.log_probs
  log_probs = log_probs + rng.normal(0, 0.3, log_probs.shape)
  completions = some.completions._replace(log_probs=np.float32(log_probs))
  reference = plain.random_params(plain.tiny()[0], seed=1)
  return some.replace(completions=completions), reference


@pytest.fixture(scope="module")
def expected_ratios(moved):
  """Clipped and KL by token, each over the tokens that it is about."""
  some, reference = moved
  mask, old = some.completions.mask, some.completions.log_probs
  now, fixed = (
    np.float64(plain_values(params, some.completions)[0])
    for params in (plain.tiny()[1], reference)
  )
  weights = np.array(exact_weights(REWARDS["binary"], VALID["all"], 2))
  weighted = mask & (weights > 0)[..., None]
  ratio = np.exp(np.where(mask, now - old, 0))
  kl = ratio * (np.exp(fixed - now) - 1 + now - fixed)
  return {
    "clip_fraction": np.mean(ratio[weighted] > 1.2),
    "kl_to_reference": np.mean(kl[mask]),
    "log_prob_mismatch_max": np.abs(now - old)[mask].max(),
    "log_prob_mismatch_mean": np.abs(now - old)[mask].mean(),
    "fraction_updated": 1,
    "updates_skipped": 0,
  }


@pytest.mark.slow
@pytest.mark.parametrize("minibatches", [1, 4])
def test_metrics_do_not_depend_on_the_minibatches(
  moved, expected_ratios, minibatches
):
  """Of tokens that are weighted, or of all; of other counts in each."""
  config = make_config(k_opt=(2,), k_boundaries=(), minibatches=minibatches)
  config.loss.kl_coef = KL
  config.microbatch.rows = 2
  update = steps.compiled(plain.tiny()[0], config, recorder())
  state = train_step.init_state(plain.tiny()[1], recorder())
  _, metrics = update(state, moved[0], KEY, {}, moved[1])
  assert 0.1 < expected_ratios["clip_fraction"] < 0.9
  for name, value in expected_ratios.items():
    if "mismatch" not in name or minibatches == 1:  # else of the first
      assert metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
def test_an_update_without_a_gradient_changes_nothing(make_rollout):
  """Not what Adam remembers, nor the weights that decay; and it is counted."""
  config = make_config(
    k_opt=(2,), k_boundaries=(), learning_rate=0.1, weight_decay=0.5
  )
  config.max_grad_norm = 1e-3
  model, params = plain.tiny()
  optimizer = build_run.make_optimizer(config)
  update = steps.compiled(model, config, optimizer)
  state = train_step.init_state(params, optimizer)
  some, empty = (
    make_rollout(np.array(x)) for x in (REWARDS["binary"], [[0] * n] * B)
  )
  state, metrics = update(state, some, KEY, {}, None)
  assert metrics["updates_skipped"] == 0
  assert metrics["grad_clipped"] == 1 and metrics["grad_norm"] > 1e-3
  after, metrics = update(state, empty, KEY, {}, None)
  assert metrics["updates_skipped"] == metrics["groups_skipped"] == 1
  assert metrics["grad_norm"] == metrics["grad_clipped"] == 0
  assert int(after.step) == 2
  same = (state.params, state.opt_state)
  jax.tree.map(
    np.testing.assert_array_equal, (after.params, after.opt_state), same
  )


@pytest.mark.slow
def test_an_update_that_is_not_finite_changes_nothing(make_rollout):
  """One of two minibatches: the other is made. Nor if the loss alone is."""
  model, params = plain.tiny()
  config = make_config(k_opt=(2,), k_boundaries=(), minibatches=2)
  optimizer = build_run.make_optimizer(config)
  update = steps.compiled(model, config, optimizer)
  state = train_step.init_state(params, optimizer)
  some = make_rollout(np.array(REWARDS["binary"]))
  order = np.array(train_step._minibatch_order(KEY, B, 1, 2))
  rewards = np.array(some.rewards, np.float32)
  rewards[order[0]] *= 1e25  # the squares of the gradient overflow
  after, metrics = update(state, some.replace(rewards=rewards), KEY, {}, None)
  assert not np.isfinite(metrics["grad_norm"])
  assert metrics["updates_skipped"] == 0.5
  assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), after))
  rewards[order[0]] = 0  # an update without a gradient is skipped too
  expected, _ = update(state, some.replace(rewards=rewards), KEY, {}, None)
  jax.tree.map(np.testing.assert_array_equal, after, expected)
  rewards[:] = 3e38 * (rewards > 0)
  after, metrics = update(state, some.replace(rewards=rewards), KEY, {}, None)
  assert metrics["updates_skipped"] == 1 and int(after.step) == 1
  jax.tree.map(np.testing.assert_array_equal, after.params, params)


SETTINGS = {
  "strict": {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
  },
  "debug": {"jax_debug_nans": True, "jax_debug_infs": True},
}


@pytest.mark.verify("pkpo_jax/lm", "pkpo_jax/rl")
def test_the_settings_of_jax_do_not_matter(make_rollout):
  """With every term of the loss, and rewards that could not be graded."""
  config = make_config(
    k_opt=(2,), k_boundaries=(), minibatches=2, decay_steps=5, weight_decay=0.1
  )
  config.loss.update(entropy_coef=0.1, kl_coef=0.1)
  config.update(max_grad_norm=1.0, warmup_steps=2)
  model, params = plain.tiny()
  reference = plain.random_params(model, seed=1)
  some = make_rollout(REWARDS["continuous"], VALID["some"])

  def run(setting):
    with jax_settings.changed(**SETTINGS[setting]):
      optimizer = build_run.make_optimizer(config)
      state = train_step.init_state(params, optimizer)
      step = build_run.compile_train_step(config, model, optimizer)
      return step(state, some, np.int32(2), KEY, {}, reference)

  ours = [run(setting) for setting in SETTINGS]
  for x, y in zip(*map(jax.tree.leaves, ours), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ("transform", "spare"), [("sloo_minus_one", 0), ("sloo", 1), ("scloo", 1)]
)
@pytest.mark.parametrize("k", [1, 3, 6, np.array([6, 5, 2, 6, 6])])
def test_k_is_lowered_where_samples_are_not_graded(transform, spare, k):
  """To what the transform takes of so many samples, and to 1 at least."""
  graded = [6, 5, 3, 1, 0]
  valid = jnp.arange(6) < jnp.array(graded)[:, None]
  transform = pkpo_jax.transforms.get_transform(transform)
  asked = np.broadcast_to(k, 5)
  k_used = train_step.admitted_k(transform, jnp.asarray(asked), valid)
  expected = [min(a, max(m - spare, 1)) for a, m in zip(asked, graded)]
  np.testing.assert_array_equal(k_used, expected)


def test_a_group_that_lacks_a_sample_keeps_its_signal():
  """k = n: the best still gets what it adds to the second best."""
  rewards, valid = (
    jnp.array([[3.0, 1.0, 2.0, 9.0]]),
    jnp.array([[1, 1, 1, 0]]) > 0,
  )
  k = train_step.admitted_k(pkpo_jax.sloo_minus_one, jnp.array([4]), valid)
  weights = pkpo_jax.sloo_minus_one(rewards[0], k[0], where=valid[0])
  np.testing.assert_allclose(weights, [1, 0, 0, 0], rtol=1e-6)


def test_k_stays_where_the_limit_of_a_transform_is_unknown():
  def at_most_two(rewards, k, *, where):
    if isinstance(k, int) and k > 2:
      raise ValueError("k must be 1 or 2")
    return rewards

  valid = jnp.arange(6) < jnp.array([[6], [1]])
  k = train_step.admitted_k(at_most_two, jnp.array([2, 2]), valid)
  np.testing.assert_array_equal(k, [2, 2])
