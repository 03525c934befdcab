"""The parameters that training starts from, wherever they come from."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import formats, models, sharding
from pkpo_jax.lm.formats import folder_kinds, huggingface
from pkpo_jax.rl import train_step
from pkpo_jax.training import (
  build_run,
  checkpointing,
  k_by_problem,
  pretraining,
  provenance,
)
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import workdir as workdir_lib

_STEP = "the step of the base policy"  # in contents.json


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
    contents: of the base policy, if it was loaded: a fingerprint, and the step
      of the run that it is from.
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
  begun_with: Mapping[str, str],
) -> Resumed:
  """Restores the newest checkpoint, or else starts from the base policy.

  The base policy is loaded only where it is needed.

  Args:
    config: a training config.
    parts: what `build_run.build` makes of it.
    checkpointer: of the run.
    folder: where base policies trained on demonstrations are kept.
    begun_with: the contents that the run has noted, see `provenance`.
  """
  resumes = checkpointer.latest is not None
  base, contents = InitialParams({}, None), {}
  if needs_base(config, resumes):
    step = base_step(config, begun_with if resumes else {})
    base = initial_params(config, parts, folder, step)
    contents = contents_of(base, step)
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


def needs_base(config: ml_collections.ConfigDict, resumes: bool) -> bool:
  """Whether a run, new or resumed, loads its base policy."""
  return not resumes or bool(config.loss.kl_coef) or "lora_rank" in config.model


def _path(config: ml_collections.ConfigDict) -> pathlib.Path:
  return pathlib.Path(config.base.path).expanduser()


def check_base(
  config: ml_collections.ConfigDict, workdir: pathlib.Path | None
) -> None:
  """Checks that `config.base.path` can be read, where it is needed.

  All processes call this, before the folder of the run is claimed.

  Args:
    config: a training config.
    workdir: the run's; None: of a trial, which begins anew.

  Raises:
    OSError, ValueError: it is not there, or is not what `config.base.source`
      says; or the processes differ in their config, or don't share `workdir`.
  """
  workdir_lib.check_same_everywhere(config_lib.to_json(config))
  begun_with, resumes = {}, False
  if workdir is not None and workdir_lib.complete_steps(
    workdir / "checkpoints"
  ):
    begun_with, resumes = provenance.saved_contents(workdir), True
  if not needs_base(config, resumes) or "path" not in config.base:
    return
  if not _path(config).exists():
    raise ValueError(
      f"config.base.path={config.base.path}: there is nothing by that name; see"
      " docs/pretrained_models.md."
    )
  if config.base.source == "huggingface":
    with huggingface.open_checkpoint(_path(config)):
      pass  # its headers can be read
  elif config.base.source == "gemma":
    folder_kinds.refuse_other(_path(config), "gemma")
  base_step(config, begun_with)


def base_step(
  config: ml_collections.ConfigDict, begun_with: Mapping[str, str]
) -> int | None:
  """The step of the other run's policy that a run begins with.

  All processes call this.

  Args:
    config: the run's.
    begun_with: what the run has noted if it has begun, else {}.

  Returns:
    The one noted, else that run's newest; None where the base policy is of no
    run.

  Raises:
    ValueError: `config.base.path` is no run's folder, or holds no such step.
  """
  if config.base.source != "run":
    return None
  return _step_of_run(config, begun_with)


def _step_of_run(
  config: ml_collections.ConfigDict, begun_with: Mapping[str, str]
) -> int:
  folder = _path(config)
  workdir_lib.read_config(folder, "config.base.path")
  steps = workdir_lib.complete_steps(folder / "checkpoints")
  if not steps:
    raise ValueError(f"config.base.path={folder} holds no checkpoint yet.")
  step = int(begun_with.get(_STEP, steps[-1]))
  if step not in steps:
    raise ValueError(
      f"config.base.path={folder} no longer holds step {step}, which this run"
      " has begun with and still needs (KL, LoRA, or --step=0): it was trained"
      f" on, and has {', '.join(map(str, steps))}. Bring that checkpoint back,"
      " or begin anew in another --workdir."
    )
  return step


def contents_of(base: InitialParams, step: int | None) -> dict[str, str]:
  """What `contents.json` says of a base policy.

  Args:
    base: the policy; its fingerprint, of all bits, is the same on every mesh.
    step: of `base_step`.
  """
  sums = multihost.fetch(checkpointing.checksums(base.frozen or base.trained))
  found = config_lib.fingerprint(str(sums.tolist()))
  noted = {} if step is None else {_STEP: str(step)}
  return {"the weights of the base policy": found} | noted


def initial_params(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
  step: int | None = None,
) -> InitialParams:
  """The base policy, with new adapters if the model has some.

  Args:
    config: a training config.
    parts: what `build_run.build` makes of it.
    folder: where base policies trained on demonstrations are kept.
    step: of `base_step`; None: as for a run that has not begun.

  Raises:
    ValueError: the checkpoint of `config.base.path` has another model.
  """
  model = parts.model
  base = base_params(config, parts, folder, step)
  if models.without_adapters(model) is model:
    return InitialParams({}, base)
  round_all = jax.jit(lambda params: models.compute_params(model, params))
  return InitialParams(round_all(base), _adapters(model, config.seed))


def base_params(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
  step: int | None = None,
) -> models.Params:
  """The parameters of `config.base`, without adapters; see `initial_params`."""
  source = config.base.source
  model = models.without_adapters(parts.model)
  if source == "demonstrations":
    return pretraining.train_or_load(config, parts, folder)
  if source == "random":
    return _on_mesh(
      lambda: models.init_params(model, jax.random.key(config.base.seed))
    )
  if source == "run":
    step = _step_of_run(config, {}) if step is None else step
    return _params_of_run(_path(config), parts, step)
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
  folder: pathlib.Path, parts: build_run.Parts, step: int
) -> models.Params:
  """The policy of another run after a step.

  Raises:
    ValueError: its policy is of another kind, or knows other words.
  """
  other = workdir_lib.read_config(folder, "config.base.path")
  if "lora_rank" in other.model:
    raise ValueError(
      f"config.base.path={folder} has adapters (config.model.lora_rank="
      f"{other.model.lora_rank}); export its policy, and start from that."
    )
  provenance.require_words(folder, other, parts.task)
  theirs = build_run.build_model(other, parts.tokenizer)
  model = models.without_adapters(parts.model)
  if theirs.config != model.config:
    raise ValueError(
      f"config.base.path={folder} is a run of another model: {theirs.config}"
      f" there, {model.config} in this config."
    )
  like = sharding.with_shardings(models.abstract_params(model))
  return checkpointing.restore_params(folder / "checkpoints", step, like)


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
