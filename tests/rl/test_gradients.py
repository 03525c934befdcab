"""rl.gradients: the gradient is the estimator's, however it is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import exact, plain, steps
from helpers.rollouts import (
  ENTROPY,
  KEY,
  KL,
  REWARDS,
  VALID,
  B,
  T,
  assert_close,
  combine,
  exact_weights,
  make_config,
  n,
  plain_values,
  recorder,
)

from pkpo_jax.lm import models
from pkpo_jax.rl import microbatches, train_step

VERIFY = pytest.mark.verify("pkpo_jax/lm", "pkpo_jax/rl")


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
  graded = valid.sum(axis=-1)
  assert metrics["k_lowered"] == np.mean((0 < graded) & (graded < k))


@pytest.mark.slow
def test_truncated_completions_have_weight_unless_they_are_masked(
  make_rollout, gradient_update
):
  """Masked ones are to the transform as if they had no grade."""
  rewards, cut = REWARDS["continuous"], ~VALID["some"]
  as_is = gradient_update(make_rollout(rewards), step=2)
  told = gradient_update(make_rollout(rewards, truncated=cut), step=2)
  jax.tree.map(np.testing.assert_array_equal, told, as_is)

  config = make_config(truncated="masked")
  update = steps.compiled(plain.tiny()[0], config, recorder())
  state = train_step.init_state(plain.tiny()[1], recorder())
  state = state.replace(step=jnp.int32(2))
  some = make_rollout(rewards, truncated=cut)
  masked, _ = update(state, some, KEY, {}, None)
  ungraded, _ = gradient_update(make_rollout(rewards, ~cut), step=2)
  jax.tree.map(np.testing.assert_array_equal, masked.opt_state, ungraded)
  assert any(
    np.any(x != y)
    for x, y in zip(jax.tree.leaves(ungraded), jax.tree.leaves(as_is[0]))
  )


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
    assert metrics["groups_skipped"] == metrics["updates_skipped"] == 1


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


@pytest.mark.parametrize("log_prob", [-90.0, -1000.0, -np.inf])
def test_what_has_weight_0_poisons_nothing(
  make_rollout, gradient_update, log_prob
):
  """Ratios without bound, in microbatches of which others are a part."""
  some = make_rollout(REWARDS["binary"])
  expected, _ = gradient_update(some, step=2)
  weights = np.array(exact_weights(REWARDS["binary"], VALID["all"], 2))
  spoilt = some.completions.log_probs.copy()
  spoilt[weights == 0] = log_prob
  completions = some.completions._replace(log_probs=spoilt)
  ours, metrics = gradient_update(some.replace(completions=completions), step=2)
  jax.tree.map(np.testing.assert_array_equal, ours, expected)
  assert all(np.isfinite(x) for x in metrics.values())


def test_the_mismatch_is_that_of_the_tokens_that_are_used(
  make_rollout, gradient_update
):
  """The sampler's log-probs moved by .5 in one token, and by more in others."""
  some = make_rollout(REWARDS["binary"])
  _, metrics = gradient_update(some, step=2)
  assert 0 < metrics["log_prob_mismatch_max"] < 1e-4
  assert metrics["log_prob_mismatch_mean"] < metrics["log_prob_mismatch_max"]
  weights = np.array(exact_weights(REWARDS["binary"], VALID["all"], 2))
  moved = np.where(weights == 0, 7, 0).astype(np.float32)[..., None]
  moved = np.broadcast_to(moved, some.completions.mask.shape).copy()
  used = np.argwhere(weights != 0)[0]
  moved[(*used, 0)] = -0.5
  moved = some.completions.log_probs + moved
  completions = some.completions._replace(log_probs=moved)
  _, metrics = gradient_update(some.replace(completions=completions), step=2)
  tokens = some.completions.mask[weights != 0].sum()
  assert metrics["log_prob_mismatch_max"] == pytest.approx(0.5, abs=1e-5)
  expected = pytest.approx(0.5 / tokens, abs=1e-5)
  assert metrics["log_prob_mismatch_mean"] == expected


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
def with_entropy(sample_gradients):
  """The policy's gradient less that of the mean entropy of a completion."""
  weights = exact_weights(REWARDS["binary"], VALID["all"], 4)
  policy = combine(sample_gradients[0], weights)
  bonus = np.full((B, n), ENTROPY / (B * n)).tolist()
  bonus = combine(sample_gradients[1], bonus)
  return jax.tree.map(lambda x, y: -x / B - y, policy, bonus)


