"""The gradient of the loss, accumulated over microbatches.

Most completions of a hard problem have weight 0: every wrong one under
`sloo_minus_one`, and so all of a problem that was never solved. Without an
entropy bonus or a KL term they have no gradient and need no pass through the
model.

  prefill          reads the B prompts [B, P], each once, and keeps their keys
                   and values for the backward pass
  teacher forcing  reads completions [M, T] on top of them, microbatch by
                   microbatch of one flat list, until none is left that has a
                   gradient; those with respect to the parameters and to the
                   prompts' keys and values add up
  backward         through the prefill, from the sum of the latter

so that P + T tokens pass through the model, forward and backward, for each
problem and for each completion that is needed. A microbatch is cut to the
shortest of a few static lengths that holds its longest completion. All this is
one compiled program: loops and branches on the device leave out the rest.

On a mesh, the parameters are gathered once for all of this; a microbatch splits
over all devices, and its gradient is scattered to those that keep the
parameters: sums are nowhere whole.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from pkpo_jax.lm import logprobs, models, sharding, transformer
from pkpo_jax.rl import microbatches, objective
from pkpo_jax.rl import rollout as rollout_lib

Metrics = objective.Metrics

_GROUPS = 4  # of prompts, on one device


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


class _Sum(NamedTuple):
  """Gradients, float32, and measurements, which add up over microbatches."""

  to_params: models.Params
  to_prompts: objective.ReadPrompts
  measured: objective.Part


def gradient(
  model: nn.Module,
  options: objective.UpdateOptions,
  params: models.Params,
  frozen: models.Params,
  reference: models.Params | None,
  rollout: rollout_lib.Rollout,
  weights: chex.Array,
) -> tuple[models.Params, Measured]:
  """Gradient of the loss, accumulated over microbatches.

  A completion of weight 0 has no gradient, unless an entropy bonus or a KL
  term gives it one. Without one it passes through the model only where it fills
  up the last microbatch: up to rounding, the result is that of all of them.

  Args:
    model: the policy.
    options: see `objective.UpdateOptions`.
    params: the parameters that are trained, float32.
    frozen: the other parameters, {} without LoRA.
    reference: parameters of the KL term in place of the trained ones; or None.
    rollout: n completions of each of B problems.
    weights: [B, n] float32, from the transform.

  Returns:
    The gradient, float32, as `models.stack_layers` has the parameters; and what
    is measured of it: the loss, which tokens the clip stops, the completions
    that passed through the model, how far log p(token) is from the sampler's,
    and KL(policy || reference) if it counts.
  """
  rollout, weights = sharding.replicate((rollout, weights))  # to sort them
  every = options.entropy_coef or options.kl_coef
  used = jnp.full(weights.shape, True) if every else weights != 0
  order = jnp.argsort(~jnp.any(used, axis=-1), stable=True)
  prompts = models.Prompts(
    rollout.prompts[order], rollout.prompt_lengths[order]
  )
  rows, longest = microbatches.flat_list(
    rollout.completions,
    weights,
    used,
    jnp.argsort(order).astype(jnp.int32),
    options.microbatch_rows,
  )
  rounded, frozen, reference = (
    _gathered(model, x) for x in (params, frozen, reference)
  )

  def read(trained):
    needed = jnp.any(used, axis=-1)[order]
    return _read(model, models.merge(frozen, trained), prompts, needed)

  read_prompts, pull = jax.vjp(read, rounded)
  others: tuple[Any, ...] = (frozen, prompts.lengths)
  if options.kl_coef:
    others += (reference, read(reference))
  totals = objective.Totals(len(weights), weights.size)
  total = _sum_up(
    model, options, totals, rows, longest, rounded, read_prompts, others
  )
  (to_params,) = pull(_cast(total.to_prompts, read_prompts))
  to_params = sharding.constrain_params(to_params)
  sums, largest = total.measured
  counts = _counts(rollout.completions.mask, weights, used, sums)
  return _add(total.to_params, to_params), Measured(sums, counts, largest)


def _gathered(model: nn.Module, params: models.Params) -> models.Params:
  """Rounds and stacks parameters, and gathers them once for all microbatches.

  As the sampler does: so there is room for them.
  """
  params = models.stack_layers(model, models.compute_params(model, params))
  return sharding.gather_over_fsdp(params)


def _read(
  model: nn.Module,
  params: models.Params,
  prompts: models.Prompts,
  needed: chex.Array,
) -> objective.ReadPrompts:
  """Reads prompts; those of which nobody needs anything may be zeros.

  Args:
    model: the policy.
    params: its parameters.
    prompts: B prompts, those that are needed first.
    needed: [B] bool.
  """
  groups = _num_groups(len(needed))

  def prefill(prompts):
    prefix = logprobs.prefill(model, params, prompts)
    return objective.ReadPrompts(prefix.hidden, prefix.kv)

  if groups > 1:
    # A branch that is skipped would still fill what the other one keeps.
    prefill = jax.checkpoint(prefill, prevent_cse=False)

  def step(_, group):
    prompts, needed = group
    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(prefill, prompts)
    )
    some = jnp.any(needed)
    return None, jax.lax.cond(some, prefill, lambda _: zeros, prompts)

  def split(x):
    return x.reshape(groups, -1, *x.shape[1:])

  def join(x):
    return x.reshape(-1, *x.shape[2:])

  _, (hidden, kv) = jax.lax.scan(
    step, None, jax.tree.map(split, (prompts, needed))
  )
  kv = transformer.KVCache(
    jax.tree.map(jax.vmap(join, 1), kv.scanned), jax.tree.map(join, kv.unrolled)
  )
  return _hold(objective.ReadPrompts(join(hidden), kv))


def _num_groups(B: int) -> int:
  """Into how many groups B prompts are cut: one where devices share them."""
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and math.prod(mesh.shape.values()) > 1:
    return 1
  return math.gcd(B, _GROUPS)


def _hold(read: objective.ReadPrompts) -> objective.ReadPrompts:
  """Constrains what is read of prompts to the devices of their rows."""
  return objective.ReadPrompts(
    sharding.constrain_rows(read.hidden), transformer.constrain_cache(read.kv)
  )


def _sum_up(
  model: nn.Module,
  options: objective.UpdateOptions,
  totals: objective.Totals,
  rows: microbatches.Rows,
  longest: chex.Array,
  trained: models.Params,
  prompts: objective.ReadPrompts,
  others: tuple[Any, ...],
) -> _Sum:
  """Adds up gradients of microbatches, up to the last that has one.

  Args:
    model: the policy.
    options: see `objective.UpdateOptions`.
    totals: counts over all problems.
    rows: completions, in microbatches.
    longest: [R / M] int32, see `microbatches.flat_list`.
    trained: the parameters that are trained, rounded and stacked.
    prompts: what the completions read of them.
    others: the arguments of `loss_of` that have no gradient.
  """
  lengths = microbatches.cut_lengths(rows.tokens.shape[-1])
  grad = jax.grad(
    functools.partial(objective.loss_of, model, options, totals),
    argnums=(0, 1),
    has_aux=True,
  )

  def of_length(length, some):
    some = microbatches.cut_to(some, length)
    (to_params, to_prompts), measured = grad(trained, prompts, some, *others)
    return sharding.constrain_params(to_params), _hold(to_prompts), measured

  def step(carry):
    i, (to_params, to_prompts, measured) = carry
    shorter = jnp.array(lengths[:-1], jnp.int32)
    *grads, part = jax.lax.switch(
      jnp.sum(longest[i] > shorter, dtype=jnp.int32),
      [functools.partial(of_length, length) for length in lengths],
      jax.tree.map(lambda x: x[i], rows),
    )
    to_params, to_prompts = _add((to_params, to_prompts), tuple(grads))
    return i + 1, _Sum(to_params, to_prompts, _put_together(measured, part))

  def more(carry):
    used = jnp.sum(longest > 0, dtype=jnp.int32)
    return (carry[0] < len(longest)) & (carry[0] < used)

  nothing = _Sum(
    sharding.constrain_params(_zeros(trained)),
    _hold(_zeros(prompts)),
    objective.nothing_measured(options),
  )
  return jax.lax.while_loop(more, step, (jnp.int32(0), nothing))[1]


def _counts(
  mask: chex.Array, weights: chex.Array, used: chex.Array, names: Iterable[str]
) -> Metrics:
  """How many the sums of each name are over, of all completions together."""

  def tokens(rows):
    return jnp.sum(mask & rows[..., None], dtype=jnp.float32)

  counts = {
    "loss": jnp.float32(1),
    "clip_fraction": tokens(weights != 0),
    "fraction_updated": jnp.float32(weights.size),
    "log_prob_mismatch": tokens(used),
    "kl_to_reference": tokens(used),
  }
  return {name: counts[name] for name in names}


def _zeros(tree: Any) -> Any:
  """To add up gradients in, float32."""
  return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), tree)


def _add(total: Any, tree: Any) -> Any:
  return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, tree)


def _cast(tree: Any, like: Any) -> Any:
  return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def _put_together(part: objective.Part, more: objective.Part) -> objective.Part:
  return objective.Part(
    jax.tree.map(jnp.add, part.sums, more.sums),
    jax.tree.map(jnp.maximum, part.largest, more.largest),
  )
