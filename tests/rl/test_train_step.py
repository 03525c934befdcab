"""pkpo_jax.rl.train_step: its gradient is the estimator's.

The reference takes the gradient of the log-prob of every sample by itself,
through gemma alone, and adds them up with weights that are enumerated over
subsets in fractions.
"""

import collections

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from helpers import exact, plain

from configs import countdown
from pkpo_jax.lm import models, sampler
from pkpo_jax.rl import rollout, train_step
from pkpo_jax.training import config as config_lib

B, n, P, T = 4, 4, 5, 4
TEMPERATURE = 0.7
LENGTHS = np.array([2, 5, 3, 5], np.int32)
PROMPTS = np.array(
  [[2, 9, 0, 0, 0], [2, 0, 1, 3, 4], [2, 6, 6, 0, 0], [2, 11, 10, 8, 7]],
  np.int32,
)
KEY = jax.random.key(1)

REWARDS = {
  "binary": [[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]],
  "continuous": [
    [0.25, -1.5, 3, 0.5],
    [2, 0.5, 0.5, -1],
    [1.5, 1.5, 1.5, 1.5],
    [0, 96, 0, -0.125],
  ],
}
VALID = {
  "all": np.ones((B, n), bool),
  "some": np.array(
    [[1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]], bool
  ),
}


def make_config(**changes):
  config = countdown.get_config()
  config.update(
    num_steps=8,
    n=n,
    prompts_per_step=B,
    temperature=TEMPERATURE,
    k_opt=(4, 3, 2, 1),
    k_boundaries=(1, 2, 3),
  )
  config.microbatch.update(prompts=2, samples=2)
  config.update_from_flattened_dict(changes)
  return config


def recorder():
  """An optimiser that keeps the gradient as its state and changes nothing."""

  def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)

  return optax.GradientTransformation(
    zeros, lambda gradient, *_: (zeros(gradient), gradient)
  )


@pytest.fixture(scope="module")
def completions():
  model, params = plain.tiny()
  drawn = jax.device_get(
    sampler.sample(
      model,
      params,
      PROMPTS,
      LENGTHS,
      KEY,
      n=n,
      max_new_tokens=T,
      temperature=TEMPERATURE,
      stop_tokens=(1, 2),
    )
  )
  lengths = drawn.mask.sum(axis=-1)
  assert lengths.min() < T, "some completions should end early"
  return drawn


@pytest.fixture(scope="module")
def make_rollout(completions):
  def make(rewards, valid=VALID["all"]):
    # What could not be graded may hold anything.
    rewards = np.where(valid, np.array(rewards, np.float32), np.nan)
    return rollout.Rollout(
      PROMPTS, LENGTHS, completions, rewards.astype(np.float32), valid
    )

  return make


def plain_values(params, completions):
  """Log-probs and entropies [B, n, T] by gemma alone, zero where masked."""
  mask = completions.mask
  values = plain.log_probs_and_entropy(
    plain.tiny()[0],
    params,
    PROMPTS,
    LENGTHS,
    np.where(mask, completions.tokens, 1),
    TEMPERATURE,
  )
  return [jnp.where(mask, value, 0) for value in values]


@pytest.fixture(scope="module")
def sample_gradients(completions):
  """Two trees with leaves [B, n, ...]: of log p(sample), of its entropies."""

  @jax.jit
  @jax.jacrev
  def jacobian(params):
    return [value.sum(axis=-1) for value in plain_values(params, completions)]

  return jax.device_get(jacobian(plain.tiny()[1]))


def combine(gradients, weights):
  """The sum over all samples of weight times gradient."""
  weights = np.array(exact.floats(weights))
  return jax.tree.map(lambda x: np.tensordot(weights, x, 2), gradients)


def assert_close(tree, expected, gradients):
  """To 1e-5 of the largest entry of a sample's gradient, in float32."""
  scale = max(np.abs(x).max() for x in jax.tree.leaves(gradients))
  assert scale > 0.1
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * scale),
    tree,
    expected,
  )


def exact_weights(rewards, valid, k):
  """`sloo_minus_one` of the graded samples; zeros where it is undefined."""
  rows = []
  for row, where in zip(rewards, valid.tolist()):
    defined = 2 <= sum(where) >= k
    rows.append(
      exact.masked(exact.sloo_minus_one, row, where, k) if defined else [0] * n
    )
  return rows


@pytest.fixture(scope="module")
def gradient_update():
  """update(rollout, step) -> gradient, metrics; compiled for all tests."""
  update = steps.compiled(plain.tiny()[0], make_config(), recorder())
  state = train_step.init_state(plain.tiny()[1], recorder())

  def run(some, step):
    at_step = state.replace(step=jnp.int32(step))
    after, metrics = update(at_step, some, KEY, {}, None)
    assert int(after.step) == step + 1
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    assert update.num_compiled() == 1
    return after.opt_state, metrics

  return run


