"""The train step of a config, with k from its schedule."""

from pkpo_jax.training import build_run
from pkpo_jax.training import config as config_lib


def compiled(model, config, optimizer):
  """A function update(state, rollout, key, frozen, reference)."""
  step = build_run.compile_train_step(config, model, optimizer)
  k_schedule = config_lib.make_k_schedule(config)

  def update(state, rollout, key, frozen, reference):
    k = k_schedule(state.step)
    return step(state, rollout, k, key, frozen, reference)

  update.num_compiled = step._cache_size
  return update