@pytest.mark.slow
def test_the_entropy_bonus_and_no_kl_at_the_reference(
  penalised, with_entropy, sample_gradients
):
  gradient, metrics = penalised(plain.tiny()[1])
  assert metrics["kl_to_reference"] == 0
  assert metrics["fraction_updated"] == 1  # what has no weight, too
  assert_close(gradient, with_entropy, sample_gradients)


@pytest.mark.slow
def test_the_kl_penalty_away_from_the_reference(
  penalised, with_entropy, completions
):
  reference = plain.random_params(plain.tiny()[0], seed=1)
  fixed, _ = plain_values(reference, completions)

  @jax.jit
  @jax.value_and_grad
  def kl_loss(params):
    d = plain_values(params, completions)[0] - fixed
    return jnp.sum(d**2 / 2) / (B * n)

  _, kl_gradient = kl_loss(plain.tiny()[1])
  d = fixed - plain_values(plain.tiny()[1], completions)[0]
  value = jnp.sum(jnp.exp(d) - 1 - d) / completions.mask.sum()
  gradient, metrics = penalised(reference)
  assert value > 0.1
  assert metrics["kl_to_reference"] == pytest.approx(float(value), rel=1e-4)
  expected = jax.tree.map(lambda x, y: x + KL * y, with_entropy, kl_gradient)
  assert_close(gradient, expected, kl_gradient)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("rewards", "terms", "rows", "lengths"),
  [
    ("continuous", True, 2, (1, 3, T)),
    pytest.param("binary", False, 1, (1, 2, T), marks=VERIFY),
    pytest.param("continuous", True, 4, (T,), marks=VERIFY),
    pytest.param("binary", False, 8, (2, T), marks=VERIFY),
  ],
)
def test_microbatches_add_up_to_the_whole(
  make_rollout, monkeypatch, rewards, terms, rows, lengths
):
  """With every term of the loss or none, and clipping in the second epoch."""
  options = {"epochs": 2, "k_opt": (2,), "k_boundaries": ()}
  if terms:
    options |= {"loss.entropy_coef": ENTROPY, "loss.kl_coef": KL}
  model, params = plain.tiny()
  reference = plain.random_params(model, seed=1) if terms else None
  some = make_rollout(REWARDS[rewards], VALID["some"])
  optimizer = optax.sgd(0.01)

  def run(cuts, **changes):
    config = make_config(**options)
    config.microbatch.update(**changes)
    monkeypatch.setattr(microbatches, "cut_lengths", lambda T: cuts)
    update = steps.compiled(model, config, optimizer)
    state = train_step.init_state(params, optimizer)
    return update(state, some, KEY, {}, reference)

  whole, metrics = run((T,), rows=B * n)
  parts, part_metrics = run(lengths, rows=rows)
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
      same = pytest.approx(float(value), rel=1e-4, abs=2e-6)
      assert part_metrics[name] == same, name


@pytest.mark.parametrize("k", [4, 3, 2, 1])
def test_what_has_no_gradient_is_left_out(make_rollout, gradient_update, k):
  """Whosever the weights are: no more microbatches of 4 than they need."""
  weights = exact_weights(REWARDS["binary"], VALID["all"], k)
  weighted = np.count_nonzero(np.array(weights) != 0)
  _, metrics = gradient_update(make_rollout(REWARDS["binary"]), step=4 - k)
  assert metrics["fraction_updated"] == -(-weighted // 4) * 4 / (B * n)
  assert 0 < weighted < B * n


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [None, pytest.param(2, marks=VERIFY)])
def test_layers_that_run_as_a_scan_change_nothing(make_rollout, lora_rank):
  """Their parameters are stacked in the update, and apart in its result."""
  model = plain.tiny_model(num_layers=3, lora_rank=lora_rank)
  frozen, trained = models.split(model, plain.random_params(model))
  reference = jax.tree.map(lambda x: 0.9 * x, trained)
  config = make_config(**{"loss.kl_coef": KL, "k_opt": (2,)}, k_boundaries=())

  def gradient(model):
    update = steps.compiled(model, config, recorder())
    state = train_step.init_state(trained, recorder())
    some = make_rollout(REWARDS["continuous"])
    after, metrics = update(state, some, KEY, frozen, reference)
    return after.opt_state, metrics

  one_by_one, metrics = gradient(model)
  wrapped = models.without_adapters(model).clone(remat="full")
  model = wrapped if lora_rank is None else model.clone(model=wrapped)
  scanned, same = gradient(model)
  assert jax.tree.structure(scanned) == jax.tree.structure(trained)
  assert_close(scanned, one_by_one, one_by_one)
  for name, value in metrics.items():
    assert same[name] == pytest.approx(float(value), rel=1e-4, abs=2e-6), name


@pytest.mark.slow
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
