"""The gradient of the loss, accumulated over microbatches.

Most completions of a hard problem have weight 0: every wrong one under
`sloo_minus_one`, and so all of a problem that was never solved. Without an
entropy bonus or a KL term they have no gradient and need no pass through the
model.

A rollout of B problems is sorted so that completions with a gradient come
first, then cut twice: into B / microbatch_prompts parts of prompts, and each of
these into n / microbatch_samples parts of completions. For each part of prompts

  prefill          [prompts, P] -> keys and values, once, kept for backward
  teacher forcing  [prompts, samples, T] on top of them, part by part: gradients
                   with respect to the parameters and to the keys and values
  backward         through the prefill, from the sum of the latter

so that P + n T tokens of each problem pass through the model, forward and
backward, instead of n (P + T). A part without any gradient is skipped, in one
compiled program (`lax.cond` inside `lax.scan`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from pkpo_jax.lm import logprobs, models
from pkpo_jax.rl import losses
from pkpo_jax.rl import rollout as rollout_lib

Metrics = dict[str, chex.Array]


class Measured(NamedTuple):
  """Measurements of an update, in a form in which several can be added up.

  Attributes:
    sums: name -> total over what is measured, tokens for instance.
    counts: name -> how many went into it; the metric is the ratio of the two.
    largest: name -> the largest value met; 0 if there was none.
  """

  sums: Metrics
  counts: Metrics
  largest: Metrics


@dataclasses.dataclass(frozen=True)
class UpdateOptions:
  """What the updates from one rollout do beside the transform.

  The policy term of the loss is a sum over the tokens of a completion: it grows
  with their number, and so does the norm of its gradient. The entropy bonus and
  the KL penalty are sums too, averaged over the B n completions. So the balance
  of the three depends neither on how long completions are nor on how they are
  cut into minibatches.

  Attributes:
    microbatch_prompts: how many prompts pass through the model at once; must
      divide the B / minibatches prompts of a minibatch.
    microbatch_samples: how many completions of each; must divide n.
    logits_chunk: tokens of a completion whose logits are in memory at once.
    temperature: of sampling; enters the log-probs of training too.
    epochs: passes over the rollout.
    minibatches: updates in a pass; must divide B.
    clip_low: a ratio of probabilities is clipped at 1 - clip_low from below.
    clip_high: it is clipped at 1 + clip_high from above.
    entropy_coef: bonus for the entropy of completions, in nats per completion:
      the sum of the entropies of the distributions that its tokens are from.
    kl_coef: penalty on KL(policy || reference), in nats per completion too.
    max_grad_norm: gradients of a larger global norm are scaled down to it; 0
      leaves all as they are.
    mask_truncated: whether the transform does not see completions that were cut
      off. They get no weight, like ungraded ones.
  """

  microbatch_prompts: int
  microbatch_samples: int
  logits_chunk: int
  temperature: float = 1.0
  epochs: int = 1
  minibatches: int = 1
  clip_low: float = 0.2
  clip_high: float = 0.2
  entropy_coef: float = 0.0
  kl_coef: float = 0.0
  mask_truncated: bool = False
  max_grad_norm: float = 0.0


class _Completions(NamedTuple):
  """n completions of each of B problems.

  Attributes:
    tokens: [B, n, T] int32.
    log_probs: [B, n, T] float32, when they were sampled.
    mask: [B, n, T] bool, False after the end of a completion.
    weights: [B, n] float32, from the transform.
    used: [B, n] bool, whether the completion has a gradient.
  """

  tokens: chex.Array
  log_probs: chex.Array
  mask: chex.Array
  weights: chex.Array
  used: chex.Array


class _Batch(NamedTuple):
  """B problems: prompts [B, P] and their lengths [B]."""

  prompts: chex.Array
  prompt_lengths: chex.Array
  completions: _Completions


class _Totals(NamedTuple):
  """Counts over all problems, by which the losses of parts add up to the loss.

  Attributes:
    problems: B.
    completions: B n.
  """

  problems: int
  completions: int


class _Part(NamedTuple):
  """Measurements of some completions: `Measured` without its counts."""

  sums: Metrics
  largest: Metrics


def gradient(
  model: nn.Module,
  options: UpdateOptions,
  params: models.Params,
  frozen: models.Params,
  reference: models.Params | None,
  rollout: rollout_lib.Rollout,
  weights: chex.Array,
) -> tuple[models.Params, Measured]:
  """Gradient of the loss, accumulated over microbatches.

  A completion of weight 0 has no gradient, unless an entropy bonus or a KL
  term gives it one. Those that have one are put first, and microbatches
  without any are skipped, if there are several: up to rounding, the result is
  that of all of them.

  Args:
    model: the policy.
    options: see `UpdateOptions`.
    params: the parameters that are trained, float32.
    frozen: the other parameters, {} without LoRA.
    reference: parameters of the KL term in place of the trained ones; or None.
    rollout: n completions of each of B problems.
    weights: [B, n] float32, from the transform.

  Returns:
    The gradient, float32; and what is measured of it: the loss, which tokens
    the clip stops, the completions that passed through the model, how far log
    p(token) is from the sampler's, and KL(policy || reference) if it counts.
  """
  batch = _used_first(_batch(options, rollout, weights))
  totals = _Totals(len(weights), weights.size)
  rounded, frozen, reference = (
    models.compute_params(model, x) for x in (params, frozen, reference)
  )
  grad = jax.grad(
    functools.partial(_loss, model, options, frozen, totals),
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
    if options.kl_coef:
      others += (reference, read(part, reference))

    def of_completions(total, some):
      """Adds the gradient of some completions of each of them."""
      grads, to_prompts, part = total
      gradient, more = grad(rounded, prompts, some, *others)
      return *_add((grads, to_prompts), gradient), _put_together(part, more)

    grads, measured = total
    grads, to_prompts, measured = _sum_up(
      of_completions,
      (grads, _zeros(prompts), measured),
      _parts_of_n(part.completions, options.microbatch_samples),
      lambda some: some.used,
    )
    (to_params,) = pull(_cast(to_prompts, prompts))
    return _add(grads, to_params), measured

  grads, measured = _sum_up(
    of_prompts,
    (_zeros(params), _nothing_measured(options)),
    _parts(batch, options.microbatch_prompts),
    lambda part: part.completions.used,
  )
  return grads, Measured(
    measured.sums, _counts(batch.completions, measured.sums), measured.largest
  )


def _batch(options, rollout, weights) -> _Batch:
  completions = rollout.completions
  every = options.entropy_coef or options.kl_coef
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


def _counts(completions: _Completions, names: Iterable[str]) -> Metrics:
  """How many the sums of each name are over, of all completions together."""

  def tokens(rows):
    return jnp.sum(completions.mask & rows[..., None], dtype=jnp.float32)

  used = tokens(completions.used)
  counts = {
    "loss": jnp.float32(1),
    "clip_fraction": tokens(completions.weights != 0),
    "fraction_updated": jnp.float32(completions.weights.size),
    "log_prob_mismatch": used,
    "kl_to_reference": used,
  }
  return {name: counts[name] for name in names}


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
  return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), tree)


def _add(total: Any, tree: Any) -> Any:
  return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, tree)


def _cast(tree: Any, like: Any) -> Any:
  return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def _nothing_measured(options: UpdateOptions) -> _Part:
  sums = ["loss", "clip_fraction", "fraction_updated", "log_prob_mismatch"]
  sums += ["kl_to_reference"] if options.kl_coef else []
  zero = jnp.float32(0)
  return _Part(
    dict.fromkeys(sums, zero), dict.fromkeys(["log_prob_mismatch"], zero)
  )


def _put_together(part: _Part, more: _Part) -> _Part:
  return _Part(
    jax.tree.map(jnp.add, part.sums, more.sums),
    jax.tree.map(jnp.maximum, part.largest, more.largest),
  )


def _loss(
  model,
  options,
  frozen,
  totals,
  trained,
  prompts,
  completions,
  prompt_lengths,
  reference=None,
  reference_prompts=None,
) -> tuple[chex.Array, _Part]:
  """The share of some completions in the loss, and what is measured of them."""
  mask, weights = completions.mask, completions.weights

  def score(params, prompts):
    return logprobs.token_log_probs(
      model,
      models.merge(frozen, params),
      models.Prefix(prompts[0], prompts[1], prompt_lengths),
      completions.tokens,
      mask,
      temperature=options.temperature,
      logits_chunk=options.logits_chunk,
    )

  log_probs, entropies = score(trained, prompts)
  loss, stopped = losses.policy_loss(
    log_probs,
    completions.log_probs,
    mask,
    weights,
    clip_low=options.clip_low,
    clip_high=options.clip_high,
  )
  loss *= len(weights) / totals.problems
  used = mask & completions.used[..., None]
  mismatch = jnp.where(used, jnp.abs(log_probs - completions.log_probs), 0)
  sums = {
    "clip_fraction": jnp.sum(stopped, dtype=jnp.float32),
    "fraction_updated": jnp.float32(weights.size),
    "log_prob_mismatch": jnp.sum(mismatch),
  }
  if options.entropy_coef:
    loss -= options.entropy_coef * jnp.sum(entropies) / totals.completions
  if options.kl_coef:
    scored = (
      log_probs,
      completions.log_probs,
      score(reference, reference_prompts)[0],
      mask,
    )
    kl = jnp.sum(losses.kl_loss(*scored)) / totals.completions
    loss += options.kl_coef * kl
    sums["kl_to_reference"] = jnp.sum(losses.kl_estimate(*scored))
  largest = {"log_prob_mismatch": jnp.max(mismatch)}
  return loss, _Part(sums | {"loss": loss}, largest)
