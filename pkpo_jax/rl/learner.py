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

from pkpo_jax import transforms
from pkpo_jax.lm import logprobs, models
from pkpo_jax.rl import configs, losses
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
  [TrainState, rollout_lib.Rollout, chex.PRNGKey, models.Params | None],
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
  """The state before the first step."""
  return TrainState(jnp.int32(0), params, optimizer.init(params))


def make_update(
  model: nn.Module,
  config: ml_collections.ConfigDict,
  optimizer: optax.GradientTransformation,
) -> Update:
  """Compiles the update of a config.

  Args:
    model: the policy.
    config: a training config, see configs/countdown.py.
    optimizer: of `make_optimizer`.

  Returns:
    A jitted `update(state, rollout, key, reference) -> (state, metrics)`. The
    key orders the minibatches; `reference` are the parameters of the KL term,
    or None where `config.loss.kl_coef` is 0. Compiles once for all k of the
    schedule.
  """
  transform = transforms.get_transform(config.transform)
  k_schedule = configs.make_k_schedule(config)
  loss_fn = functools.partial(_loss, model, config.loss, config.temperature)

  def minibatch(rollout, weights, reference, state, rows):
    batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), rollout)
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, reference, batch, weights[rows]
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics["grad_norm"] = optax.tree.norm(grads)
    return state.replace(params=params, opt_state=opt_state), metrics

  @jax.jit
  def update(state, rollout, key, reference):
    k = k_schedule(state.step)
    weigh = jax.vmap(lambda g, valid: transform(g, k, where=valid))
    weights = weigh(rollout.rewards, rollout.valid)
    order = _minibatch_order(
      key, len(weights), config.epochs, config.minibatches
    )
    state, metrics = jax.lax.scan(
      functools.partial(minibatch, rollout, weights, reference),
      state,
      order,
    )
    metrics = {name: jnp.mean(x) for name, x in metrics.items()}
    metrics["k"] = k
    metrics["groups_skipped"] = jnp.mean(jnp.all(weights == 0, axis=-1))
    return state.replace(step=state.step + 1), metrics

  return update


def _loss(
  model, config, temperature, params, reference, rollout, weights
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
    scored = (log_probs, reference_log_probs, completions.mask)
    loss += config.kl_coef * losses.kl_loss(*scored)
    metrics["kl_to_reference"] = losses.kl_estimate(*scored)
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