@pytest.mark.parametrize("k", [4, 3, 2, 1])
@pytest.mark.parametrize("valid", VALID)
@pytest.mark.parametrize("rewards", REWARDS)
def test_the_gradient_is_the_estimator_of_the_gradients_of_the_samples(
  make_rollout, sample_gradients, gradient_update, rewards, valid, k
):
  """One pass over a batch in two passes of the model, against B n passes."""
  rewards, valid = REWARDS[rewards], VALID[valid]
  weights = exact_weights(rewards, valid, k)
  ours, metrics = gradient_update(make_rollout(rewards, valid), step=4 - k)
  assert metrics["k"] == k
  expected = combine(sample_gradients[0], weights)
  expected = jax.tree.map(lambda x: -x / B, expected)
  largest = max(1, np.abs(exact.floats(weights)).max())
  scaled = jax.tree.map(lambda x: x * largest, sample_gradients[0])
  assert_close(ours, expected, scaled)
  some = any(any(row) for row in weights)
  assert any(np.any(x != 0) for x in jax.tree.leaves(ours)) == some
  assert metrics["groups_skipped"] == np.mean([not any(r) for r in weights])


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_groups_without_a_weight_give_no_gradient(
  make_rollout, gradient_update, reward
):
  """All wrong at k = 2; all right at k = 1 and 2, where no one adds to it."""
  for step in (2, 3):
    equal = np.full((B, n), reward)
    gradient, metrics = gradient_update(make_rollout(equal), step=step)
    for leaf in jax.tree.leaves(gradient):
      assert np.all(np.asarray(leaf) == 0)
    assert metrics["loss"] == metrics["grad_norm"] == 0
    assert metrics["groups_skipped"] == 1


def test_metrics_of_an_on_policy_update(
  make_rollout, sample_gradients, gradient_update
):
  """The loss is minus the mean over problems of sums of weights by token."""
  some = make_rollout(REWARDS["continuous"])
  gradient, metrics = gradient_update(some, step=2)
  weights = exact_weights(REWARDS["continuous"], VALID["all"], 2)
  tokens = some.completions.mask.sum(axis=-1)
  expected = -np.sum(np.array(exact.floats(weights)) * tokens) / B
  assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
  assert metrics["clip_fraction"] == 0
  leaves = [np.float64(x).ravel() for x in jax.tree.leaves(gradient)]
  norm = np.linalg.norm(np.concatenate(leaves))
  assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)


def policy_gradient(sample_gradients, step):
  weights = exact_weights(REWARDS["binary"], VALID["all"], 4 - step)
  return combine(sample_gradients[0], [[-w / B for w in r] for r in weights])


ENTROPY, KL = 5.0, 3.0


@pytest.fixture(scope="module")
def penalised(make_rollout):
  """reference -> gradient, metrics; with an entropy bonus and a KL penalty."""
  config = make_config(**{"loss.entropy_coef": ENTROPY, "loss.kl_coef": KL})
  update = steps.compiled(plain.tiny()[0], config, recorder())
  state = train_step.init_state(plain.tiny()[1], recorder())

  def run(reference):
    some = make_rollout(REWARDS["binary"])
    after, metrics = update(state, some, KEY, {}, reference)
    return after.opt_state, metrics

  return run


@pytest.fixture(scope="module")
def with_entropy(completions, sample_gradients):
  """The policy's gradient less that of the mean entropy of all tokens."""
  weights = exact_weights(REWARDS["binary"], VALID["all"], 4)
  policy = combine(sample_gradients[0], weights)
  bonus = np.full((B, n), ENTROPY / completions.mask.sum()).tolist()
  bonus = combine(sample_gradients[1], bonus)
  return jax.tree.map(lambda x, y: -x / B - y, policy, bonus)


def test_the_entropy_bonus_and_no_kl_at_the_reference(
  penalised, with_entropy, sample_gradients
):
  gradient, metrics = penalised(plain.tiny()[1])
  assert metrics["kl_to_reference"] == 0
  assert_close(gradient, with_entropy, sample_gradients)


def test_the_kl_penalty_away_from_the_reference(
  penalised, with_entropy, completions
):
  reference = plain.random_params(plain.tiny()[0], seed=1)
  fixed, _ = plain_values(reference, completions)

  @jax.jit
  @jax.value_and_grad
  def kl_loss(params):
    d = plain_values(params, completions)[0] - fixed
    return jnp.sum(d**2 / 2) / completions.mask.sum()

  _, kl_gradient = kl_loss(plain.tiny()[1])
  d = fixed - plain_values(plain.tiny()[1], completions)[0]
  value = jnp.sum(jnp.exp(d) - 1 - d) / completions.mask.sum()
  gradient, metrics = penalised(reference)
  assert value > 0.1
  assert metrics["kl_to_reference"] == pytest.approx(float(value), rel=1e-4)
  expected = jax.tree.map(lambda x, y: x + KL * y, with_entropy, kl_gradient)
  assert_close(gradient, expected, kl_gradient)


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
  optimizer = train_step.make_optimizer(config)
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
    some = rollout.Rollout(
      prompt, length, drawn, rewards, np.ones_like(rewards, bool)
    )
    state, metrics = update(state, some, KEY, {}, None)
    right.append(rewards.mean())
    ks.append(int(metrics["k"]))
  assert update.num_compiled() == 1
  assert ks == [4] * 10 + [2] * 10 + [1] * 20
  assert np.mean(right[:3]) < 0.3
  assert np.mean(right[-5:]) > 0.8


