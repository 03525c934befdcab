"""A gradient -> new parameters: clipping, AdamW and its learning rate."""

import chex
import jax
import jax.numpy as jnp
import optax

from pkpo_jax.lm import models

_FLOOR = 0.1  # what a decay leaves of the learning rate, as a fraction


def make_optimizer(
  learning_rate: float,
  *,
  warmup_steps: int = 0,
  decay_steps: int = 0,
  b1: float = 0.9,
  b2: float = 0.95,
  weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """AdamW whose rate follows the steps of the run: `update(..., step=step)`.

  All updates of a step have its rate, and an update that is skipped delays
  nothing.

  Args:
    learning_rate: after the warm-up.
    warmup_steps: of a linear warm-up, from `learning_rate / warmup_steps` at
      step 0, not from 0.
    decay_steps: of a cosine after it, down to a tenth of the rate, which then
      stays; 0 for a rate that stays at once.
    b1: decay of the first moment.
    b2: decay of the second moment.
    weight_decay: decoupled; this fraction times the rate, each update.
  """
  schedule = optax.constant_schedule(learning_rate)
  if decay_steps:
    schedule = optax.cosine_decay_schedule(learning_rate, decay_steps, _FLOOR)
  if warmup_steps:
    first = learning_rate / warmup_steps
    warmup = optax.linear_schedule(first, learning_rate, warmup_steps)
    schedule = optax.join_schedules([warmup, schedule], [warmup_steps])
  return optax.chain(
    optax.scale_by_adam(b1=b1, b2=b2),
    optax.add_decayed_weights(weight_decay),
    _scale_by_rate(schedule),
  )


def _scale_by_rate(
  schedule: optax.Schedule,
) -> optax.GradientTransformationExtraArgs:
  """Multiplies updates by minus the rate at `step`; keeps no count."""

  def update(updates, state, params=None, *, step, **_):
    del params
    rate = jnp.asarray(schedule(jnp.asarray(step, jnp.float32)), jnp.float32)
    return jax.tree.map(lambda x: -rate.astype(x.dtype) * x, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def clip(
  grads: models.Params, norm: chex.Array, max_norm: float
) -> models.Params:
  """Scales a gradient of a larger norm down to `max_norm`; 0 for no limit."""
  if not max_norm:
    return grads
  scale = max_norm / jnp.maximum(norm, max_norm)
  return jax.tree.map(lambda x: x * scale, grads)


def apply(
  optimizer: optax.GradientTransformation,
  grads: models.Params,
  opt_state: optax.OptState,
  params: models.Params,
  step: chex.Numeric,
) -> tuple[models.Params, optax.OptState]:
  """Updates parameters and state; the optimiser may ask for the run's step."""
  optimizer = optax.with_extra_args_support(optimizer)
  # optax is written for jax's usual promotion of types.
  with jax.numpy_dtype_promotion("standard"):
    updates, opt_state = optimizer.update(grads, opt_state, params, step=step)
  return optax.apply_updates(params, updates), opt_state
