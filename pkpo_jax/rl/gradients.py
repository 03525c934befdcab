"""The gradient of the loss, computed only where there is one.

Most samples of a hard problem have weight 0: every wrong one under
`sloo_minus_one`, and whole groups of them. They need no pass through the model.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from pkpo_jax.lm import logprobs, models
from pkpo_jax.rl import losses
from pkpo_jax.rl import rollout as rollout_lib

Metrics = dict[str, chex.Array]


class _Completions(NamedTuple):
  """n of each of B problems; [B, n, T], and [B, n] the last two."""

  tokens: chex.Array
  log_probs: chex.Array
  mask: chex.Array
  weights: chex.Array
  used: chex.Array  # has a gradient


class _Batch(NamedTuple):
  """B problems: prompts [B, P] and their lengths [B]."""

  prompts: chex.Array
  prompt_lengths: chex.Array
  completions: _Completions


class _Totals(NamedTuple):
  """Of all problems, so that the losses of parts add up to the loss."""

  problems: int
  completions: int
  tokens: chex.Array
  weighted_tokens: chex.Array


def gradient(
  model: nn.Module,
  config: ml_collections.ConfigDict,
  params: models.Params,
  frozen: models.Params,
  reference: models.Params | None,
  rollout: rollout_lib.Rollout,
  weights: chex.Array,
) -> tuple[models.Params, Metrics]:
  """Of the loss, added up over microbatches.

  A completion of weight 0 has no gradient, unless an entropy bonus or a KL
  term gives it one. Those that have one are put first, and microbatches
  without any are skipped, if there are several: up to rounding, the result is
  that of all of them.

  Args:
    model: the policy.
    config: a training config; `config.microbatch` says how many prompts, and
      how many completions of each, pass through the model at once.
    params: those that are trained, float32.
    frozen: the others, {} without LoRA.
    reference: for the KL term, in place of the trained ones; or None.
    rollout: of B problems.
    weights: [B, n] of its completions.

  Returns:
    The gradient, float32; and the terms of the loss, with the fraction of the
    completions that passed through the model as `fraction_updated`.
  """
  batch = _used_first(_batch(config, rollout, weights))
  totals = _totals(batch.completions)
  rounded, frozen, reference = (
    models.compute_params(model, x) for x in (params, frozen, reference)
  )
  grad = jax.grad(
    functools.partial(_loss, model, config, frozen, totals),
    argnums=(0, 1),
    has_aux=True,
  )

  def read(part, trained):
    prefix = logprobs.prefill(
      model,
      models.merge(frozen, trained),
      models.Prompts(part.prompts, part.prompt_lengths),
    )
    # Without the lengths, which have no gradient.
    return prefix.hidden, prefix.kv

  def of_prompts(total, part):
    """Adds the gradient of some problems, whose prompts are read once."""
    prompts, pull = jax.vjp(functools.partial(read, part), rounded)
    others: tuple[Any, ...] = (part.prompt_lengths,)
    if config.loss.kl_coef:
      others += (reference, read(part, reference))

    def of_completions(total, some):
      """Adds the gradient of some completions of each of them."""
      (to_params, to_prompts), metrics = grad(rounded, prompts, some, *others)
      return _add(total, (to_params, to_prompts, metrics))

    grads, metrics = total
    grads, to_prompts, metrics = _sum_up(
      of_completions,
      (grads, _zeros(prompts), metrics),
      _parts_of_n(part.completions, config.microbatch.samples),
      lambda some: some.used,
    )
    (to_params,) = pull(_cast(to_prompts, prompts))
    return _add(grads, to_params), metrics

  return _sum_up(
    of_prompts,
    (_zeros(params), _no_metrics(config)),
    _parts(batch, config.microbatch.prompts),
    lambda part: part.completions.used,
  )


def _batch(config, rollout, weights) -> _Batch:
  completions = rollout.completions
  every = config.loss.entropy_coef or config.loss.kl_coef
  return _Batch(
    rollout.prompts,
    rollout.prompt_lengths,
    _Completions(
      completions.tokens,
      completions.log_probs,
      completions.mask,
      weights,
      jnp.full(weights.shape, True) if every else weights != 0,
    ),
  )


def _used_first(batch: _Batch) -> _Batch:
  """The completions of each problem, and problems with most of them first."""
  used = batch.completions.used
  rows = jnp.argsort(-jnp.sum(used, axis=-1), stable=True)
  columns = jnp.argsort(~used, axis=-1, stable=True)

  def sort(x):
    order = columns.reshape(*columns.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, order, axis=1)[rows]

  return _Batch(
    batch.prompts[rows],
    batch.prompt_lengths[rows],
    jax.tree.map(sort, batch.completions),
  )


def _totals(completions: _Completions) -> _Totals:
  mask = completions.mask
  weighted = mask & (completions.weights != 0)[..., None]
  return _Totals(
    len(mask), completions.weights.size, jnp.sum(mask), jnp.sum(weighted)
  )


def _sum_up(
  add: Callable[[Any, Any], Any],
  total: Any,
  parts: Any,
  used: Callable[[Any], chex.Array],
) -> Any:
  """`add(total, part)` for all parts of which something is used.

  One part alone is added unseen: a loop would keep two totals in memory.
  """
  if len(jax.tree.leaves(parts)[0]) == 1:
    return add(total, jax.tree.map(lambda x: x[0], parts))

  def step(total, part):
    some = jnp.any(used(part))
    return jax.lax.cond(some, add, lambda total, _: total, total, part), None

  return jax.lax.scan(step, total, parts)[0]


def _parts(tree: Any, size: int) -> Any:
  """[B, ...] -> [B / size, size, ...]."""
  return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def _parts_of_n(tree: Any, size: int) -> Any:
  """[B, n, ...] -> [n / size, B, size, ...]."""
  return jax.tree.map(
    lambda x: jnp.moveaxis(x.reshape(len(x), -1, size, *x.shape[2:]), 1, 0),
    tree,
  )


def _zeros(tree: Any) -> Any:
  """To add up gradients in, float32."""
  return jax.tree.map(lambda x: jnp.zeros(x.shape), tree)


def _add(total: Any, tree: Any) -> Any:
  return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, tree)


def _cast(tree: Any, like: Any) -> Any:
  return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def _no_metrics(config) -> Metrics:
  names = ["loss", "clip_fraction", "fraction_updated"]
  names += ["kl_to_reference"] if config.loss.kl_coef else []
  return dict.fromkeys(names, jnp.float32(0))


def _loss(
  model,
  config,
  frozen,
  totals,
  trained,
  prompts,
  completions,
  prompt_lengths,
  reference=None,
  reference_prompts=None,
) -> tuple[chex.Array, Metrics]:
  """The share of some completions in the loss, and its terms as metrics."""
  mask, weights = completions.mask, completions.weights

  def score(params, prompts):
    return logprobs.token_log_probs(
      model,
      models.merge(frozen, params),
      models.Prefix(prompts[0], prompts[1], prompt_lengths),
      completions.tokens,
      mask,
      temperature=config.temperature,
      logits_chunk=config.logits_chunk,
    )

  log_probs, entropies = score(trained, prompts)
  loss, stopped = losses.policy_loss(
    log_probs,
    completions.log_probs,
    mask,
    weights,
    clip_low=config.loss.clip_low,
    clip_high=config.loss.clip_high,
  )
  loss *= len(weights) / totals.problems
  metrics = {
    "clip_fraction": losses.token_mean(stopped, mask, totals.weighted_tokens),
    "fraction_updated": jnp.float32(weights.size / totals.completions),
  }
  if config.loss.entropy_coef:
    bonus = losses.token_mean(entropies, mask, totals.tokens)
    loss -= config.loss.entropy_coef * bonus
  if config.loss.kl_coef:
    scored = (log_probs, score(reference, reference_prompts)[0], mask)
    kl = losses.token_mean(losses.kl_loss(*scored), mask, totals.tokens)
    loss += config.loss.kl_coef * kl
    metrics["kl_to_reference"] = losses.token_mean(
      losses.kl_estimate(*scored), mask, totals.tokens
    )
  return loss, metrics | {"loss": loss}