def run_optimizer(gradients, params=(0.0, 0.0), **changes):
  """What the optimiser adds to the parameters in each step."""
  optimizer = train_step.make_optimizer(make_config(**changes))
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


@pytest.mark.parametrize(
  ("options", "expected"),
  [
    ({"k_opt": (3,)}, [3, 3, 3, 3, 3]),
    ({"k_opt": (8, 1), "k_boundaries": (2,)}, [8, 8, 1, 1, 1]),
    (
      {"k_opt": (5, 1), "k_boundaries": (2,), "k_schedule": "linear"},
      [5, 3, 1, 1, 1],
    ),
  ],
)
def test_schedules_of_k(options, expected):
  config = ml_collections.ConfigDict(
    {"k_boundaries": (), "k_schedule": "piecewise"} | options
  )
  schedule = config_lib.make_k_schedule(config)
  assert [int(schedule(step)) for step in range(5)] == expected


@pytest.mark.parametrize(
  ("ks", "boundaries", "name"),
  [
    ((8,), (), "linear"),
    ((8, 1), (), "linear"),
    ((8, 4, 1), (5,), "linear"),
    ((8, 1), (5, 9), "linear"),
    ((8, 1), (), "piecewise"),
    ((8,), (5,), "piecewise"),
    ((8, 1), (5,), "step"),
  ],
)
def test_schedules_that_make_no_sense_are_errors(ks, boundaries, name):
  config = ml_collections.ConfigDict(
    {"k_opt": ks, "k_boundaries": boundaries, "k_schedule": name}
  )
  with pytest.raises(ValueError, match="boundar"):
    config_lib.make_k_schedule(config)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("rewards", "terms", "prompts", "samples"),
  [
    ("continuous", True, 2, 2),
    ("binary", False, 4, 1),
    ("binary", False, 1, 4),
  ],
)
def test_microbatches_add_up_to_the_whole(
  make_rollout, rewards, terms, prompts, samples
):
  """With every term of the loss or none, and clipping in the second epoch."""
  options = {"epochs": 2, "k_opt": (2,), "k_boundaries": ()}
  if terms:
    options |= {"loss.entropy_coef": ENTROPY, "loss.kl_coef": KL}
  model, params = plain.tiny()
  reference = plain.random_params(model, seed=1) if terms else None
  some = make_rollout(REWARDS[rewards], VALID["some"])
  optimizer = optax.sgd(0.01)

  def run(**changes):
    config = make_config(**options)
    config.microbatch.update(**changes)
    update = steps.compiled(model, config, optimizer)
    state = train_step.init_state(params, optimizer)
    return update(state, some, KEY, {}, reference)

  whole, metrics = run(prompts=B, samples=n)
  parts, part_metrics = run(prompts=prompts, samples=samples)
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), whole.params, params)
  scale = max(jax.tree.leaves(moved))
  assert scale > 1e-3
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * scale + 1e-6),
    parts.params,
    whole.params,
  )
  assert set(part_metrics) == set(metrics)
  for name, value in metrics.items():
    if name != "fraction_updated":
      assert part_metrics[name] == pytest.approx(float(value), rel=1e-4), name


@pytest.mark.parametrize(
  ("terms", "fraction"),
  [({}, 8 / 16), ({"loss.entropy_coef": ENTROPY}, 1.0)],
)
def test_what_has_no_gradient_is_left_out(make_rollout, terms, fraction):
  """3, 2, 1 and 0 are right: 3 pairs of the first two, 1 of the others."""
  config = make_config(k_opt=(1,), k_boundaries=(), transform="s", **terms)
  config.microbatch.update(prompts=2, samples=1)
  model, params = plain.tiny()
  optimizer = recorder()
  update = steps.compiled(model, config, optimizer)
  state = train_step.init_state(params, optimizer)
  _, metrics = update(state, make_rollout(REWARDS["binary"]), KEY, {}, None)
  assert metrics["fraction_updated"] == pytest.approx(fraction)


def test_adapters_alone_are_trained(make_rollout):
  """The first gradient of LoRA: of B, which is zero, alone."""
  model = plain.tiny_model(lora_rank=2)
  params = models.init_params(model, jax.random.key(0))
  frozen, trained = models.split(
    model, models.merge(plain.random_params(plain.tiny()[0]), params)
  )
  optimizer = optax.sgd(0.1)
  update = steps.compiled(model, make_config(), optimizer)
  state = train_step.init_state(trained, optimizer)
  after, _ = update(state, make_rollout(REWARDS["binary"]), KEY, frozen, None)
  assert jax.tree.structure(after.params) == jax.tree.structure(trained)
  changed = {
    path[-1].key: bool(np.any(x != y))
    for (path, x), y in zip(
      jax.tree_util.tree_leaves_with_path(after.params),
      jax.tree.leaves(trained),
    )
  }
  assert changed == {"a": False, "b": True}
