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


def distributions(seed, size=6):
  rng = np.random.default_rng(seed)
  policy, other = rng.dirichlet(np.full(size, 0.5), 2) + 1e-3
  return policy / policy.sum(), other / other.sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_kl_estimator_is_unbiased_and_never_negative(seed):
  """Its expectation over all tokens is the sum of p log(p/q)."""
  policy, other = distributions(seed)
  estimates = np.array(
    [
      losses.kl_estimate(np.log(p), np.log(q), np.True_)
      for p, q in zip(policy, other)
    ]
  )
  exact = np.sum(policy * np.log(policy / other))
  assert np.sum(policy * estimates) == pytest.approx(exact, rel=1e-4)
  assert np.all(estimates >= 0)


def test_the_kl_is_a_mean_over_unmasked_tokens():
  policy, other = distributions(9)
  mask = np.array([True, False, True, True, False, False])
  log_p, log_q = np.log(policy), np.log(other)
  ratio = other / policy
  expected = np.mean((ratio - 1 - np.log(ratio))[mask])
  kl = losses.kl_estimate(log_p, log_q, mask)
  assert losses.token_mean(kl, mask) == pytest.approx(expected, rel=1e-4)
  spoilt = losses.kl_estimate(np.where(mask, log_p, np.nan), log_q, mask)
  np.testing.assert_array_equal(spoilt, kl)


@pytest.mark.parametrize("seed", range(5))
def test_the_kl_loss_has_the_gradient_of_the_exact_kl(seed):
  """In expectation over the tokens of the policy, in its logits."""
  policy, other = (jnp.log(p) for p in distributions(seed))

  def exact(logits):
    log_p = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - other))

  def of_token(logits, token):
    log_p = jax.nn.log_softmax(logits)[token]
    return losses.kl_loss(log_p, other[token], np.True_)

  tokens = jnp.arange(len(policy))
  by_token = jax.vmap(jax.grad(of_token), (None, 0))(policy, tokens)
  expected = jnp.exp(policy) @ by_token
  np.testing.assert_allclose(expected, jax.grad(exact)(policy), atol=1e-5)


def test_the_kl_at_the_reference_is_zero_with_gradient_zero():
  log_p = jnp.log(distributions(0)[0])
  kl, gradient = jax.value_and_grad(
    lambda x: losses.kl_loss(x, log_p, np.ones(6, bool)).sum()
  )(log_p)
  assert kl == 0
  assert np.all(np.asarray(gradient) == 0)


def test_token_mean_weighs_every_token_the_same():
  """Not the mean over rows of their means."""
  values = np.array([[1.0, 2.0, 3.0], [10.0, np.nan, np.nan]])
  mask = np.array([[True, True, True], [True, False, False]])
  assert losses.token_mean(values, mask) == 4.0


def test_means_of_parts_add_up_with_the_count_of_the_whole():
  values, mask = np.arange(6.0).reshape(2, 3), np.array([[1, 0, 1], [1, 1, 1]])
  parts = [losses.token_mean(v, m == 1, 5) for v, m in zip(values, mask)]
  assert sum(parts) == pytest.approx(losses.token_mean(values, mask == 1))


def test_token_mean_of_no_token_is_zero_with_gradient_zero():
  nothing = np.zeros((2, 3), bool)
  mean, gradient = jax.value_and_grad(losses.token_mean)(
    np.full((2, 3), 7.0, np.float32), nothing
  )
  assert mean == 0
  assert np.all(np.asarray(gradient) == 0)
