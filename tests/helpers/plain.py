"""The reference: whole sequences through gemma alone.

No cache and no gap between prompt and completion: positions 0, 1, 2, ... and a
causal mask for which no token is special. PAD is left out of the distribution
by deleting its column.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pkpo_jax.lm import models

VOCABULARY = 12
WINDOW = 4  # of the local layers: sequences here are longer

# A batch of B = 3, n = 2, P = 7, T = 6. Lengths differ, PAD, EOS and BOS occur
# inside, and the padding is junk.
LENGTHS = np.array([2, 5, 7])
PROMPTS = np.array(
  [[2, 1, 9, 9, 9, 9, 9], [0, 0, 2, 1, 5, 3, 0], [2, 7, 0, 1, 2, 0, 11]],
  np.int32,
)
COMPLETIONS = np.array(
  [
    [[4, 0, 1, 2, 8, 6], [0, 0, 0, 0, 0, 0]],
    [[1, 1, 10, 3, 0, 2], [5, 6, 7, 8, 9, 10]],
    [[2, 0, 11, 1, 4, 4], [3, 3, 3, 1, 0, 7]],
  ],
  np.int32,
)


def tiny_model(**overrides):
  """Two layers, and both soft-caps low enough to matter."""
  options = {
    "num_layers": 2,
    "num_embed": VOCABULARY,
    "embed_dim": 32,
    "hidden_dim": 64,
    "head_dim": 8,
    "final_logit_softcap": 5.0,
    "attn_logits_soft_cap": 3.0,
    "sliding_window_size": WINDOW,
  }
  return models.get_model("gemma2_tiny", **(options | overrides))


def random_params(model, seed=0):
  """Every parameter is drawn anew: sharp attention, norms that differ."""
  shapes = jax.eval_shape(lambda: models.init_params(model, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes
  )
  # Less of it, or every token would predict itself.
  return params | {
    "embedder": jax.tree.map(lambda x: x / 2, params["embedder"])
  }


@functools.cache
def tiny():
  """The model and parameters that most tests share."""
  model = tiny_model()
  return model, random_params(model)


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, sequences):
  """Tokens [R, L] -> logits [R, L, V] and hidden states [R, L, D]."""
  R, L = sequences.shape
  out = model.apply(
    {"params": params},
    sequences,
    positions=jnp.broadcast_to(jnp.arange(L), (R, L)),
    attention_mask=jnp.broadcast_to(jnp.tri(L, dtype=bool), (R, L, L)),
    return_hidden_states=True,
  )
  return out.logits, out.hidden_states


def join(prompts, lengths, completions):
  """The R = B n sequences without a gap, and where each completion starts.

  Sequences shorter than P + T are filled up at their ends, which causal
  attention cannot see.
  """
  n = completions.shape[1]
  rows = [
    [*prompt[:length], *completion, *[3] * (prompts.shape[1] - length)]
    for prompt, length, some in zip(prompts, lengths, completions)
    for completion in some
  ]
  return np.array(rows, np.int32), np.repeat(lengths, n)


def gather(values, starts, T):
  """[R, L, ...] -> [R, T, ...]: what is there before each completion token."""
  rows = np.arange(len(starts))[:, None]
  return values[rows, starts[:, None] - 1 + np.arange(T)]


def completion_logits(model, params, prompts, lengths, completions):
  """[B, n, T, V] logits that the tokens of the completions are drawn from."""
  B, n, T = completions.shape
  sequences, starts = join(prompts, lengths, completions)
  logits, _ = forward(model, params, sequences)
  return gather(logits, starts, T).reshape(B, n, T, -1)


def log_probs_and_entropy(
  model, params, prompts, lengths, completions, temperature
):
  """[B, n, T] log-probs of the tokens, none of which is PAD, and entropies."""
  logits = completion_logits(model, params, prompts, lengths, completions)
  odds = jnp.exp(logits[..., 1:] / temperature)
  probs = odds / jnp.sum(odds, axis=-1, keepdims=True)
  hit = jnp.arange(1, logits.shape[-1]) == completions[..., None]
  log_probs = jnp.log(jnp.sum(jnp.where(hit, probs, 0), axis=-1))
  return log_probs, -jnp.sum(probs * jnp.log(probs), axis=-1)
