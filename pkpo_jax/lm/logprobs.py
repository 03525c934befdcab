"""Log-probs and entropy of tokens under the distribution that is sampled.

The policy is the softmax of the soft-capped logits divided by the temperature,
with PAD excluded. The sampler draws from it and training differentiates it,
both through `log_policy`, so that they cannot disagree.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from pkpo_jax.lm import models, sharding

# Finite, so that 0 * log 0 is 0 in entropies and their gradients.
NEVER = -1e30

# (embedder, hidden states, tokens) -> log-probs and entropies of the tokens
_Score = Callable[[Any, chex.Array, chex.Array], tuple[chex.Array, chex.Array]]


def log_policy(
  model: nn.Module,
  params: models.Params,
  hidden: chex.Array,
  temperature: chex.Numeric,
) -> chex.Array:
  """Maps hidden states [..., D] to log-probabilities [..., V], float32."""
  logits = models.unembed(model, params, hidden) / temperature
  logits = logits.at[..., models.PAD].set(NEVER)
  return jax.nn.log_softmax(logits, axis=-1)


def entropy(log_p: chex.Array) -> chex.Array:
  """Computes the exact entropy [...], in nats, of log-probs [..., V]."""
  return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def completion_log_probs(
  model: nn.Module,
  params: models.Params,
  prompts: chex.Array,
  prompt_lengths: chex.Array,
  completions: chex.Array,
  mask: chex.Array,
  *,
  temperature: chex.Numeric,
  logits_chunk: int | None = None,
) -> tuple[chex.Array, chex.Array]:
  """Computes the log-probs of completions by teacher forcing, differentiably.

  Each prompt is read once for its n completions, as in the sampler: P + n T
  tokens pass through the model instead of n (P + T), and the gradients of all
  n flow through the shared prompt.

  Args:
    model: a model of `models.get_model`.
    params: its parameters.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32.
    completions: [B, n, T] int32.
    mask: [B, n, T] bool, False after the end of a completion.
    temperature: the temperature of sampling.
    logits_chunk: how many tokens of a completion have their logits
      [B, n, chunk, V] in memory at once; by default all T. With chunks, the
      backward pass computes the logits again.

  Returns:
    Log-probs of the tokens, and entropies of the distributions that they were
    drawn from, each [B, n, T] float32, zero where masked.

  Raises:
    ValueError: a length or an id is out of range.
  """
  read = models.Prompts(prompts, prompt_lengths)
  check_prompts(model, read)
  check_ids(model, "completions", completions)
  params = models.compute_params(model, params)
  return token_log_probs(
    model,
    params,
    prefill(model, params, read),
    completions,
    mask,
    temperature=temperature,
    logits_chunk=logits_chunk,
  )


def check_ids(model: nn.Module, what: str, ids: chex.Array) -> None:
  """Raises ValueError for ids without an embedding; traced ones pass."""
  if isinstance(ids, jax.core.Tracer):
    return
  known, V = np.asarray(ids), model.config.num_embed
  if known.size and not 0 <= known.min() <= known.max() < V:
    raise ValueError(
      f"{what} must be ids in 0..{V - 1}, but are {known.min()}..{known.max()};"
      " take the tokenizer of this model."
    )


def check_prompts(model: nn.Module, prompts: models.Prompts) -> None:
  """Raises ValueError for lengths or ids out of range; traced ones pass."""
  check_ids(model, "prompts", prompts.tokens)
  if not isinstance(prompts.lengths, jax.core.Tracer):
    lengths, P = np.asarray(prompts.lengths), prompts.tokens.shape[1]
    if ((lengths < 1) | (lengths > P)).any():
      raise ValueError(f"prompt_lengths must be in 1..{P}, but are {lengths}.")


def prefill(
  model: nn.Module, params: models.Params, prompts: models.Prompts
) -> models.Prefix:
  """Reads prompts for training: the first half of `completion_log_probs`.

  Args:
    model: a model of `models.get_model`.
    params: its parameters, of `models.compute_params`.
    prompts: B prompts.

  Returns:
    The prefix that `token_log_probs` takes. Its `hidden` and `kv` have
    gradients; its `lengths` are integers.
  """
  params = _gather_table(params)
  return models.prefill(model, params, prompts, training=True)


def token_log_probs(
  model: nn.Module,
  params: models.Params,
  prefix: models.Prefix,
  completions: chex.Array,
  mask: chex.Array,
  *,
  temperature: chex.Numeric,
  logits_chunk: int | None = None,
) -> tuple[chex.Array, chex.Array]:
  """Scores completions of a prefix: the rest of `completion_log_probs`.

  Args:
    model: a model of `models.get_model`.
    params: its parameters, of `models.compute_params`.
    prefix: the prompts, of `prefill`.
    completions: [B, n, T] int32.
    mask: [B, n, T] bool, False after the end of a completion.
    temperature: the temperature of sampling.
    logits_chunk: see `completion_log_probs`.

  Returns:
    Log-probs and entropies, each [B, n, T] float32, zero where masked.
  """
  chex.assert_rank([prefix.lengths, completions, mask], [1, 3, 3])
  params = _gather_table(params)
  hidden = models.teacher_force(model, params, prefix, completions)
  tokens = jnp.where(mask, completions, 1)  # any token but PAD
  shape = completions.shape
  scored = _on_own_rows(
    functools.partial(
      _score_in_chunks, model, temperature, logits_chunk or shape[-1]
    ),
    params["embedder"],
    hidden,
    tokens.reshape(-1, shape[-1]),
  )
  log_probs, entropies = (x.reshape(shape) for x in scored)
  return jnp.where(mask, log_probs, 0), jnp.where(mask, entropies, 0)


def _gather_table(params: models.Params) -> models.Params:
  """Gathers the embedding table over `fsdp`, for looking up and for scoring.

  With a sharded table every device would look up its pieces of all rows.
  """
  return params | sharding.gather_over_fsdp({"embedder": params["embedder"]})


def _on_own_rows(
  compute: _Score, embedder: Any, hidden: chex.Array, tokens: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """Runs `compute(embedder, hidden, tokens)` on each device's own rows.

  Under a mesh this gathers the embedding table once, and sums its gradient over
  the devices once; the compiler would do both for each chunk of tokens.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axes = () if mesh.empty else sharding.rows_axes(mesh, len(tokens))
  axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
  if not axes:  # Of size 1 alone they would trip the compiler.
    return compute(embedder, hidden, tokens)
  rows, whole = PartitionSpec(axes), PartitionSpec()
  return jax.shard_map(
    compute,
    mesh=mesh,
    in_specs=(whole, rows, rows),
    out_specs=rows,
    axis_names=set(axes),
    check_vma=False,
  )(embedder, hidden, tokens)


