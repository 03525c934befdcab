"""A training step: rewards -> weights -> loss -> new parameters.

`train_step` is a pure function; `compile_train_step` fixes what stays the same
in a run and jits the rest. Nothing here knows a config, a folder or a task.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import gradients, objective, optimizers
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.transforms import Transform

Metrics = objective.Metrics
UpdateOptions = objective.UpdateOptions
make_optimizer = optimizers.make_optimizer


@flax.struct.dataclass
class TrainState:
  """What an update changes.

  Attributes:
    step: scalar int32, how many rollouts have been learned from.
    params: the parameters that are trained, see `models.split`; float32.
    opt_state: state of the optimiser.
  """

  step: chex.Array
  params: models.Params
  opt_state: optax.OptState


TrainStep = Callable[
  [
    TrainState,
    rollout_lib.Rollout,
    chex.Numeric,
    chex.PRNGKey,
    models.Params,
    models.Params | None,
  ],
  tuple[TrainState, Metrics],
]


def init_state(
  params: models.Params, optimizer: optax.GradientTransformation
) -> TrainState:
  """The state before the first step; on the mesh, if one is set."""
  shapes = jax.eval_shape(optimizer.init, params)
  placed = sharding.shardings_on_mesh(shapes)
  init = jax.jit(optimizer.init, out_shardings=placed)
  return TrainState(jnp.int32(0), params, init(params))


def abstract_state(
  model: nn.Module, optimizer: optax.GradientTransformation
) -> TrainState:
  """Shapes and types of the state, without its arrays."""
  _, trained = models.split(model, models.abstract_params(model))
  return TrainState(
    jax.ShapeDtypeStruct((), jnp.int32),
    trained,
    jax.eval_shape(optimizer.init, trained),
  )


def train_step(
  state: TrainState,
  rollout: rollout_lib.Rollout,
  k: chex.Numeric,
  key: chex.PRNGKey,
  frozen: models.Params,
  reference: models.Params | None,
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  transform: Transform,
  options: UpdateOptions,
) -> tuple[TrainState, Metrics]:
  """Weighs the rewards of a rollout and updates the policy.

  Args:
    state: before the step.
    rollout: n graded completions of each of B problems.
    k: the k of pass@k: one int for all problems, or [B], one for each. May be
      traced: all values of k share one compilation.
    key: orders the minibatches.
    frozen: parameters that are not trained, {} without LoRA.
    reference: parameters of the KL term in place of the trained ones, or None
      where `options.kl_coef` is 0.
    model: the policy, without parameters.
    optimizer: such as that of `make_optimizer`.
    transform: rewards [n] -> weights [n], such as `pkpo_jax.sloo_minus_one`.
    options: everything else that the updates depend on.

  Returns:
    The state after the step; and metrics over all its updates, see `_metrics`.
  """
  B = len(rollout.rewards)
  where = rollout_lib.samples_that_count(rollout, options.mask_truncated)
  asked = jnp.broadcast_to(k, B)
  k_used = admitted_k(transform, asked, where)
  weights = jax.vmap(lambda g, ok, k: transform(g, k, where=ok))(
    rollout.rewards, where, k_used
  )

  def update(state, rows):
    """Takes the gradient on some problems, and one step along it."""
    batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), rollout)
    grads, measured = gradients.gradient(
      model, options, state.params, frozen, reference, batch, weights[rows]
    )
    # Adam would move the parameters without any gradient too, by what its
    # moments remember: the empty rollouts that follow one that taught something
    # would move them further than it did. (What is so small that its norm is 0
    # is nothing beside Adam's epsilon.)
    norm = optax.tree.norm(grads)
    # And one that is not finite would leave nothing of them.
    finite = jnp.isfinite(norm) & jnp.isfinite(measured.sums["loss"])
    skipped = (norm == 0) | ~finite
    grads = optimizers.clip(grads, norm, options.max_grad_norm)
    params, opt_state = optimizers.apply(
      optimizer,
      models.unstack_layers(model, grads),
      state.opt_state,
      state.params,
      state.step,
    )
    new = dataclasses.replace(state, params=params, opt_state=opt_state)
    # Element by element, which costs no memory; branches would copy the state.
    state = jax.tree.map(lambda x, y: jnp.where(skipped, x, y), state, new)
    return state, _Update(measured, norm, skipped)

  order = _minibatch_order(key, B, options.epochs, options.minibatches)
  state, updates = jax.lax.scan(update, state, order)
  metrics = _metrics(updates, options.max_grad_norm) | {
    "k": jnp.mean(asked, dtype=jnp.float32),
    "k_lowered": _fraction((k_used < asked) & jnp.any(where, axis=-1)),
    "groups_skipped": _fraction(jnp.all(weights == 0, axis=-1)),
  }
  return dataclasses.replace(state, step=state.step + 1), metrics


def admitted_k(
  transform: Transform, k: chex.Array, valid: chex.Array
) -> chex.Array:
  """Lowers k [B] where a group has too few graded samples for it.

  Of n samples a transform takes k up to n, or up to n - 1 if it needs one more
  for a baseline; asking it with n samples says which. A group with m graded
  samples then has its k lowered to m, or to m - 1, as if n had been m; at least
  to 1. If it takes neither n nor n - 1, its limit is unknown, and k stays.
  """
  n = valid.shape[-1]
  spare = next((i for i in (0, 1) if _takes(transform, n, n - i)), None)
  if spare is None:
    return k
  most = jnp.sum(valid, axis=-1, dtype=jnp.int32) - spare
  return jnp.minimum(k, jnp.maximum(most, 1).astype(k.dtype))


def _takes(transform: Transform, n: int, k: int) -> bool:
  """Whether the transform takes this k of n samples; computes nothing."""
  rewards = jax.ShapeDtypeStruct((n,), jnp.float32)
  where = jax.ShapeDtypeStruct((n,), jnp.bool_)
  try:
    jax.eval_shape(lambda g, ok: transform(g, k, where=ok), rewards, where)
  except ValueError:
    return False
  return True


class _Update(NamedTuple):
  """What is known of one update.

  Attributes:
    measured: see `gradients.gradient`.
    norm: global norm of the gradient, before it is clipped.
    skipped: scalar bool, whether there was no gradient at all, or it or the
      loss is not finite.
  """

  measured: gradients.Measured
  norm: chex.Array
  skipped: chex.Array


def _metrics(updates: _Update, max_grad_norm: float) -> Metrics:
  """Puts the updates of a step together: ratios of sums, not means of ratios.

  So they do not depend on how a rollout is cut into minibatches. The first
  update is at the parameters that sampled: what the trainer's log-probs differ
  by there is rounding, and the mismatch is taken from it alone.
  """
  sums, counts, largest = updates.measured
  made = jnp.sum(~updates.skipped, dtype=jnp.float32)
  metrics = {
    name: jnp.sum(sums[name]) / jnp.maximum(jnp.sum(counts[name]), 1)
    for name in sums
    if name != "log_prob_mismatch"
  }
  count = jnp.maximum(counts["log_prob_mismatch"][0], 1)
  clipped = (updates.norm > (max_grad_norm or jnp.inf)).astype(jnp.float32)
  return metrics | {
    "log_prob_mismatch_mean": sums["log_prob_mismatch"][0] / count,
    "log_prob_mismatch_max": largest["log_prob_mismatch"][0],
    "grad_norm": jnp.sum(updates.norm) / jnp.maximum(made, 1),
    "grad_clipped": jnp.sum(clipped) / jnp.maximum(made, 1),
    "updates_skipped": _fraction(updates.skipped),
  }


def _fraction(true: chex.Array) -> chex.Array:
  return jnp.mean(true, dtype=jnp.float32)


def compile_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  transform: Transform,
  options: UpdateOptions,
  *,
  num_prompts: int,
) -> TrainStep:
  """Jits `train_step` with what stays the same in a run.

  If a mesh is set, arguments and results are placed on it, see `shardings`, and
  the state is donated. Without one all is on one device, nothing donated.

  Args:
    model: the policy.
    optimizer: such as that of `make_optimizer`.
    transform: rewards [n] -> weights [n].
    options: see `UpdateOptions`.
    num_prompts: B, how many problems a rollout has.

  Returns:
    `step(state, rollout, k, key, frozen, reference) -> (state, metrics)`.

  Raises:
    ValueError: a microbatch does not split over the devices of the mesh.
  """
  step = functools.partial(
    train_step,
    model=model,
    optimizer=optimizer,
    transform=transform,
    options=options,
  )
  mesh = jax.sharding.get_mesh()
  if mesh.empty:
    return jax.jit(step)
  placed = shardings(mesh, model, optimizer, options, num_prompts)
  return jax.jit(
    step,
    in_shardings=placed,
    out_shardings=(placed[0], sharding.replicated(mesh)),
    donate_argnums=0,
  )


def shardings(
  mesh: Mesh,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  options: UpdateOptions,
  num_prompts: int,
) -> tuple[Any, ...]:
  """Where the six arguments of the train step lie on a mesh.

  The state, the frozen and the reference parameters go by their names, the
  rollout by its problems; k and the key are on every device.

  Raises:
    ValueError: a microbatch does not split over the devices.
  """
  _check_microbatch(mesh, options, num_prompts)
  frozen, trained = models.split(model, models.abstract_params(model))
  reference = trained if options.kl_coef else None
  by_name = functools.partial(sharding.param_shardings, mesh)
  whole = sharding.replicated(mesh)
  return (
    by_name(abstract_state(model, optimizer)),
    sharding.rows_sharding(mesh, num_prompts),
    whole,
    whole,
    by_name(frozen),
    by_name(reference),
  )


def _check_microbatch(
  mesh: Mesh, options: UpdateOptions, num_prompts: int
) -> None:
  """Checks that an update splits evenly over the devices."""
  rows, minibatches = options.microbatch_rows, options.minibatches
  what = (
    f"config.microbatch.rows={rows}, config.prompts_per_step={num_prompts} /"
    f" config.minibatches={minibatches}"
  )
  sharding.check_rows(mesh, num_prompts // minibatches, rows, what)


def _minibatch_order(
  key: chex.PRNGKey, B: int, epochs: int, minibatches: int
) -> chex.Array:
  """[epochs * minibatches, B / minibatches] rows, shuffled in every epoch."""
  if minibatches == 1:
    return jnp.broadcast_to(jnp.arange(B), (epochs, B))
  permute = jax.vmap(lambda key: jax.random.permutation(key, B))
  return permute(jax.random.split(key, epochs)).reshape(
    epochs * minibatches, B // minibatches
  )
