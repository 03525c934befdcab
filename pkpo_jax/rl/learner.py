"""The update: rollout -> weights -> loss -> new parameters, in one program."""

import functools
from collections.abc import Callable

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax

from pkpo_jax import schedules, transforms
from pkpo_jax.lm import logprobs, models
from pkpo_jax.rl import losses
from pkpo_jax.rl import rollout as rollout_lib

Metrics = dict[str, chex.Array]


@flax.struct.dataclass
class TrainState:
  """What an update changes.

  Attributes:
    step: scalar int32, how many rollouts have been learned from.
    params: of the policy.
    opt_state: of the optimiser.
  """

  step: chex.Array
  params: models.Params
  opt_state: optax.OptState


Update = Callable[
  [TrainState, rollout_lib.Rollout, chex.PRNGKey], tuple[TrainState, Metrics]
]


def make_k_schedule(config: ml_collections.ConfigDict) -> schedules.Schedule:
  """The k of every step from `k_opt`, `k_boundaries` and `k_schedule`."""
  ks, boundaries = tuple(config.k_opt), tuple(config.k_boundaries)
  if config.k_schedule == "piecewise":
    return schedules.piecewise_k(ks, boundaries)
  if config.k_schedule == "linear" and len(ks) == 2 and len(boundaries) == 1:
    return schedules.linear_k(*ks, *boundaries)
  raise ValueError(
    f"k_schedule={config.k_schedule!r} with k_opt={ks} and"
    f" k_boundaries={boundaries}: must be 'piecewise' (one boundary fewer than"
    " ks) or 'linear' (two ks and one boundary)."
  )


def make_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """AdamW after clipping, with a linear warm-up to a constant rate."""
  rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
  if config.warmup_steps == 0:
    rate = optax.constant_schedule(config.learning_rate)
  return optax.chain(
    optax.clip_by_global_norm(config.max_grad_norm),
    optax.adamw(
      rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay
    ),
  )


def init_state(
  params: models.Params, optimizer: optax.GradientTransformation
) -> TrainState:
  """The state before the first step."""
  return TrainState(jnp.int32(0), params, optimizer.init(params))


def make_update(
  model: nn.Module,
  config: ml_collections.ConfigDict,
  optimizer: optax.GradientTransformation,
  *,
  reference: models.Params | None = None,
) -> Update:
  """Compiles the update of a config.

  Args:
    model: the policy.
    config: a training config, see configs/countdown.py.
    optimizer: of `make_optimizer`.
    reference: the parameters of the KL term; needed if `config.loss.kl_coef`
      is not 0.

  Returns:
    A jitted `update(state, rollout, key) -> (state, metrics)`. The key orders
    the minibatches. Compiles once for all k of the schedule.
  """
  transform = transforms.get_transform(config.transform)
  k_schedule = make_k_schedule(config)
  loss_fn = functools.partial(
    _loss, model, reference, config.loss, config.temperature
  )

  def minibatch(rollout, weights, state, rows):
    batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), rollout)
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, batch, weights[rows]
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics["grad_norm"] = optax.global_norm(grads)
    return state.replace(params=params, opt_state=opt_state), metrics

  @jax.jit
  def update(state, rollout, key):
    k = k_schedule(state.step)
    weigh = jax.vmap(lambda g, valid: transform(g, k, where=valid))
    weights = weigh(rollout.rewards, rollout.valid)
    order = _minibatch_order(
      key, len(weights), config.epochs, config.minibatches
    )
    state, metrics = jax.lax.scan(
      functools.partial(minibatch, rollout, weights), state, order
    )
    metrics = {name: jnp.mean(x) for name, x in metrics.items()}
    metrics["k"] = k
    metrics["groups_skipped"] = jnp.mean(jnp.all(weights == 0, axis=-1))
    return state.replace(step=state.step + 1), metrics

  return update


def _loss(
  model, reference, config, temperature, params, rollout, weights
) -> tuple[chex.Array, Metrics]:
  """The whole loss of a minibatch of problems, and its parts as metrics."""
  completions = rollout.completions
  score = functools.partial(
    logprobs.completion_log_probs,
    model,
    prompts=rollout.prompts,
    prompt_lengths=rollout.prompt_lengths,
    completions=completions.tokens,
    mask=completions.mask,
    temperature=temperature,
  )
  log_probs, entropies = score(params)
  loss, clip_fraction = losses.policy_loss(
    log_probs,
    completions.log_probs,
    completions.mask,
    weights,
    clip_low=config.clip_low,
    clip_high=config.clip_high,
  )
  metrics = {"clip_fraction": clip_fraction}
  if config.entropy_coef:
    entropy = losses.token_mean(entropies, completions.mask)
    loss -= config.entropy_coef * entropy
  if config.kl_coef:
    reference_log_probs, _ = score(jax.lax.stop_gradient(reference))
    kl = losses.kl_to_reference(
      log_probs, reference_log_probs, completions.mask
    )
    loss += config.kl_coef * kl
    metrics["kl_to_reference"] = kl
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
