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
from pkpo_jax.training import workdir as workdir_lib
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
    ValueError: the checkpoint is damaged, or the base policy, where it is
      needed, not what the run began with.
  """
  frozen: models.Params = {}
  if step == BASE or "lora_rank" in config.model:
    base = initial_policy.initial_params(config, parts, base_dir)
    provenance.require_contents(workdir, initial_policy.contents_of(base))
    frozen, trained = base
  if step != BASE:
    shapes = models.split(parts.model, models.abstract_params(parts.model))[1]
    trained = checkpointing.restore_params(
      workdir / "checkpoints", step, sharding.with_shardings(shapes)
    )
  return frozen, trained


def source(config: ml_collections.ConfigDict) -> pathlib.Path | None:
  """The Hugging Face folder that a run's policy comes from, if from one.

  A run that began with another run's policy has that one's.
  """
  while config.base.source == "run":
    config = workdir_lib.read_config(pathlib.Path(config.base.path))
  if config.base.source != "huggingface":
    return None
  return pathlib.Path(config.base.path).expanduser()
