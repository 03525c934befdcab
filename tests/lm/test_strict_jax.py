"""pkpo_jax.lm under jax's strict modes: one sample and one score in each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import jax_settings, plain

from pkpo_jax.lm import logprobs, sampler, stop_strings, tokenizers

WORDS = tokenizers.WordTokenizer([*"abcdefghi"])
pytestmark = pytest.mark.slow
MODES = {
  "strict": {
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
  },
  "x64": {"jax_enable_x64": True},
  "debug": {"jax_debug_nans": True, "jax_debug_infs": True},
}


def sample_and_score(model, params):
  """Completions, their log-probs and entropies, and the gradient."""
  table = stop_strings.stop_table(WORDS, ["a b", "h"], plain.VOCABULARY)
  completions = sampler.sample(
    model,
    params,
    plain.PROMPTS,
    plain.LENGTHS,
    jax.random.key(0),
    n=2,
    max_new_tokens=6,
    temperature=0.7,
    stop_tokens=(1,),
    stop_table=table,
  )

  @jax.jit
  def loss(params):
    scored = logprobs.completion_log_probs(
      model,
      params,
      plain.PROMPTS,
      plain.LENGTHS,
      completions.tokens,
      completions.mask,
      temperature=0.7,
      logits_chunk=4,
    )
    return sum(jnp.sum(x) for x in scored), scored

  gradient, scored = jax.grad(loss, has_aux=True)(params)
  return jax.device_get((completions, scored, gradient))


@pytest.fixture(scope="module")
def usual():
  return sample_and_score(*plain.tiny())


@pytest.mark.parametrize("mode", MODES)
def test_a_policy_samples_and_is_scored(usual, mode):
  model, params = plain.tiny()
  with jax_settings.changed(**MODES[mode]):
    completions, scored, gradient = sample_and_score(model, params)
  types = [x.dtype for x in (*completions, *scored)]
  assert types == ["int32", "float32", "float32", "bool", "float32", "float32"]
  for leaf in jax.tree.leaves(gradient):
    assert leaf.dtype == np.float32 and np.isfinite(leaf).all()
  np.testing.assert_array_equal(completions.tokens, usual[0].tokens)
  for ours, theirs in zip(scored, completions[1:3]):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
