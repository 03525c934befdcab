"""A run's newest checkpoint on meshes, for test_many_processes: to files.

Usage: python tests/helpers/restore_worker.py WORKDIR FOLDER 1x8x1 none ...,
each of them data x fsdp x tensor with enough virtual devices for the largest,
or none for no mesh at all.
"""

import contextlib
import json
import pathlib
import sys

import jax
import ml_collections
import numpy as np

from pkpo_jax.lm import sharding
from pkpo_jax.training import build_run, checkpointing, initial_policy


def make_mesh(layout: str):
  if layout == "none":
    return contextlib.nullcontext()
  sizes = [int(size) for size in layout.split("x")]
  devices = jax.devices()[: np.prod(sizes)]
  return jax.set_mesh(sharding.make_mesh(*sizes, devices=devices))


def restore(workdir: pathlib.Path, config, parts) -> dict[str, np.ndarray]:
  like = initial_policy.abstract_progress(config, parts)
  checkpointer = checkpointing.Checkpointer(workdir / "checkpoints", keep=2)
  progress = checkpointer.restore(like)
  checkpointer.close()
  shardings = sharding.shardings_on_mesh(progress.state)
  if shardings is not None:
    placed = jax.tree.map(lambda x: x.sharding, progress.state)
    assert jax.tree.all(jax.tree.map(lambda x, y: x == y, placed, shardings))
  leaves = jax.tree_util.tree_leaves_with_path(progress.as_dict())
  return {sharding.name_of(path): np.asarray(x) for path, x in leaves}


if __name__ == "__main__":
  workdir, folder = map(pathlib.Path, sys.argv[1:3])
  config = ml_collections.ConfigDict(
    json.loads((workdir / "config.json").read_text())
  )
  parts = build_run.build(config)
  for layout in sys.argv[3:]:
    with make_mesh(layout):
      np.savez(folder / layout, **restore(workdir, config, parts))
