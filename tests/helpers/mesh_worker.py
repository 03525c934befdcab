"""A rollout and its updates on meshes, for test_layouts.py: arrays to files.

Usage: python tests/helpers/mesh_worker.py FOLDER 1x1x1 2x4x1 ..., each of
them data x fsdp x tensor, with enough virtual devices for the largest
(XLA_FLAGS=--xla_force_host_platform_device_count).
"""

import pathlib
import sys

import jax
import numpy as np
import optax
from helpers import steps, tiny_config

from pkpo_jax.lm import models, sampler, sharding, stop_strings, tokenizers
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import train_step


def run(out: pathlib.Path, data: int, fsdp: int, tensor: int) -> None:
  config = tiny_config.get_config()
  with config.unlocked():
    # Dimensions that 8 divides. On several devices the layers are a scan, as in
    # the configs of pods, and one layer that is left over.
    config.model.update(num_heads=8, num_kv_heads=4, num_layers=3)
    config.model.remat = "none" if data * fsdp * tensor == 1 else "full"
  config.update(prompts_per_step=8, n=4, logits_chunk=2)
  config.microbatch.rows = 8
  model = models.get_model(config.model, num_embed=64)
  prompts = np.random.default_rng(0).integers(1, 64, (8, 6))
  lengths = np.array([3, 6, 1, 5, 2, 2, 4, 6])
  # An untrained policy is never right; so that there is something to learn,
  # first from all completions, and then from a few.
  rewards = np.random.default_rng(1).random((8, 4)).astype(np.float32)
  some = np.float32(rewards * [[1], [0], [0], [1], [0], [0], [0], [1]] > 0.6)

  words = tokenizers.WordTokenizer([f"{i:b}" for i in range(61)])
  table = stop_strings.stop_table(words, ["11 1"], 64)

  devices = jax.devices()[: data * fsdp * tensor]
  with jax.set_mesh(sharding.make_mesh(data, fsdp, tensor, devices=devices)):
    params = jax.jit(
      lambda: models.init_params(model, jax.random.key(0)),
      out_shardings=sharding.shardings_on_mesh(models.abstract_params(model)),
    )()
    completions = sampler.sample(
      model,
      params,
      prompts,
      lengths,
      jax.random.key(1),
      n=config.n,
      max_new_tokens=config.max_new_tokens,
      stop_tokens=range(1, 8),
      stop_table=table,
    )
    completions = jax.device_get(completions)
    # With such an epsilon, entries near 0 don't amplify rounding.
    optimizer = optax.adam(1e-3, eps=1e-3)
    update = steps.compiled(model, config, optimizer)
    state = train_step.init_state(params, optimizer)
    for graded in (rewards, some):
      rollout = rollout_lib.Rollout(
        prompts, lengths, completions, graded, graded >= 0, graded < 0
      )
      state, metrics = update(state, rollout, jax.random.key(0), {}, None)
    assert metrics["fraction_updated"] < 1
  leaves = jax.tree_util.tree_leaves_with_path((completions, state))
  arrays = {sharding.name_of(path): np.asarray(x) for path, x in leaves}
  np.savez(out, **arrays, grad_norm=metrics["grad_norm"])


if __name__ == "__main__":
  for layout in sys.argv[2:]:
    run(pathlib.Path(sys.argv[1], layout), *map(int, layout.split("x")))
