"""pkpo_jax.lm.sampler: greedy, from a nucleus, and with which keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain

from pkpo_jax.lm import models, sampler

B, n, P, T = 3, 4, 6, 7
LENGTHS = np.array([3, 1, 6], np.int32)
PROMPTS = np.random.default_rng(0).integers(2, 12, (B, P), np.int32)
KEY = jax.random.key(3)


def draw(key=KEY, **options):
  options = {"n": n, "max_new_tokens": T, "stop_tokens": (1,)} | options
  return jax.device_get(
    sampler.sample(*plain.tiny(), PROMPTS, LENGTHS, key, **options)
  )


def plain_log_probs(completions, temperature=1.0):
  """[B, n, T, V] by plain forwards; that of PAD is -inf."""
  logits = plain.completion_logits(
    *plain.tiny(), PROMPTS, LENGTHS, completions.tokens
  )
  logits = np.array(logits, float) / temperature
  logits[..., models.PAD] = -np.inf
  return np.array(jax.nn.log_softmax(logits, axis=-1))


def of_tokens(log_p, completions):
  tokens = completions.tokens[..., None]
  return np.take_along_axis(log_p, tokens, axis=-1)[..., 0]


@pytest.fixture(scope="module")
def greedy():
  return draw(temperature=0, n=1)


def test_temperature_0_takes_the_likeliest_token_each_time(greedy):
  log_p, mask = plain_log_probs(greedy), greedy.mask
  best = np.argmax(log_p, axis=-1)
  np.testing.assert_array_equal(greedy.tokens[mask], best[mask])
  again = draw(jax.random.key(4), temperature=0.0, n=1)
  jax.tree.map(np.testing.assert_array_equal, again, greedy)


def test_greedy_log_probs_are_those_of_the_model(greedy):
  """At temperature 1: those of what was drawn from would be all zero."""
  log_p, mask = plain_log_probs(greedy), greedy.mask
  expected = of_tokens(log_p, greedy)[mask]
  np.testing.assert_allclose(greedy.log_probs[mask], expected, atol=1e-5)
  p = np.exp(log_p)
  entropy = -np.sum(p * np.where(p > 0, log_p, 0), axis=-1)
  np.testing.assert_allclose(greedy.entropy[mask], entropy[mask], atol=1e-5)
  assert np.all(entropy[mask] > 0.1)


def nucleus(p, top_p):
  """One token at a time, the likeliest first, until top_p is reached."""
  kept, mass = [], 0.0
  for token in np.argsort(-p, kind="stable"):
    if mass >= top_p:
      break
    kept.append(token)
    mass += p[token]
  return kept, mass


@pytest.mark.slow
@pytest.mark.parametrize("top_p", [0.3, 0.8])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_top_p_draws_from_the_nucleus_and_says_its_log_probs(
  top_p, temperature
):
  completions = draw(temperature=temperature, top_p=top_p)
  log_p = plain_log_probs(completions, temperature)
  sizes = []
  for place in np.argwhere(completions.mask):
    place = tuple(place)
    p, token = np.exp(log_p[place]), completions.tokens[place]
    kept, mass = nucleus(p, top_p)
    sizes.append(len(kept))
    assert token in kept
    np.testing.assert_allclose(
      completions.log_probs[place], np.log(p[token] / mass), atol=1e-5
    )
    q = p[kept] / mass
    entropy = -np.sum(q * np.log(q))
    np.testing.assert_allclose(completions.entropy[place], entropy, atol=1e-5)
  assert 1 <= min(sizes) and max(sizes) > 1


@pytest.mark.slow
def test_top_p_1_is_no_top_p():
  jax.tree.map(np.testing.assert_array_equal, draw(top_p=1), draw())


@pytest.mark.slow
def test_a_key_for_each_completion():
  """A prompt's key is folded by the sample: so samples come in any chunks."""
  rows = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(B))
  each = jax.vmap(
    lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
  )(rows)
  whole = draw()
  jax.tree.map(np.testing.assert_array_equal, draw(each), whole)
  late = draw(each[:, 2:], n=2)
  np.testing.assert_array_equal(late.tokens, whole.tokens[:, 2:])
  np.testing.assert_array_equal(
    draw(jax.random.key_data(KEY)).tokens, whole.tokens
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"temperature": 0}, "temperature=0 is greedy, so that n=4 must be 1"),
    ({"temperature": 0, "n": 1, "top_p": 0.5}, r"top_p=0\.5 has no effect"),
    ({"top_p": 0}, "top_p=0 must be above 0 and at most 1"),
    ({"top_p": 1.1}, r"top_p=1\.1 must"),
    ({"top_p": float("nan")}, "top_p=nan must"),
    ({"key": jax.random.split(KEY, (B, n + 1))}, r"has shape \(3, 5\) for B=3"),
  ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    draw(**options)
