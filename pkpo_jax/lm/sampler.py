"""n completions per prompt, in one jitted program.

Every prompt is read once, and its keys and values serve its n completions; the
decode loop ends when all rows have. Randomness is folded in by prompt, sample
and token, so that a completion does not depend on what else is in the batch.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pkpo_jax.lm import logprobs, models, sharding

_MIN_STAGED = 64  # tokens


class Completions(NamedTuple):
  """What was sampled; each [B, n, T].

  Attributes:
    tokens: int32; PAD after the end. A stop token is part of its completion.
    log_probs: float32, under the distribution they were drawn from.
    entropy: float32, of that distribution, in nats.
    mask: bool, True up to and with the stop token.
  """

  tokens: chex.Array
  log_probs: chex.Array
  entropy: chex.Array
  mask: chex.Array


def sample(
  model: nn.Module,
  params: models.Params,
  prompts: chex.Array,
  prompt_lengths: chex.Array,
  key: chex.PRNGKey,
  *,
  n: int,
  max_new_tokens: int,
  temperature: float = 1.0,
  stop_tokens: Sequence[int],
) -> Completions:
  """Samples n completions of every prompt.

  Args:
    model: a model of `models.get_model`.
    params: its parameters.
    prompts: [B, P] int32, padded at the right; lengths may differ.
    prompt_lengths: [B] int32, 1..P.
    key: one key, which is folded by the row of the prompt; or [B] keys, one
      for each prompt, for batches laid out otherwise.
    n: completions per prompt.
    max_new_tokens: T; a completion without a stop token ends there.
    temperature: divides the logits; 1 is the model's own distribution.
    stop_tokens: tokens that end a completion.

  Returns:
    Completions of shape [B, n, T], masked and zero after their ends.

  Raises:
    ValueError: a shape, a length or an option is out of range.
  """
  prompts, prompt_lengths = jnp.asarray(prompts), jnp.asarray(prompt_lengths)
  _check(prompts, prompt_lengths, n, max_new_tokens, temperature, stop_tokens)
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    key = jax.random.wrap_key_data(key)
  if key.shape not in ((), prompt_lengths.shape):
    raise ValueError(
      f"key must be one key or [B] keys, but has shape {key.shape} for"
      f" B={len(prompts)} prompts."
    )
  if key.ndim == 0:
    rows = jnp.arange(prompts.shape[0])
    key = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
  return program(
    model,
    params,
    prompts,
    prompt_lengths,
    key,
    temperature,
    n=n,
    T=max_new_tokens,
    stop_tokens=tuple(int(t) for t in stop_tokens),
  )


def _check(prompts, prompt_lengths, n, T, temperature, stop_tokens) -> None:
  if prompts.ndim != 2 or prompt_lengths.shape != prompts.shape[:1]:
    raise ValueError(
      f"prompts must be [B, P] and prompt_lengths [B], but are {prompts.shape}"
      f" and {prompt_lengths.shape}."
    )
  if n < 1 or T < 1:
    raise ValueError(f"n={n} and max_new_tokens={T} must be at least 1.")
  if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
    raise ValueError(f"temperature must be > 0, but is {temperature}.")
  if models.PAD in stop_tokens:
    raise ValueError(f"PAD ({models.PAD}) is never sampled: no stop token.")
  if not isinstance(prompt_lengths, jax.core.Tracer):
    lengths, P = np.asarray(prompt_lengths), prompts.shape[1]
    if ((lengths < 1) | (lengths > P)).any():
      raise ValueError(f"prompt_lengths must be in 1..{P}, but are {lengths}.")


def stages(T: int) -> list[tuple[int, int]]:
  """The loops in which completions of T tokens are decoded.

  Attention reads all slots of the cache, whether they are filled or not. So
  for all but short completions it grows once on the way, in a second loop.

  Returns:
    For each loop, how many slots are filled before and after it; the cache has
    as many as after it. The last token is not read again, and needs none.
  """
  half = (T - 1) // 2 if T >= _MIN_STAGED else 0
  return [(a, b) for a, b in ((0, half), (half, T - 1)) if a < b]


@functools.partial(jax.jit, static_argnames=("model", "n", "T", "stop_tokens"))
def program(
  model,
  params,
  prompts,
  prompt_lengths,
  keys,
  temperature,
  *,
  n,
  T,
  stop_tokens,
) -> Completions:
  """What `sample` compiles: read prompts, draw; then decode T - 1 times.

  Takes [B] keys, and lowers with shapes in place of arrays.
  """
  B = len(prompts)
  R = B * n
  fold_in = jax.vmap(jax.random.fold_in, (0, None))
  keys = jax.vmap(fold_in, (None, 0))(keys, jnp.arange(n)).T.reshape(R)
  params = sharding.gather_over_fsdp(models.compute_params(model, params))
  hidden, read = models.prefill(
    model, params, prompts, prompt_lengths, training=False
  )

  def draw(t, hidden, out, done):
    """Draws token t of every row and writes it down."""
    log_p = logprobs.log_policy(model, params, hidden, temperature)
    tokens = _categorical(fold_in(keys, t), log_p)
    tokens = jnp.where(done, models.PAD, tokens)
    log_probs = jnp.take_along_axis(log_p, tokens[:, None], axis=-1)[:, 0]
    new = Completions(
      tokens,
      jnp.where(done, 0, log_probs),
      jnp.where(done, 0, logprobs.entropy(log_p)),
      ~done,
    )
    out = jax.tree.map(
      lambda x, y: sharding.constrain_rows(x.at[:, t].set(y)), out, new
    )
    return out, done | jnp.isin(tokens, jnp.asarray(stop_tokens, jnp.int32))

  def step(start, carry):
    i, out, done, cache = carry
    t = start + i
    hidden, cache = models.decode(
      model,
      params,
      read,
      prompt_lengths,
      jax.lax.dynamic_slice_in_dim(out.tokens, t, 1, axis=1),
      cache,
      t,
    )
    out, done = draw(t + 1, hidden[:, 0], out, done)
    return i + 1, out, done, cache

  out = Completions(
    tokens=jnp.full((R, T), models.PAD, jnp.int32),
    log_probs=jnp.zeros((R, T)),
    entropy=jnp.zeros((R, T)),
    mask=jnp.zeros((R, T), bool),
  )
  hidden = jnp.repeat(hidden, n, axis=0)
  out, done = draw(0, hidden, out, jnp.zeros(R, bool))
  cache = models.empty_cache(model, R)
  for start, end in stages(T):
    _, out, done, cache = jax.lax.while_loop(
      lambda carry, steps=end - start: (carry[0] < steps) & ~jnp.all(carry[2]),
      functools.partial(step, start),
      (jnp.int32(0), out, done, models.grow_cache(cache, end)),
    )
  return jax.tree.map(
    lambda x: sharding.constrain_rows(x.reshape(B, n, T)), out
  )


def _categorical(keys, log_p):
  """One token per row: the first of the highest of Gumbel noise plus log_p.

  As `jax.random.categorical` has it, bit for bit; but on CPU XLA fuses its
  argmax with the noise into a loop over scalars.
  """
  V = log_p.shape[-1]
  noise = jax.vmap(lambda key: jax.random.gumbel(key, (V,), log_p.dtype))(keys)
  odds = log_p + noise
  highest = ~(odds < jnp.max(odds, axis=-1, keepdims=True))  # NaN is highest
  return jnp.min(jnp.where(highest, jnp.arange(V, dtype=jnp.int32), V), axis=-1)
