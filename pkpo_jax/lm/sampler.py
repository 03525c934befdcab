"""Samples n completions of every prompt, in one jitted program.

Every prompt is read once, and all its n completions attend to those keys and
values. The decode loop ends when all completions have ended; once half of them
have, and once 7 of 8 have, the rest goes on alone. Random keys are folded by
prompt, sample and token, so that a completion does not depend on what else is
in the batch.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pkpo_jax.lm import (
  drawing,
  logprobs,
  models,
  sharding,
  stop_strings,
  transformer,
)

_MIN_STAGED = 64  # tokens
_FEWER = (2, 8)  # parts of the rows that are left to be decoded alone
_MIN_ROWS = 16

_fold_in = jax.vmap(jax.random.fold_in, (0, None))


class Completions(NamedTuple):
  """n sampled completions of each of B prompts; each array is [B, n, T].

  Attributes:
    tokens: int32; PAD after the end. A stop token is part of its completion,
      and so is the token that completes a stop string.
    log_probs: float32, of the tokens under the distribution they were drawn
      from; greedily, under the model's own. Not finite where the policy is not.
    entropy: float32, the entropy of that distribution in nats.
    mask: bool, True up to the token that ends the completion, which is
      included.
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
  top_p: float | None = None,
  stop_tokens: Sequence[int],
  stop_table: chex.Array | None = None,
) -> Completions:
  """Samples n completions of every prompt.

  Args:
    model: a model of `models.get_model`.
    params: its parameters.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32, 1..P.
    key: one key, which is folded by the prompt's row; or [B] keys, one for each
      prompt, where the row must not matter; or [B, n] keys, one for each
      completion. A prompt's key is folded by the sample's number.
    n: completions per prompt.
    max_new_tokens: T; a completion that does not end before ends there.
    temperature: divides the logits; 1 is the model's own distribution, 0 is
      greedy: the likeliest token each time, and n=1.
    top_p: draws from the fewest likeliest tokens whose probability is at least
      that (Holtzman et al. 2020); None or 1: from all.
    stop_tokens: tokens that end a completion.
    stop_table: [S, V] integers, of `stop_strings.stop_table`: strings whose
      last character ends a completion.

  Returns:
    Completions of shape [B, n, T], zero and masked after their ends.

  Raises:
    ValueError: a shape, a length or an option is out of range.
  """
  prompts, prompt_lengths = jnp.asarray(prompts), jnp.asarray(prompt_lengths)
  _check(prompts, prompt_lengths, n, max_new_tokens, stop_tokens)
  _check_distribution(temperature, top_p, n)
  logprobs.check_prompts(model, models.Prompts(prompts, prompt_lengths))
  V = model.config.num_embed
  if stop_table is not None and stop_table.shape[1:] != (V,):
    raise ValueError(
      f"stop_table must be [S, V={V}], but is {stop_table.shape}."
    )
  greedy = not isinstance(temperature, jax.core.Tracer) and temperature == 0
  return program(
    model,
    params,
    prompts,
    prompt_lengths,
    _completion_keys(key, len(prompts), n),
    None if greedy else temperature,
    stop_table,
    None if top_p == 1 else top_p,
    T=max_new_tokens,
    stop_tokens=tuple(int(t) for t in stop_tokens),
  )


def _completion_keys(key: chex.PRNGKey, B: int, n: int) -> chex.PRNGKey:
  """One key, [B] or [B, n] keys -> [B, n] keys, one for each completion.

  Raises:
    ValueError: keys of another shape.
  """
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    key = jax.random.wrap_key_data(key)
  if key.shape not in ((), (B,), (B, n)):
    raise ValueError(
      "key must be one key, [B] or [B, n] keys, but has shape"
      f" {key.shape} for B={B} prompts and n={n}."
    )
  if key.ndim == 0:
    key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(B))
  if key.ndim == 1:
    fold_in = jax.vmap(jax.random.fold_in, (None, 0))
    key = jax.vmap(fold_in, (0, None))(key, jnp.arange(n))
  return key


def _check_distribution(
  temperature: chex.Numeric, top_p: chex.Numeric | None, n: int
) -> None:
  """Raises ValueError for a distribution that nothing can be drawn from."""
  least = float(np.finfo(np.float32).tiny)  # below, devices may take it for 0
  if not isinstance(temperature, jax.core.Tracer):
    if not (temperature == 0 or temperature >= least):
      raise ValueError(
        f"temperature must be 0, which is greedy, or at least {least:.2g}, but"
        f" is {temperature}."
      )
    if temperature == 0 and (n > 1 or top_p not in (None, 1)):
      raise ValueError(
        f"temperature=0 is greedy, so that n={n} must be 1 and top_p={top_p}"
        " has no effect: leave it out."
      )
  if (
    top_p is not None
    and not isinstance(top_p, jax.core.Tracer)
    and not least <= top_p <= 1
  ):
    raise ValueError(f"top_p={top_p} must be above 0 and at most 1.")


