"""The update: rollout -> weights -> loss -> new parameters, in one program."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from pkpo_jax import transforms
from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import gradients
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.training import config as config_lib

Metrics = gradients.Metrics


@flax.struct.dataclass
class TrainState:
  """What an update changes.

  Attributes:
    step: scalar int32, how many rollouts have been learned from.
    params: those that are trained, see `models.split`; float32.
    opt_state: of the optimiser.
  """

  step: chex.Array
  params: models.Params
  opt_state: optax.OptState


Update = Callable[
  [
    TrainState,
    rollout_lib.Rollout,
    chex.PRNGKey,
    models.Params,
    models.Params | None,
  ],
  tuple[TrainState, Metrics],
]


def make_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """AdamW after clipping, with a linear warm-up to a constant rate."""
  rate = config.learning_rate
  if config.warmup_steps:
    first = rate / config.warmup_steps
    rate = optax.linear_schedule(first, rate, config.warmup_steps)
  return optax.chain(
    optax.clip_by_global_norm(config.max_grad_norm),
    optax.adamw(
      rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay
    ),
  )


def init_state(
  params: models.Params, optimizer: optax.GradientTransformation
) -> TrainState:
  """The state before the first step; on the mesh, if one is set."""
  shapes = jax.eval_shape(optimizer.init, params)
  init = jax.jit(
    optimizer.init, out_shardings=sharding.shardings_on_mesh(shapes)
  )
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


def make_update(
  model: nn.Module,
  config: ml_collections.ConfigDict,
  optimizer: optax.GradientTransformation,
) -> Update:
  """Compiles the update of a config.

  If a mesh is set, arguments and results are placed on it, see `shardings`, and
  the state is donated. Without one all is on one device, nothing donated.

  Args:
    model: the policy.
    config: a training config, see configs/countdown.py.
    optimizer: of `make_optimizer`.

  Returns:
    A jitted `update(state, rollout, key, frozen, reference) -> (state,
    metrics)`. The key orders the minibatches; `frozen` are the parameters that
    are not trained, {} without LoRA; `reference` those of the KL term that
    stand for the trained ones, or None where `config.loss.kl_coef` is 0.
    Compiles once for all k of the schedule.
  """
  transform = transforms.get_transform(config.transform)
  k_schedule = config_lib.make_k_schedule(config)
  gradient = functools.partial(gradients.gradient, model, config)

  def minibatch(rollout, weights, frozen, reference, state, rows):
    batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), rollout)
    grads, metrics = gradient(
      state.params, frozen, reference, batch, weights[rows]
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics["grad_norm"] = optax.tree.norm(grads)
    return state.replace(params=params, opt_state=opt_state), metrics

  def update(state, rollout, key, frozen, reference):
    k = k_schedule(state.step)
    weigh = jax.vmap(lambda g, valid: transform(g, k, where=valid))
    weights = weigh(rollout.rewards, rollout.valid)
    order = _minibatch_order(
      key, len(weights), config.epochs, config.minibatches
    )
    state, metrics = jax.lax.scan(
      functools.partial(minibatch, rollout, weights, frozen, reference),
      state,
      order,
    )
    metrics = {name: jnp.mean(x) for name, x in metrics.items()}
    metrics["k"] = k
    metrics["groups_skipped"] = jnp.mean(jnp.all(weights == 0, axis=-1))
    return state.replace(step=state.step + 1), metrics

  mesh = jax.sharding.get_mesh()
  if mesh.empty:
    return jax.jit(update)
  placed = shardings(mesh, model, config, optimizer)
  return jax.jit(
    update,
    in_shardings=placed,
    out_shardings=(placed[0], sharding.replicated(mesh)),
    donate_argnums=0,
  )


def shardings(
  mesh: Mesh,
  model: nn.Module,
  config: ml_collections.ConfigDict,
  optimizer: optax.GradientTransformation,
) -> tuple[Any, ...]:
  """Where the five arguments of the update lie.

  The state, the frozen and the reference parameters by their names, the
  rollout on its problems, and the key on every device.

  Raises:
    ValueError: the samples don't split over the devices.
  """
  _check_rows(mesh, config)
  frozen, trained = models.split(model, models.abstract_params(model))
  state = abstract_state(model, optimizer)
  reference = trained if config.loss.kl_coef else None
  by_name = functools.partial(sharding.param_shardings, mesh)
  return (
    by_name(state),
    sharding.rows_sharding(mesh, config.prompts_per_step),
    sharding.replicated(mesh),
    by_name(frozen),
    by_name(reference),
  )


def _check_rows(mesh: Mesh, config: ml_collections.ConfigDict) -> None:
  """Or devices would compute each other's completions again, silently."""
  rows = config.microbatch.prompts * config.microbatch.samples
  devices = mesh.shape["data"] * mesh.shape["fsdp"]
  if rows % devices:
    raise ValueError(
      f"{rows} samples at a time (config.microbatch.prompts="
      f"{config.microbatch.prompts} x config.microbatch.samples="
      f"{config.microbatch.samples}) do not split over the {devices} devices of"
      " data x fsdp; choose others, or raise config.mesh.tensor."
    )


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


def check_finite(step: int, metrics: dict[str, float], rate: float) -> None:
  """Stops a run before a broken state is saved.

  Raises:
    FloatingPointError: names the metrics of the update that are not finite.
  """
  broken = [name for name, x in metrics.items() if not np.isfinite(x)]
  if broken:
    raise FloatingPointError(
      f"{', '.join(broken)} not finite at step {step}; the last checkpoint is"
      f" intact. Lower config.learning_rate={rate}, or look for rewards that"
      " are not finite."
    )
