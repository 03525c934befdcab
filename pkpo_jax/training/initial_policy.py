"""The parameters that training starts from, wherever they come from."""

import pathlib
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import formats, models, sharding
from pkpo_jax.rl import train_step
from pkpo_jax.training import (
  build_run,
  checkpointing,
  k_by_problem,
  pretraining,
)
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import workdir as workdir_lib


class InitialParams(NamedTuple):
  """What training starts from, on the mesh if one is set.

  Attributes:
    frozen: what is not trained, in the type the model computes in; {} without
      LoRA.
    trained: float32.
  """

  frozen: models.Params
  trained: models.Params


class Resumed(NamedTuple):
  """Where a run, new or resumed, goes on from.

  Attributes:
    progress: the state and the solved problems.
    frozen: see `InitialParams`.
    reference: the parameters of the KL term, in the type the model computes
      in; None where it has none.
    contents: a fingerprint of the base policy, if it was loaded.
  """

  progress: checkpointing.Progress
  frozen: models.Params
  reference: models.Params | None
  contents: dict[str, str]


def restore_or_init(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  checkpointer: checkpointing.Checkpointer,
  folder: pathlib.Path,
) -> Resumed:
  """Restores the newest checkpoint, or else starts from the base policy.

  The base policy is loaded only where it is needed.
  """
  resumes = checkpointer.latest is not None
  base = InitialParams({}, None)
  if not resumes or config.loss.kl_coef or "lora_rank" in config.model:
    base = initial_params(config, parts, folder)
  contents = contents_of(base)
  reference = None
  if config.loss.kl_coef:
    # A copy: the update overwrites the parameters that it is given.
    reference = jax.tree.map(
      lambda x: jnp.array(x, parts.model.dtype, copy=True), base.trained
    )
  progress = abstract_progress(config, parts)
  if resumes:
    progress = checkpointer.restore(progress)
  else:
    optimizer = build_run.make_optimizer(config)
    state = train_step.init_state(base.trained, optimizer)
    progress = progress._replace(state=state)
  return Resumed(progress, base.frozen, reference, contents)


def abstract_progress(
  config: ml_collections.ConfigDict, parts: build_run.Parts
) -> checkpointing.Progress:
  """The progress before the first step, with shapes in place of the state.

  What `Checkpointer.restore` needs to know of a run.
  """
  optimizer = build_run.make_optimizer(config)
  state = train_step.abstract_state(parts.model, optimizer)
  N = len(parts.problems["train"])
  return checkpointing.Progress(
    sharding.with_shardings(state),
    np.full(N, checkpointing.NEVER, np.int32),
    k_by_problem.no_counts(N) if config_lib.by_problem(config) else None,
  )


def contents_of(base: InitialParams) -> dict[str, str]:
  """A fingerprint of all bits of the base policy, the same on every mesh."""
  if base.trained is None:
    return {}
  sums = multihost.fetch(checkpointing.checksums(base.frozen or base.trained))
  found = config_lib.fingerprint(str(sums.tolist()))
  return {"the weights of the base policy": found}


def initial_params(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
) -> InitialParams:
  """The base policy, with new adapters if the model has some.

  Args:
    config: a training config.
    parts: what `build_run.build` makes of it.
    folder: where base policies trained on demonstrations are kept.

  Raises:
    ValueError: the checkpoint of `config.base.path` has another model.
  """
  model = parts.model
  base = base_params(config, parts, folder)
  if models.without_adapters(model) is model:
    return InitialParams({}, base)
  round_all = jax.jit(lambda params: models.compute_params(model, params))
  return InitialParams(round_all(base), _adapters(model, config.seed))


def base_params(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
) -> models.Params:
  """The parameters of `config.base`, without adapters."""
  source = config.base.source
  model = models.without_adapters(parts.model)
  if source == "demonstrations":
    return pretraining.train_or_load(config, parts, folder)
  if source == "random":
    return _on_mesh(
      lambda: models.init_params(model, jax.random.key(config.base.seed))
    )
  if source == "run":
    return _params_of_run(pathlib.Path(config.base.path), parts)
  mesh = jax.sharding.get_mesh()
  mesh = None if mesh.empty else mesh
  loaded: nn.Module
  if source == "huggingface":
    loaded, params = formats.load_huggingface(config.base.path, mesh=mesh)
  else:
    loaded, params = formats.load_gemma(
      config.base.path, model=model, mesh=mesh
    )
  _check_model(config, model, loaded)
  return params


def _params_of_run(
  folder: pathlib.Path, parts: build_run.Parts
) -> models.Params:
  """The policy of another run's newest checkpoint.

  Raises:
    ValueError: the folder is no run's, or its policy is of another kind.
  """
  other = workdir_lib.read_config(folder)
  if "lora_rank" in other.model:
    raise ValueError(
      f"config.base.path={folder} has adapters (config.model.lora_rank="
      f"{other.model.lora_rank}); export its policy, and start from that."
    )
  steps = workdir_lib.complete_steps(folder / "checkpoints")
  if not steps:
    raise ValueError(f"config.base.path={folder} holds no checkpoint yet.")
  theirs = build_run.build_model(other, parts.tokenizer)
  model = models.without_adapters(parts.model)
  if theirs.config != model.config:
    raise ValueError(
      f"config.base.path={folder} is a run of another model: {theirs.config}"
      f" there, {model.config} in this config."
    )
  like = sharding.with_shardings(models.abstract_params(model))
  return checkpointing.restore_params(folder / "checkpoints", steps[-1], like)


def _adapters(model: nn.Module, seed: int) -> models.Params:
  def init():
    params = models.init_params(model, jax.random.key(seed))
    return models.split(model, params)[1]

  return _on_mesh(init)


def _on_mesh(init) -> models.Params:
  """Runs `init` so that every device makes only its own shards."""
  shardings = sharding.shardings_on_mesh(jax.eval_shape(init))
  return jax.jit(init, out_shardings=shardings)()


def _check_model(
  config: ml_collections.ConfigDict, model: nn.Module, loaded: nn.Module
) -> None:
  """The checkpoint must be of the model that the config describes."""
  asked, found = vars(model.config), vars(loaded.config)
  changes = [
    f"{name}: {asked[name]} in the config, {found[name]} in the checkpoint"
    for name in asked
    if name in found and asked[name] != found[name]
  ]
  if changes:
    raise ValueError(
      f"config.base.path={config.base.path} holds another model than"
      " config.model describes:\n  " + "\n  ".join(changes)
    )