def _check(
  prompts: chex.Array,
  prompt_lengths: chex.Array,
  n: int,
  T: int,
  stop_tokens: Sequence[int],
) -> None:
  """Raises ValueError for arguments of `sample` that are out of range."""
  if prompts.ndim != 2 or prompt_lengths.shape != prompts.shape[:1]:
    raise ValueError(
      f"prompts must be [B, P] and prompt_lengths [B], but are {prompts.shape}"
      f" and {prompt_lengths.shape}."
    )
  if n < 1 or T < 1:
    raise ValueError(f"n={n} and max_new_tokens={T} must be at least 1.")
  if models.PAD in stop_tokens:
    raise ValueError(f"PAD ({models.PAD}) is never sampled: no stop token.")


def stages(T: int) -> list[tuple[int, int]]:
  """Plans the decode loops of completions of T tokens.

  Attention reads all slots of the cache, filled or not. So for all but short
  completions there are two loops, and the cache of the first is half as large.

  Returns:
    (start, end) of each loop: how many tokens are cached before and after it;
    its cache has `end` slots. The last token is not read again, and needs none.
  """
  half = (T - 1) // 2 if T >= _MIN_STAGED else 0
  return [(a, b) for a, b in ((0, half), (half, T - 1)) if a < b]


def row_sizes(R: int, T: int) -> list[int]:
  """Plans with how many of R rows decoding goes on once no more are left.

  Rows that have ended cost as much as others while they are in the batch. None
  leave where devices share the rows, which would have to be dealt out anew, and
  where reading the parameters takes the time; and none of few or short ones.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and math.prod(mesh.shape.values()) > 1:
    return []
  if T < _MIN_STAGED or R < _MIN_ROWS:
    return []
  return [R // part for part in _FEWER]


@functools.partial(jax.jit, static_argnames=("model", "T", "stop_tokens"))
def program(
  model: nn.Module,
  params: models.Params,
  prompts: chex.Array,
  prompt_lengths: chex.Array,
  keys: chex.PRNGKey,
  temperature: chex.Numeric | None,
  stop_table: chex.Array | None = None,
  top_p: chex.Numeric | None = None,
  *,
  T: int,
  stop_tokens: tuple[int, ...],
) -> Completions:
  """Prefills, draws a token, then decodes and draws up to T - 1 more.

  This is the jitted part of `sample`, which checks its arguments. It takes
  [B, n] keys, and None for a temperature that is 0; and can be traced with
  shapes in place of arrays.
  """
  B, n = keys.shape
  R = B * n
  keys = keys.reshape(R)
  params = sharding.gather_over_fsdp(models.compute_params(model, params))
  prompted = models.Prompts(prompts, prompt_lengths)
  prefix = models.prefill(model, params, prompted, training=False)
  decoder = _Decoder(
    model, params, temperature, top_p, stop_tokens, stop_table, T
  )
  out = Completions(
    tokens=jnp.full((R, T), models.PAD, jnp.int32),
    log_probs=jnp.zeros((R, T), jnp.float32),
    entropy=jnp.zeros((R, T), jnp.float32),
    mask=jnp.zeros((R, T), bool),
  )
  hidden = jnp.repeat(prefix.hidden, n, axis=0)
  cache = models.empty_cache(model, R)
  state = _State(out, stop_strings.no_ends(R, stop_table), cache)
  state = decoder.draw(keys, 0, hidden, state)
  sizes, done = row_sizes(R, T), jnp.int32(0)
  rows = _Rows(keys, jnp.repeat(jnp.arange(B, dtype=jnp.int32), n), prefix)
  for start, end in stages(T):
    grown = models.grow_cache(state.cache, end)
    steps, state = decoder.loop(
      rows,
      state._replace(cache=grown),
      start,
      end - start,
      sizes[0] if sizes else 0,
    )
    done += steps
  out = decoder.finish(rows, state, done, sizes)
  return jax.tree.map(
    lambda x: sharding.constrain_rows(x.reshape(B, n, T)), out
  )


class _Rows(NamedTuple):
  """What stays the same of R rows while they are decoded.

  Attributes:
    keys: [R].
    prompt: [R] int32, the row of `prefix`.
    prefix: their prompts, see `models.decode`.
  """

  keys: chex.PRNGKey
  prompt: chex.Array
  prefix: models.Prefix


class _State(NamedTuple):
  """What changes of R rows with every token.

  Attributes:
    out: the completions so far, [R, T] each.
    ends: see `_Ends`.
    cache: keys and values of the completions.
  """

  out: Completions
  ends: stop_strings.Ends
  cache: transformer.KVCache


def _take(rows: _Rows, kept: chex.Array) -> _Rows:
  """Takes some rows, each with a copy of what was read of its prompt."""
  prompt = rows.prompt[kept]
  return _Rows(
    rows.keys[kept],
    jnp.arange(len(kept), dtype=prompt.dtype),
    models.Prefix(*jax.tree.map(lambda x: x[prompt], rows.prefix[:3])),
  )


def _take_state(state: _State, kept: chex.Array) -> _State:
  return jax.tree.map(lambda x: x[kept], state)


class _Decoder(NamedTuple):
  """What is the same for all rows and tokens; `program` says what it is."""

  model: nn.Module
  params: models.Params
  temperature: chex.Numeric | None
  top_p: chex.Numeric | None
  stop_tokens: tuple[int, ...]
  stop_table: chex.Array | None
  T: int

  def draw(
    self, keys: chex.PRNGKey, t: chex.Numeric, hidden: chex.Array, state: _State
  ) -> _State:
    """Draws token t of every row, and writes it into `out`."""
    ends, done = state.ends, state.ends.done
    scale = 1.0 if self.temperature is None else self.temperature
    log_p = logprobs.log_policy(self.model, self.params, hidden, scale)
    if self.top_p is not None:
      log_p = drawing.nucleus(log_p, self.top_p)
    if self.temperature is None:
      tokens = drawing.argmax(log_p)
    else:
      tokens = drawing.categorical(_fold_in(keys, t), log_p)
    tokens = jnp.where(done, models.PAD, tokens)
    log_probs = jnp.take_along_axis(log_p, tokens[:, None], axis=-1)[:, 0]
    new = Completions(
      tokens,
      jnp.where(done, 0, log_probs),
      jnp.where(done, 0, logprobs.entropy(log_p)),
      ~done,
    )
    out = jax.tree.map(
      lambda x, y: sharding.constrain_rows(x.at[:, t].set(y)), state.out, new
    )
    ends = stop_strings.read_ends(
      ends, tokens, self.stop_tokens, self.stop_table
    )
    return state._replace(out=out, ends=ends)

  def loop(
    self,
    rows: _Rows,
    state: _State,
    start: chex.Numeric,
    steps: int,
    least: int,
  ) -> tuple[chex.Array, _State]:
    """Reads and draws the tokens after `start`, and counts them.

    It ends with token T - 1, after that many steps, or once no more than
    `least` rows go on.
    """

    def more(carry: tuple[chex.Array, _State]) -> chex.Array:
      i, state = carry
      going = jnp.sum(~state.ends.done, dtype=jnp.int32)
      in_time = True if isinstance(start, int) else start + i != self.T - 1
      return (i < steps) & in_time & (going > least)

    def step(carry: tuple[chex.Array, _State]) -> tuple[chex.Array, _State]:
      i, state = carry
      t = start + i
      token = jax.lax.dynamic_slice_in_dim(state.out.tokens, t, 1, axis=1)
      hidden, cache = models.decode(
        self.model, self.params, rows.prefix, token, state.cache, t
      )
      state = state._replace(cache=cache)
      return i + 1, self.draw(rows.keys, t + 1, hidden[:, 0], state)

    return jax.lax.while_loop(more, step, (jnp.int32(0), state))

  def finish(
    self, rows: _Rows, state: _State, start: chex.Array, sizes: list[int]
  ) -> Completions:
    """Goes on from token `start` with fewer and fewer rows, to the end."""
    if not sizes:
      return state.out
    kept = jnp.argsort(state.ends.done, stable=True)[: sizes[0]]

    def fewer() -> Completions:
      least = sizes[1] if sizes[1:] else 0
      some = _take(rows, kept), _take_state(state, kept)
      steps, after = self.loop(*some, start, self.T - 1, least)
      ours = self.finish(some[0], after, start + steps, sizes[1:])
      return jax.tree.map(lambda x, y: x.at[kept].set(y), state.out, ours)

    more = (start < self.T - 1) & ~jnp.all(state.ends.done)
    return jax.lax.cond(more, fewer, lambda: state.out)