def _score(
  model: nn.Module,
  temperature: chex.Numeric,
  embedder: Any,
  hidden: chex.Array,
  tokens: chex.Array,
) -> tuple[chex.Array, chex.Array]:
  """Maps hidden [..., D] and tokens [...] to log-probs and entropies [...]."""
  log_p = log_policy(model, {"embedder": embedder}, hidden, temperature)
  of_tokens = jnp.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]
  return of_tokens, entropy(log_p)


def _score_in_chunks(
  model: nn.Module,
  temperature: chex.Numeric,
  chunk: int,
  embedder: Any,
  hidden: chex.Array,
  tokens: chex.Array,
) -> tuple[chex.Array, chex.Array]:
  """Runs `_score` on [R, T, D] and [R, T], one chunk of T at a time."""
  compute = functools.partial(_score, model, temperature, embedder)
  R, T = tokens.shape
  if chunk >= T:
    return compute(hidden, tokens)

  def split(x):
    """Splits [R, T, ...] into [chunks, R, chunk, ...], padded with zeros."""
    x = jnp.pad(x, ((0, 0), (0, -T % chunk)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(R, -1, chunk, *x.shape[2:]), 1, 0)

  def step(_, args):
    return None, compute(*args)

  _, out = jax.lax.scan(
    jax.checkpoint(step), None, (split(hidden), split(tokens))
  )
  return jax.tree.map(
    lambda x: jnp.moveaxis(x, 0, 1).reshape(R, -1)[:, :T], out
  )
