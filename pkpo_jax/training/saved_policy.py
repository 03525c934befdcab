"""The parameters of a policy that a run has saved."""

import pathlib

import ml_collections

from pkpo_jax.lm import models, sharding
from pkpo_jax.training import (
  build_run,
  checkpointing,
  initial_policy,
  provenance,
)
from pkpo_jax.training.evaluation_request import BASE


def load(
  workdir: pathlib.Path,
  step: int,
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  base_dir: pathlib.Path,
) -> tuple[models.Params, models.Params]:
  """The frozen and the trained parameters of a policy, on the mesh that is set.

  All processes call this.

  Args:
    workdir: the run's.
    step: how many it has taken; 0 is the base policy.
    config: the run's.
    parts: what `build_run.build` makes of it.
    base_dir: where base policies are kept.

  Raises:
    ValueError: the checkpoint is damaged; or the base policy, where it is
      needed, or where a completion ends, is not what the run began with.
  """
  provenance.require_contents(workdir, provenance.of_stops(parts))
  frozen: models.Params = {}
  if step == BASE or "lora_rank" in config.model:
    begun_with = provenance.saved_contents(workdir)
    first = initial_policy.base_step(config, begun_with)
    base = initial_policy.initial_params(config, parts, base_dir, first)
    contents = initial_policy.contents_of(base, first)
    provenance.require_contents(workdir, contents)
    frozen, trained = base
  if step != BASE:
    shapes = models.split(parts.model, models.abstract_params(parts.model))[1]
    trained = checkpointing.restore_params(
      workdir / "checkpoints", step, sharding.with_shardings(shapes)
    )
  return frozen, trained
