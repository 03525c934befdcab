"""pkpo_jax.rl.losses against scalar loops and an enumerated distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pkpo_jax.rl import losses

B, n, T = 3, 4, 5
LOW, HIGH = 0.1, 0.4


def make_batch(seed):
  """Log-probs now and then, a mask with an empty row, weights of both signs."""
  rng = np.random.default_rng(seed)
  old = rng.uniform(-4, -0.1, (B, n, T))
  log_probs = old + rng.normal(0, 0.4, (B, n, T))
  mask = np.arange(T) < rng.integers(0, T + 1, (B, n, 1))
  mask[0, 0] = False
  weights = rng.normal(0, 1, (B, n))
  weights[1, 1] = 0
  return [x.astype(np.float32) for x in (log_probs, old)] + [mask, weights]


def loss_of(log_probs, old, mask, weights, low=LOW, high=HIGH):
  return losses.policy_loss(
    log_probs, old, mask, weights, clip_low=low, clip_high=high
  )


def reference(log_probs, old, mask, weights):
  """PPO by cases: loss, its gradient, and where that is stopped."""
  loss, stopped = 0.0, np.zeros((B, n, T), bool)
  gradient = np.zeros((B, n, T))
  for b, i, t in zip(*np.nonzero(mask)):
    weight = weights[b, i]
    ratio = np.exp(np.float64(log_probs[b, i, t]) - np.float64(old[b, i, t]))
    stop = ratio > 1 + HIGH if weight > 0 else ratio < 1 - LOW
    bound = 1 + HIGH if weight > 0 else 1 - LOW
    stop = stop and weight != 0
    loss -= weight * (bound if stop else ratio) / B
    gradient[b, i, t] = 0 if stop else -weight * ratio / B
    stopped[b, i, t] = stop
  return loss, gradient, stopped


@pytest.mark.parametrize("seed", range(4))
def test_the_surrogate_is_that_of_ppo(seed):
  batch = make_batch(seed)
  expected_loss, expected_gradient, expected_stopped = reference(*batch)
  (loss, stopped), gradient = jax.jit(
    jax.value_and_grad(loss_of, has_aux=True)
  )(*batch)
  assert loss == pytest.approx(expected_loss, rel=1e-5)
  np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
  np.testing.assert_array_equal(stopped, expected_stopped)
  assert 0.1 < np.mean(stopped[batch[2]]) < 0.9


@pytest.mark.parametrize(
  ("ratio", "weight", "loss", "slope"),
  [
    (1.5, 1.0, -1.4, 0.0),
    (1.3, 1.0, -1.3, -1.3),
    (0.5, 1.0, -0.5, -0.5),
    (1.5, -1.0, 1.5, 1.5),
    (0.95, -1.0, 0.95, 0.95),
    (0.5, -1.0, 0.9, 0.0),
  ],
)
def test_where_the_clip_stops_the_gradient(ratio, weight, loss, slope):
  """Above for a positive weight, below for a negative one; else nowhere."""
  one = np.ones((1, 1, 1), np.float32)
  (value, stopped), gradient = jax.value_and_grad(loss_of, has_aux=True)(
    one * np.log(ratio), 0 * one, one > 0, np.full((1, 1), weight)
  )
  assert value == pytest.approx(loss)
  assert gradient.item() == pytest.approx(slope)
  assert stopped.item() == (slope == 0)


@pytest.mark.parametrize("seed", range(2))
def test_on_policy_the_gradient_is_the_weight_over_b(seed):
  log_probs, _, mask, weights = make_batch(seed)
  gradient = jax.grad(loss_of, has_aux=True)(
    log_probs, log_probs, mask, weights
  )[0]
  expected = -np.where(mask, weights[..., None], 0) / B
  np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_masked_tokens_do_not_matter_whatever_they_hold():
  log_probs, old, mask, weights = make_batch(0)
  value, gradient = jax.value_and_grad(loss_of, has_aux=True)(
    log_probs, old, mask, weights
  )
  for junk in (np.nan, -np.inf, 1e30):
    spoilt = np.where(mask, log_probs, junk), np.where(mask, old, -junk)
    spoilt_value, spoilt_gradient = jax.value_and_grad(loss_of, has_aux=True)(
      *spoilt, mask, weights
    )
    assert spoilt_value[0] == value[0]
    np.testing.assert_array_equal(spoilt_gradient, gradient)


def test_nothing_to_learn_from_is_zero_and_not_nan():
  log_probs, old, mask, weights = make_batch(0)
  for m, w in ((np.zeros_like(mask), weights), (mask, 0 * weights)):
    (loss, stopped), gradient = jax.value_and_grad(loss_of, has_aux=True)(
      log_probs, old, m, w
    )
    assert loss == 0 and not np.any(stopped)
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("wrong", range(4))
def test_shapes_must_match(wrong):
  batch = make_batch(0)
  batch[wrong] = batch[wrong][:, :-1]
  with pytest.raises(AssertionError):
    loss_of(*batch)


@pytest.mark.slow
@pytest.mark.parametrize("log_ratio", [89.0, 1000.0, np.inf])
@pytest.mark.parametrize("weight", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_left_out_cannot_overflow(log_ratio, weight, sign):
  """Beside a token that counts, whose gradient stays as it is alone."""
  d = np.array([[[0.1, sign * log_ratio]]], np.float32)
  old, mask = np.full_like(d, -3.0), np.full(d.shape, True)
  weights = np.full((1, 1), weight, np.float32)
  (loss, stopped), gradient = jax.value_and_grad(loss_of, has_aux=True)(
    old + d, old, mask, weights
  )
  if weight < 0 < sign:  # PPO does not clip it: it counts, and overflows
    assert loss == np.inf and gradient[0, 0, 1] == np.inf
  else:
    left_out = {1.0: 1 + HIGH, 0.0: 0.0, -1.0: 1 - LOW}[weight]
    if weight > 0 > sign:
      left_out = 0.0  # the ratio itself, exp of that
    other = np.exp(np.float32(0.1)) * weight
    assert loss == pytest.approx(-other - weight * left_out, rel=1e-5)
    assert gradient[0, 0, 1] == pytest.approx(0, abs=1e-30)
  assert gradient[0, 0, 0] == pytest.approx(-np.exp(0.1) * weight, rel=1e-5)
  assert stopped[0, 0, 1] == (weight * sign > 0)


# A policy of two tokens out of three: the second depends on the first.
TOKENS = np.array([(a, b) for a in range(3) for b in range(3)])


def token_log_probs(logits):
  """[9, 2] log-probs of both tokens of every completion."""
  first, second = (jax.nn.log_softmax(x) for x in logits)
  return jnp.stack([first[TOKENS[:, 0]], second[tuple(TOKENS.T)]], axis=-1)


def make_logits(seed):
  rng = np.random.default_rng(seed)
  return rng.normal(0, 1, 3), rng.normal(0, 1, (3, 3))


def kl_at_contexts(logits, sampler, other):
  """Sum over t of KL(policy || other), at contexts of the sampling policy."""
  (p, p2), (q, q2) = (
    [jax.nn.log_softmax(x) for x in some] for some in (logits, other)
  )
  first = jnp.sum(jnp.exp(p) * (p - q))
  second = jnp.sum(jnp.exp(p2) * (p2 - q2), axis=-1)
  return first + jax.nn.softmax(sampler[0]) @ second


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [losses.kl_loss, losses.kl_estimate])
@pytest.mark.parametrize("seed", range(3))
def test_the_kl_is_unbiased_away_from_the_policy_that_sampled(seed, estimator):
  """Over all nine completions, each as likely as when it was sampled."""
  policy, sampler, other = (make_logits(3 * seed + i) for i in range(3))
  old, reference = token_log_probs(sampler), token_log_probs(other)
  likely, mask = jnp.exp(old.sum(axis=-1)), np.full(old.shape, True)

  def estimate(logits):
    scored = (token_log_probs(logits), old, reference, mask)
    return likely @ estimator(*scored).sum(axis=-1)

  exact, exact_gradient = jax.value_and_grad(kl_at_contexts)(
    policy, sampler, other
  )
  value, gradient = jax.value_and_grad(estimate)(policy)
  assert exact > 0.2
  assert value == pytest.approx(float(exact), rel=1e-5)
  if estimator is losses.kl_loss:
    for ours, expected in zip(gradient, exact_gradient):
      np.testing.assert_allclose(ours, expected, atol=1e-6)
      assert np.abs(expected).max() > 0.05


def test_the_kl_loss_follows_the_ratio_unclipped():
  """Its gradient is ratio * d, for a ratio of 3 as for any."""
  log_p = np.float32(-1.0)
  for ratio in (1.0, 3.0, 0.2):
    slope = jax.grad(losses.kl_loss)(
      log_p, log_p - np.log(np.float32(ratio)), np.float32(-3.0), np.True_
    )
    assert slope == pytest.approx(ratio * 2, rel=1e-5)


@pytest.mark.parametrize("estimator", [losses.kl_loss, losses.kl_estimate])
def test_the_kl_at_the_reference_is_zero_with_gradient_zero(estimator):
  log_p = jnp.log(jnp.array([0.2, 0.5, 1e-7]))
  kl, gradient = jax.value_and_grad(
    lambda x: estimator(x, log_p, log_p, np.ones(3, bool)).sum()
  )(log_p)
  assert kl == 0
  assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("estimator", [losses.kl_loss, losses.kl_estimate])
@pytest.mark.parametrize("junk", [0.0, -7.0, np.nan, np.inf, -np.inf])
def test_the_kl_is_zero_where_masked(estimator, junk):
  """With a gradient of zero, whatever the log-probs are there."""
  old, other = np.float32([-1, -2, -3]), np.float32([-2, -2, -1])
  log_p, mask = np.float32([-1.5, junk, junk]), np.array([True, False, False])
  values, gradient = jax.value_and_grad(
    lambda x: (lambda kl: (kl.sum(), kl))(estimator(x, old, other, mask)),
    has_aux=True,
  )(log_p)
  np.testing.assert_array_equal(values[1][1:], 0)
  np.testing.assert_array_equal(gradient[1:], 0)
  assert values[1][0] > 0 and np.isfinite(gradient[0])


def test_the_kl_estimate_is_never_negative_and_overflows_late():
  rng = np.random.default_rng(0)
  log_p, old, other = rng.uniform(-9, 0, (3, 1000)).astype(np.float32)
  mask = np.full(1000, True)
  assert np.all(losses.kl_estimate(log_p, old, other, mask) >= 0)
  # The policy has given a token up: exp(-d) is inf, the estimate is not.
  given_up = losses.kl_estimate(
    np.float32(-900.0), np.float32(-1.0), np.float32(-2.0), np.True_
  )
  assert given_up == pytest.approx(np.exp(-1), rel=1e-6)


def test_token_mean_weighs_every_token_the_same():
  """Not the mean over rows of their means."""
  values = np.array([[1.0, 2.0, 3.0], [10.0, np.nan, np.nan]])
  mask = np.array([[True, True, True], [True, False, False]])
  assert losses.token_mean(values, mask) == 4.0


def test_token_mean_of_no_token_is_zero_with_gradient_zero():
  nothing = np.zeros((2, 3), bool)
  mean, gradient = jax.value_and_grad(losses.token_mean)(
    np.full((2, 3), 7.0, np.float32), nothing
  )
  assert mean == 0
  assert np.all(np.asarray(gradient) == 0)
