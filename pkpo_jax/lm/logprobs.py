"""Log-probs and entropy of tokens under the distribution that is sampled.

The policy is the softmax of the soft-capped logits divided by the temperature,
with PAD excluded. The sampler draws from it and the trainer differentiates it:
both through `log_policy`, so that they cannot disagree.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from pkpo_jax.lm import models, sharding, transformer

# Prompts that were read: their last hidden states, and keys and values.
Prefix = tuple[chex.Array, transformer.KVCache]

# Finite, so that 0 * log 0 is 0 in entropies and their gradients.
_NEVER = -1e30


def log_policy(
  model: nn.Module,
  params: models.Params,
  hidden: chex.Array,
  temperature: chex.Numeric,
) -> chex.Array:
  """Hidden states [..., D] -> log-probabilities [..., V], float32."""
  logits = models.unembed(model, params, hidden) / temperature
  logits = logits.at[..., models.PAD].set(_NEVER)
  return jax.nn.log_softmax(logits, axis=-1)


def entropy(log_p: chex.Array) -> chex.Array:
  """Log-probabilities [..., V] -> exact entropy [...], in nats."""
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
  """Scores completions by teacher forcing, with gradients.

  The prompt is read once for its n completions, as in the sampler: P + n T
  tokens pass through the model instead of n (P + T), and gradients are summed
  through the shared prompt.

  Args:
    model: a model of `models.get_model`.
    params: its parameters.
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32.
    completions: [B, n, T] int32.
    mask: [B, n, T] bool, False after the end of a completion.
    temperature: the temperature of sampling.
    logits_chunk: how many tokens of a completion have their [B, n, chunk, V]
      logits in memory at once; all T by default. In the backward pass they are
      computed again.

  Returns:
    Log-probs of the tokens and entropies of the distributions they were drawn
    from, each [B, n, T] float32, zero where masked.
  """
  params = models.compute_params(model, params)
  return token_log_probs(
    model,
    params,
    prefill(model, params, prompts, prompt_lengths),
    prompt_lengths,
    completions,
    mask,
    temperature=temperature,
    logits_chunk=logits_chunk,
  )


def prefill(
  model: nn.Module,
  params: models.Params,
  prompts: chex.Array,
  prompt_lengths: chex.Array,
) -> Prefix:
  """The first half of `completion_log_probs`, on `models.compute_params`."""
  params = _with_whole_table(params)
  return models.prefill(model, params, prompts, prompt_lengths, training=True)


def token_log_probs(
  model: nn.Module,
  params: models.Params,
  read: Prefix,
  prompt_lengths: chex.Array,
  completions: chex.Array,
  mask: chex.Array,
  *,
  temperature: chex.Numeric,
  logits_chunk: int | None = None,
) -> tuple[chex.Array, chex.Array]:
  """The second half: scores completions of prompts that were read."""
  chex.assert_rank([prompt_lengths, completions, mask], [1, 3, 3])
  params = _with_whole_table(params)
  hidden = models.teacher_force(
    model, params, read, prompt_lengths, completions
  )
  tokens = jnp.where(mask, completions, 1)  # any token but PAD
  shape = completions.shape
  scored = _on_own_rows(
    functools.partial(
      _in_chunks, model, temperature, logits_chunk or shape[-1]
    ),
    params["embedder"],
    hidden,
    tokens.reshape(-1, shape[-1]),
  )
  log_probs, entropies = (x.reshape(shape) for x in scored)
  return jnp.where(mask, log_probs, 0), jnp.where(mask, entropies, 0)


def _with_whole_table(params: models.Params) -> models.Params:
  """The embedding table gathered, for looking up and for scoring alike.

  Pieces of it would have every device look up pieces of all rows.
  """
  return params | sharding.gather_over_fsdp({"embedder": params["embedder"]})


def _on_own_rows(compute, embedder, hidden, tokens):
  """Runs `compute(embedder, hidden, tokens)` on each device's own rows.

  Under a mesh the embedding table is gathered once, and its gradient summed
  over the devices once: left to the compiler, that would be for each chunk.
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


def _select(model, temperature, embedder, hidden, tokens):
  """Hidden states [..., D], tokens [...] -> log-probs and entropies [...]."""
  log_p = log_policy(model, {"embedder": embedder}, hidden, temperature)
  of_tokens = jnp.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]
  return of_tokens, entropy(log_p)


def _in_chunks(model, temperature, chunk, embedder, hidden, tokens):
  """`_select` for [R, T, D] and [R, T], one chunk of T at a time."""
  compute = functools.partial(_select, model, temperature, embedder)
  R, T = tokens.shape
  if chunk >= T:
    return compute(hidden, tokens)

  def split(x):
    """[R, T, ...] -> [chunks, R, chunk, ...], filled up with zeros."""
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
