"""The sampler and the update of a config, lowered for a mesh without data."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from pkpo_jax.lm import models, sampler, sharding
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import train_step
from pkpo_jax.training import build_run

# The number of stop tokens is part of the program, not which they are.
_STOP_TOKENS = (1, 107)

_int32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
_float32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
_bool = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bool_)


def model_of(config: ml_collections.ConfigDict) -> Any:
  """The model of a config; a task with words of its own is built for them."""
  if config.tokenizer.name != "words":
    return models.get_model(config.model)
  return build_run.build(config).model


def trace_sampler(
  config: ml_collections.ConfigDict, mesh: Mesh
) -> jax.stages.Traced:
  """The program that samples, traced for the mesh, which must be set.

  Raises:
    ValueError: the completions do not split over the mesh.
  """
  build_run.check_mesh(config)
  model = model_of(config)
  B = config.prompts_per_step
  whole = sharding.replicated(mesh)
  frozen, trained = models.split(model, models.abstract_params(model))
  params = models.merge(models.compute_shapes(model, frozen), trained)
  return sampler.program.trace(
    model,
    sharding.with_shardings(params),
    _int32((B, config.max_prompt_tokens), sharding=whole),
    _int32((B,), sharding=whole),
    jax.eval_shape(
      lambda: jax.random.split(jax.random.key(0), (B, config.n))
    ).update(sharding=whole),
    config.temperature,
    T=config.max_new_tokens,
    stop_tokens=_STOP_TOKENS,
  )


def trace_update(config: ml_collections.ConfigDict) -> jax.stages.Traced:
  """The program that updates, traced for the mesh that is set."""
  model = model_of(config)
  optimizer = build_run.make_optimizer(config)
  frozen, trained = models.split(model, models.abstract_params(model))
  update: Any = build_run.compile_train_step(config, model, optimizer)
  return update.trace(
    train_step.abstract_state(model, optimizer),
    _rollout(config),
    _int32(()),
    jax.eval_shape(lambda: jax.random.key(0)),
    models.compute_shapes(model, frozen),
    models.compute_shapes(model, trained) if config.loss.kl_coef else None,
  )


def arrays(
  config: ml_collections.ConfigDict, mesh: Mesh
) -> dict[str, list[sharding.PlacedArray]]:
  """Everything that stays on the chips between the programs, by what it is."""
  model = model_of(config)
  optimizer = build_run.make_optimizer(config)
  frozen, trained = models.split(model, models.abstract_params(model))
  state = train_step.abstract_state(model, optimizer)
  kept = {
    "parameters": state.params,
    "optimizer": state.opt_state,
    "frozen": models.compute_shapes(model, frozen),
  }
  if config.loss.kl_coef:
    kept["reference"] = models.compute_shapes(model, trained)
  return {
    name: sharding.describe(tree, sharding.param_shardings(mesh, tree))
    for name, tree in kept.items()
    if jax.tree.leaves(tree)
  }


def _rollout(config: ml_collections.ConfigDict) -> rollout_lib.Rollout:
  B, n, P, T = (
    config.prompts_per_step,
    config.n,
    config.max_prompt_tokens,
    config.max_new_tokens,
  )
  completions = sampler.Completions(
    tokens=_int32((B, n, T)),
    log_probs=_float32((B, n, T)),
    entropy=_float32((B, n, T)),
    mask=_bool((B, n, T)),
  )
  rewards, flags = _float32((B, n)), _bool((B, n))
  return rollout_lib.Rollout(
    _int32((B, P)), _int32((B,)), completions, rewards, flags, flags
  )
