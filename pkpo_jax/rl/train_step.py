"""A training step: rewards -> weights -> loss -> new parameters.

`train_step` is a pure function; `compile_train_step` fixes what stays the same
in a run and jits the rest. Nothing here knows a config, a folder or a task.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import gradients
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.transforms import Transform

Metrics = gradients.Metrics
UpdateOptions = gradients.UpdateOptions


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


def make_optimizer(
  learning_rate: float,
  *,
  warmup_steps: int = 0,
  b1: float = 0.9,
  b2: float = 0.95,
  weight_decay: float = 0.0,
  max_grad_norm: float = 1.0,
) -> optax.GradientTransformation:
  """AdamW after clipping by global norm; a linear warm-up to a constant rate.

  The first update has the rate `learning_rate / warmup_steps`, not 0.
  """
  rate: optax.ScalarOrSchedule = learning_rate
  if warmup_steps:
    first = learning_rate / warmup_steps
    rate = optax.linear_schedule(first, learning_rate, warmup_steps)
  return optax.chain(
    optax.clip_by_global_norm(max_grad_norm),
    optax.adamw(rate, b1=b1, b2=b2, weight_decay=weight_decay),
  )


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
    The state after the step; and metrics, the mean over its updates.
  """
  B = len(rollout.rewards)
  where = rollout.valid
  if options.mask_truncated:
    where = where & ~rollout.truncated
  weights = jax.vmap(lambda g, ok, k: transform(g, k, where=ok))(
    rollout.rewards, where, jnp.broadcast_to(k, B)
  )

  def update(state, rows):
    """Takes the gradient on some problems, and one step along it."""
    batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), rollout)
    grads, metrics = gradients.gradient(
      model, options, state.params, frozen, reference, batch, weights[rows]
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics["grad_norm"] = optax.tree.norm(grads)
    state = dataclasses.replace(state, params=params, opt_state=opt_state)
    return state, metrics

  order = _minibatch_order(key, B, options.epochs, options.minibatches)
  state, metrics = jax.lax.scan(update, state, order)
  metrics = {name: jnp.mean(x) for name, x in metrics.items()}
  metrics["k"] = jnp.mean(k)
  metrics["groups_skipped"] = jnp.mean(jnp.all(weights == 0, axis=-1))
  return dataclasses.replace(state, step=state.step + 1), metrics


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
  _check_microbatch(mesh, options)
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


def _check_microbatch(mesh: Mesh, options: UpdateOptions) -> None:
  """Checks that a microbatch splits evenly over the devices."""
  prompts, samples = options.microbatch_prompts, options.microbatch_samples
  what = f"config.microbatch.prompts={prompts}, .samples={samples}"
  sharding.check_rows(mesh, prompts, samples, what)


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
