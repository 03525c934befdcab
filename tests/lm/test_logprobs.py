"""pkpo_jax.lm.logprobs against gemma alone and numpy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain

from pkpo_jax.lm import logprobs, models

B, n, P, T = 3, 2, 6, 7
TEMPERATURE = 0.7
LENGTHS = np.array([3, 1, 6], np.int32)

score = jax.jit(logprobs.completion_log_probs, static_argnums=0)


@pytest.fixture(scope="module")
def batch():
  """Prompts with odd tokens, and junk wherever a mask ends."""
  rng = np.random.default_rng(0)
  prompts = rng.integers(0, plain.VOCABULARY, (B, P), dtype=np.int32)
  prompts[0, :3], prompts[2, 1:4] = (2, 0, 1), (0, 2, 1)
  completions = rng.integers(1, plain.VOCABULARY, (B, n, T), dtype=np.int32)
  ends = np.array([[7, 3], [1, 7], [5, 6]])
  mask = np.arange(T) < ends[..., None]
  junk = rng.integers(0, plain.VOCABULARY, (B, n, T), dtype=np.int32)
  return prompts, np.where(mask, completions, junk), mask


def score_batch(params, batch, temperature=TEMPERATURE):
  prompts, completions, mask = batch
  return score(
    plain.tiny()[0],
    params,
    prompts,
    LENGTHS,
    completions,
    mask,
    temperature=temperature,
  )


def numpy_reference(params, batch):
  """Log-probs and entropies by log-softmax in float64, PAD left out."""
  prompts, completions, mask = batch
  logits = plain.completion_logits(
    plain.tiny()[0], params, prompts, LENGTHS, completions
  )
  odds = np.exp(np.float64(logits[..., 1:]) / TEMPERATURE)
  probs = odds / odds.sum(axis=-1, keepdims=True)
  tokens = np.where(mask, completions, 1)[..., None]
  of_tokens = np.take_along_axis(probs, tokens - 1, axis=-1)[..., 0]
  entropies = -np.sum(probs * np.log(probs), axis=-1)
  return np.where(mask, np.log(of_tokens), 0), np.where(mask, entropies, 0)


@pytest.mark.slow
def test_scores_equal_a_plain_forward_of_each_sequence(batch):
  params = plain.tiny()[1]
  log_probs, entropies = score_batch(params, batch)
  expected_log_probs, expected_entropies = numpy_reference(params, batch)
  np.testing.assert_allclose(log_probs, expected_log_probs, atol=1e-5)
  np.testing.assert_allclose(entropies, expected_entropies, atol=1e-5)
  assert log_probs.dtype == entropies.dtype == jnp.float32


@pytest.mark.slow
def test_masked_positions_are_exactly_zero(batch):
  mask = batch[2]
  for values in score_batch(plain.tiny()[1], batch):
    assert np.all(np.asarray(values)[~mask] == 0)
    assert np.all(np.asarray(values)[mask] != 0)


def test_what_is_masked_does_not_matter(batch):
  prompts, completions, mask = batch
  other = np.where(mask, completions, models.PAD)
  padded = np.where(np.arange(P) < LENGTHS[:, None], prompts, models.PAD)
  params = plain.tiny()[1]
  for one, two in zip(
    score_batch(params, batch), score_batch(params, (padded, other, mask))
  ):
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_the_temperature_matters(batch):
  """As a wrong one would: the reference above is at 0.7, this is at 1."""
  params = plain.tiny()[1]
  at_one, _ = score_batch(params, batch, temperature=1.0)
  expected, _ = numpy_reference(params, batch)
  assert np.abs(at_one - expected).max() > 0.1


@pytest.mark.parametrize(
  ("place", "value", "message"),
  [
    (0, 500, r"prompts must be ids in 0..*500; take the tokenizer"),
    (1, np.array([3, 0, 6]), r"prompt_lengths must be in 1..6"),
    (2, -1, r"completions must be ids in 0..*-1"),
  ],
)
def test_what_is_out_of_range_is_refused(batch, place, value, message):
  """Instead of clamped, as jax does within a program."""
  prompts, completions, mask = batch
  arrays = [prompts, LENGTHS, completions]
  arrays[place] = np.full_like(arrays[place], 1) * value
  with pytest.raises(ValueError, match=message):
    logprobs.completion_log_probs(
      *plain.tiny(), *arrays, mask, temperature=TEMPERATURE
    )


def test_a_single_token_needs_no_second_pass(batch):
  model, params = plain.tiny()
  prompts, completions, _ = batch
  short, ones = completions[..., :1], np.ones((B, n, 1), bool)
  log_probs, entropies = score(
    model, params, prompts, LENGTHS, short, ones, temperature=TEMPERATURE
  )
  expected = numpy_reference(params, batch)
  np.testing.assert_allclose(log_probs, expected[0][..., :1], atol=1e-5)
  np.testing.assert_allclose(entropies, expected[1][..., :1], atol=1e-5)


def mixture(values, coefficients):
  """Random coefficients, so that every log-prob and entropy counts."""
  return sum(jnp.sum(v * c) for v, c in zip(values, coefficients))


@jax.jit
@jax.grad
def gradient(params, batch, coefficients):
  return mixture(score_batch(params, batch), coefficients)


def plain_objective(params, batch, coefficients):
  prompts, completions, mask = batch
  no_pad = np.where(mask, completions, 1)
  values = plain.log_probs_and_entropy(
    plain.tiny()[0], params, prompts, LENGTHS, no_pad, TEMPERATURE
  )
  return mixture([jnp.where(mask, v, 0) for v in values], coefficients)


@pytest.mark.slow
def test_gradients_equal_those_of_a_plain_forward(batch):
  coefficients = np.random.default_rng(1).standard_normal((2, B, n, T))
  params = plain.tiny()[1]
  ours = gradient(params, batch, coefficients)
  theirs = jax.jit(
    jax.grad(lambda params: plain_objective(params, batch, coefficients))
  )(params)
  largest = max(jnp.abs(x).max() for x in jax.tree.leaves(theirs))
  assert largest > 0.1
  # Sums of 60 float32 terms in another order: 1e-5 of the largest entry.
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * largest),
    ours,
    theirs,
  )


@pytest.mark.slow
def test_no_completion_at_all_has_gradient_zero(batch):
  prompts, completions, mask = batch
  nothing = (prompts, completions, np.zeros_like(mask))
  ones = np.ones((2, B, n, T))
  for leaf in jax.tree.leaves(gradient(plain.tiny()[1], nothing, ones)):
    assert np.all(np.asarray(leaf) == 0)


def test_log_policy_excludes_pad():
  model, params = plain.tiny()
  hidden = np.random.default_rng(2).standard_normal((4, 3, 32))
  log_p = logprobs.log_policy(model, params, hidden, 1.3)
  probs = np.exp(np.float64(log_p))
  assert probs.shape == (4, 3, plain.VOCABULARY)
  assert np.all(probs[..., models.PAD] == 0)
  np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-6)


def test_entropy_of_known_distributions():
  probs = np.array([[0.5, 0.25, 0.125, 0.125], [0.25] * 4])
  expected = [1.75 * np.log(2), 2 * np.log(2)]
  entropies = logprobs.entropy(jnp.log(probs))
  np.testing.assert_allclose(entropies, expected, rtol=1e-6)


def test_entropy_of_a_certain_token_is_zero_with_a_finite_gradient():
  logits = jnp.array([0.0, -1e30, -1e30])
  value, gradient = jax.value_and_grad(
    lambda x: logprobs.entropy(jax.nn.log_softmax(x))
  )(logits)
  assert value == 0
  assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("wrong", range(4))
def test_wrong_ranks_are_refused(batch, wrong):
  prompts, completions, mask = batch
  arguments = [prompts, LENGTHS, completions, mask]
  arguments[wrong] = arguments[wrong][None]
  model, params = plain.tiny()
  with pytest.raises(AssertionError, match="rank"):
    jax.eval_shape(
      functools.partial(score, model, temperature=1.0), params, *arguments
    )


@functools.partial(jax.jit, static_argnums=2)
@functools.partial(jax.grad, has_aux=True)
def chunked_gradient(params, batch, chunk):
  """The gradient of a loss of both results, and the results."""
  prompts, completions, mask = batch
  log_probs, entropies = logprobs.completion_log_probs(
    plain.tiny()[0],
    params,
    prompts,
    LENGTHS,
    completions,
    mask,
    temperature=TEMPERATURE,
    logits_chunk=chunk,
  )
  return jnp.sum(log_probs * entropies), (log_probs, entropies)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [3, 7])
def test_chunks_change_nothing(batch, chunk):
  """A chunk that does not divide T = 7, and one that holds all."""
  params = plain.tiny()[1]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
    chunked_gradient(params, batch, chunk),
    chunked_gradient(params, batch, None),
  )


@pytest.mark.slow
def test_a_prefix_is_scored_as_its_prompts_are(batch):
  """The two halves, which training calls apart, are the whole."""
  model, params = plain.tiny()
  prompts, completions, mask = batch

  @jax.jit
  def halves(params):
    prefix = logprobs.prefill(model, params, models.Prompts(prompts, LENGTHS))
    return logprobs.token_log_probs(
      model, params, prefix, completions, mask, temperature=TEMPERATURE
    )

  for ours, whole in zip(halves(params), score_batch(params, batch)):
    np.testing.assert_array_equal(ours, whole)


@pytest.mark.slow
def test_no_array_of_all_logits_exists():
  """With the vocabulary of Gemma 2: B n T V float32 would be 1 GB."""
  T, V = 128, 256_128
  model = plain.tiny_model(num_embed=V)
  params = models.abstract_params(model)

  def loss(params, prompts, lengths, completions, mask, chunk):
    log_probs, entropies = logprobs.completion_log_probs(
      model,
      params,
      prompts,
      lengths,
      completions,
      mask,
      temperature=1.0,
      logits_chunk=chunk,
    )
    return jnp.sum(log_probs) + jnp.sum(entropies)

  def temporaries(chunk):
    ints = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    arrays = (
      ints((B, 8)),
      ints((B,)),
      ints((B, n, T)),
      jax.ShapeDtypeStruct((B, n, T), bool),
    )
    program = jax.jit(jax.grad(loss), static_argnums=5)
    compiled = program.lower(params, *arrays, chunk).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  all_logits = 4 * B * n * T * V
  assert temporaries(None) > all_logits
  assert temporaries(8) < all_logits / 3
