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
from pkpo_jax.lm import logprobs, models, sharding
from pkpo_jax.rl import configs, losses
from pkpo_jax.rl import rollout as rollout_lib

Metrics = dict[str, chex.Array]


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
  init = jax.jit(optimizer.init, out_shardings=sharding.ambient(shapes))
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
  k_schedule = configs.make_k_schedule(config)
  gradient = functools.partial(_gradient, model, config)

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
  """Or devices would do each other's work again, silently."""
  rows = config.prompts_per_step * config.n
  rows //= config.minibatches * config.accumulation
  devices = mesh.shape["data"] * mesh.shape["fsdp"]
  if rows % devices:
    raise ValueError(
      f"{rows} samples at a time (config.prompts_per_step="
      f"{config.prompts_per_step} x config.n={config.n} / config.minibatches="
      f"{config.minibatches} / config.accumulation={config.accumulation}) do"
      f" not split over the {devices} devices of data x fsdp; choose others, or"
      " raise config.mesh.tensor."
    )


def _gradient(
  model, config, params, frozen, reference, rollout, weights
) -> tuple[models.Params, Metrics]:
  """Of the loss of a minibatch, summed over parts of each group of n."""
  mask = rollout.completions.mask
  tokens = jnp.sum(mask)
  used = jnp.sum(mask & (weights[..., None] != 0))
  grad = jax.grad(functools.partial(_loss, model, config), has_aux=True)

  def of_part(part):
    completions, weights = part
    return grad(
      params, frozen, reference, rollout, completions, weights, tokens, used
    )

  whole = (rollout.completions, weights)
  if config.accumulation == 1:
    return of_part(whole)

  def split(x):
    """[B, n, ...] -> [parts, B, n / parts, ...]."""
    x = x.reshape(len(x), config.accumulation, -1, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  def add(total, part):
    return jax.tree.map(jnp.add, total, of_part(part)), None

  parts = jax.tree.map(split, whole)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(of_part, jax.tree.map(lambda x: x[0], parts)),
  )
  return jax.lax.scan(add, zeros, parts)[0]


def _loss(
  model,
  config,
  params,
  frozen,
  reference,
  rollout,
  completions,
  weights,
  tokens,
  used,
) -> tuple[chex.Array, Metrics]:
  """The loss of a part of a minibatch, and its terms as metrics.

  Means over tokens divide by those of the whole minibatch, so that parts add
  up to it: `tokens` in all, and `used` of them with a weight.
  """
  mask = completions.mask
  score = functools.partial(
    logprobs.completion_log_probs,
    model,
    prompts=rollout.prompts,
    prompt_lengths=rollout.prompt_lengths,
    completions=completions.tokens,
    mask=mask,
    temperature=config.temperature,
    logits_chunk=config.logits_chunk,
  )
  log_probs, entropies = score(models.merge(frozen, params))
  loss, stopped = losses.policy_loss(
    log_probs,
    completions.log_probs,
    mask,
    weights,
    clip_low=config.loss.clip_low,
    clip_high=config.loss.clip_high,
  )
  metrics = {"clip_fraction": losses.token_mean(stopped, mask, used)}
  if config.loss.entropy_coef:
    bonus = losses.token_mean(entropies, mask, tokens)
    loss -= config.loss.entropy_coef * bonus
  if config.loss.kl_coef:
    reference_log_probs, _ = score(
      jax.lax.stop_gradient(models.merge(frozen, reference))
    )
    scored = (log_probs, reference_log_probs, mask)
    kl = losses.token_mean(losses.kl_loss(*scored), mask, tokens)
    loss += config.loss.kl_coef * kl
    estimate = losses.kl_estimate(*scored)
    metrics["kl_to_reference"] = losses.token_mean(estimate, mask, tokens)
  metrics["loss"] = loss
  return loss, metrics


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
