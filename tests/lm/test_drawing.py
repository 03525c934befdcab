"""pkpo_jax.lm.drawing: tokens by their probabilities, and never PAD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pkpo_jax.lm import drawing, models

KEY = jax.random.key(3)


def test_every_token_of_the_nucleus_is_drawn():
  p = np.array([0, 0.1, 0.4, 0.3, 0.2])
  with np.errstate(divide="ignore"):
    log_p = jnp.tile(jnp.asarray(np.log(p), jnp.float32), (2000, 1))
  kept = drawing.nucleus(log_p, 0.75)
  tokens = drawing.categorical(jax.random.split(KEY, 2000), kept)
  share = np.bincount(tokens, minlength=5) / 2000
  np.testing.assert_allclose(share, [0, 0, 4 / 9, 3 / 9, 2 / 9], atol=0.05)


def test_of_equals_all_stay():
  log_p = jnp.log(jnp.full((1, 4), 0.25))
  np.testing.assert_allclose(np.exp(drawing.nucleus(log_p, 0.3)), 0.25)


def test_a_policy_that_is_nan_stays_so():
  log_p = jnp.full((1, 4), jnp.nan)
  assert np.all(np.isnan(drawing.nucleus(log_p, 0.5)))
  assert drawing.argmax(log_p) == 1 != models.PAD


@pytest.mark.slow
def test_tokens_are_those_of_jax_random_categorical():
  log_p = jax.nn.log_softmax(3 * jax.random.normal(KEY, (500, 40)))
  log_p = log_p.at[:, 0].set(-jnp.inf)
  keys = jax.random.split(KEY, 500)
  expected = jax.vmap(jax.random.categorical)(keys, log_p)
  np.testing.assert_array_equal(drawing.categorical(keys, log_p), expected)


@pytest.mark.parametrize(
  "logits",
  [
    [np.nan] * 4,
    [0, 0, np.nan, 0],
    [5, np.inf, 0, np.inf],
    [5, -np.inf, -np.inf, -np.inf],
  ],
)
def test_where_nothing_can_be_sampled_it_is_not_pad(logits):
  """But a token whose log-prob shows it, or that the model wants most."""
  log_p = jax.nn.log_softmax(jnp.array(logits, jnp.float32))
  log_p = jnp.tile(log_p, (50, 1))
  tokens = drawing.categorical(jax.random.split(KEY, 50), log_p)
  assert set(np.asarray(tokens)) <= {1, 2, 3}
  drawn = jnp.take_along_axis(log_p, tokens[:, None], axis=-1)
  assert not np.isfinite(drawn).any()
