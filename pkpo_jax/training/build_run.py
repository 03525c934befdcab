"""A config -> what a run is built from: problems, tokenizer, model.

What needs no model comes first, without importing gemma: so that a missing file
of data or of a vocabulary is answered in a second.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import ml_collections
import numpy as np

from pkpo_jax import multihost, tasks
from pkpo_jax.lm import sharding, tokenizers
from pkpo_jax.tasks import base
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import workdir as workdir_lib

if TYPE_CHECKING:
  import flax.linen as nn
  import optax

  from pkpo_jax.rl import rollout, train_step


@dataclasses.dataclass(frozen=True)
class Data:
  """A task with its tokenizer.

  Attributes:
    task: problems and grades.
    tokenizer: for prompts and completions.
    problems: those of each split, "train" and "test", whose prompts fit.
    dropped: how many of each split were left out because they are too long.
  """

  task: base.Task
  tokenizer: tokenizers.Tokenizer
  problems: dict[str, list[base.Problem]]
  dropped: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Parts(Data):
  """What a run is built from.

  Attributes:
    model: the policy, without parameters.
    rollout_worker: samples from it and grades.
  """

  model: "nn.Module"
  rollout_worker: "rollout.RolloutWorker"


def load_data(
  config: ml_collections.ConfigDict,
  splits: Sequence[str] = ("train", "test"),
) -> Data:
  """Loads the problems and the tokenizer that a config describes.

  Raises:
    ValueError: an option of `config.task` or `config.tokenizer` is out of
      range, the two don't go together, or a prompt or an answer does not fit
      into the limits.
    OSError: a file is missing.
  """
  task = make_task(config)
  tokenizer = _tokenizer(config, task)
  fitting = {
    split: _fitting(config, tokenizer, split, task.problems(split))
    for split in splits
  }
  problems = {split: kept for split, (kept, _) in fitting.items()}
  dropped = {split: number for split, (_, number) in fitting.items()}
  return Data(task, tokenizer, problems, dropped)


def build(
  config: ml_collections.ConfigDict,
  data: Data | None = None,
  *,
  temperature: float | None = None,
  top_p: float | None = None,
) -> Parts:
  """Builds the model and the rollout worker; and loads the data, unless given.

  Args:
    config: a training config.
    data: of `load_data`.
    temperature: of sampling, in place of the config's.
    top_p: of sampling, see `sampler.sample`.

  Raises:
    ValueError: as `load_data`; or the model does not go with the tokenizer, or
      what is sampled at once does not split over the mesh that is set.
  """
  from pkpo_jax.rl import rollout

  check_mesh(config)
  data = load_data(config) if data is None else data
  model = build_model(config, data.tokenizer)
  worker = rollout.RolloutWorker(
    model,
    data.tokenizer,
    data.task,
    max_prompt_tokens=config.max_prompt_tokens,
    max_new_tokens=config.max_new_tokens,
    temperature=config.temperature if temperature is None else temperature,
    stop=config.stop,
    truncated_is_wrong=config.truncated == "wrong",
    top_p=top_p,
  )
  fields = {f.name: getattr(data, f.name) for f in dataclasses.fields(Data)}
  return Parts(**fields, model=model, rollout_worker=worker)


def check_mesh(config: ml_collections.ConfigDict) -> None:
  """Checks what a step samples at once, if a mesh is set.

  An evaluation then splits over the mesh too, see `evaluation.plan_batch`.

  Raises:
    ValueError: as `sharding.check_rows`.
  """
  mesh, prompts, n = jax.sharding.get_mesh(), config.prompts_per_step, config.n
  if not mesh.empty:
    what = f"config.prompts_per_step={prompts}, config.n={n}"
    sharding.check_rows(mesh, prompts, prompts * n, what)


def make_optimizer(
  config: ml_collections.ConfigDict,
) -> "optax.GradientTransformation":
  """The optimiser of a config, see `train_step.make_optimizer`."""
  from pkpo_jax.rl import train_step

  return train_step.make_optimizer(
    config.learning_rate,
    warmup_steps=config.warmup_steps,
    decay_steps=config.decay_steps,
    b1=config.b1,
    b2=config.b2,
    weight_decay=config.weight_decay,
  )


def update_options(
  config: ml_collections.ConfigDict,
) -> "train_step.UpdateOptions":
  """What the train step takes from a config: the one place where they meet."""
  from pkpo_jax.rl import train_step

  return train_step.UpdateOptions(
    microbatch_rows=config.microbatch.rows,
    logits_chunk=config.logits_chunk,
    temperature=config.temperature,
    epochs=config.epochs,
    minibatches=config.minibatches,
    clip_low=config.loss.clip_low,
    clip_high=config.loss.clip_high,
    entropy_coef=config.loss.entropy_coef,
    kl_coef=config.loss.kl_coef,
    mask_truncated=config.truncated == "masked",
    max_grad_norm=config.max_grad_norm,
  )


def compile_train_step(
  config: ml_collections.ConfigDict,
  model: "nn.Module",
  optimizer: "optax.GradientTransformation",
) -> "train_step.TrainStep":
  """The jitted train step of a config, on the mesh if one is set."""
  from pkpo_jax.rl import train_step

  return train_step.compile_train_step(
    model,
    optimizer,
    config_lib.make_transform(config),
    update_options(config),
    num_prompts=config.prompts_per_step,
  )


def make_task(config: ml_collections.ConfigDict) -> base.Task:
  """The task of a config.

  Raises:
    ValueError: an option is out of range, or a file is missing.
  """
  options = dict(config.task)
  name = options.pop("name", None)
  try:
    return tasks.get_task(name, **options)
  except (TypeError, ValueError, OSError, ImportError) as error:
    raise ValueError(f"config.task (name={name!r}): {error}") from error


def _tokenizer(
  config: ml_collections.ConfigDict, task: base.Task
) -> tokenizers.Tokenizer:
  """The words of the task, or a vocabulary of Gemma."""
  options = dict(config.tokenizer)
  has_words = isinstance(task, base.WordTask)
  if (options["name"] == "words") != has_words:
    needed = "'words'" if has_words else "a vocabulary of Gemma's"
    raise ValueError(
      f"config.tokenizer.name={options['name']!r} does not go with"
      f" config.task.name={config.task.name!r}, which needs {needed}."
    )
  if has_words and len(options) > 1:
    others = ", ".join(f"config.tokenizer.{x}" for x in options if x != "name")
    raise ValueError(f"{others} has no effect: words are those of the task.")
  if not isinstance(task, base.WordTask):
    options["model"] = _stops_beside(config)
    return tokenizers.get_tokenizer(options.pop("name"), **options)
  if task.max_answer_words + 1 > config.max_new_tokens:
    raise ValueError(
      f"config.max_new_tokens={config.max_new_tokens} is too small for answers"
      f" of {task.max_answer_words} words and EOS."
    )
  return tokenizers.WordTokenizer(task.words)


def model_folder(config: ml_collections.ConfigDict) -> pathlib.Path | None:
  """The Hugging Face folder that a run's policy comes from, if from one.

  A run that began with another run's policy has that one's.

  Raises:
    ValueError: there is no such run.
  """
  while config.base.source == "run":
    path = pathlib.Path(config.base.path).expanduser()
    config = workdir_lib.read_config(path, "config.base.path")
  if config.base.source != "huggingface":
    return None
  return pathlib.Path(config.base.path).expanduser()


def _stops_beside(config: ml_collections.ConfigDict) -> pathlib.Path | None:
  """The folder whose stop tokens count too; None where it is gone.

  A later policy of a run needs no base; and where it stops is noted, see
  `provenance.contents`.
  """
  try:
    return model_folder(config)
  except ValueError:
    return None


def build_model(
  config: ml_collections.ConfigDict, tokenizer: tokenizers.Tokenizer
) -> "nn.Module":
  """The model, with an embedding for every id of the tokenizer.

  Raises:
    ValueError: `config.model` has an option that is unknown, out of range or
      without an effect, or does not go with the tokenizer.
  """
  from pkpo_jax.lm import models

  has_words = config.tokenizer.name == "words"
  if has_words and "num_embed" in config.model:
    raise ValueError(
      f"config.model.num_embed={config.model.num_embed} has no effect: the"
      f" vocabulary of the task has {tokenizer.vocab_size} words."
    )
  embeddings = {"num_embed": tokenizer.vocab_size} if has_words else {}
  try:
    model = models.get_model(config.model, **embeddings)
  except ValueError as error:
    raise ValueError(f"config.model: {error}") from error
  if model.config.num_embed < tokenizer.vocab_size:
    raise ValueError(
      f"The model has {model.config.num_embed} embeddings for the"
      f" {tokenizer.vocab_size} ids of the tokenizer; raise"
      " config.model.num_embed or choose another config.tokenizer."
    )
  family = getattr(tokenizer, "family", None)
  if family not in (None, models.family(model)):
    raise ValueError(
      f"config.tokenizer is the vocabulary of {family}, config.model.name="
      f"{config.model.name!r} is a {models.family(model)}: their ids differ."
    )
  return model


def _fitting(
  config: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  split: str,
  problems: Sequence[base.Problem],
) -> tuple[list[base.Problem], int]:
  """The problems whose prompts fit, and how many were dropped."""
  limit = config.max_prompt_tokens
  lengths = np.array([len(tokenizer.encode(p.prompt)) for p in problems])
  long = int(np.sum(lengths > limit))
  if long and config.long_prompts == "error":
    worst = int(np.argmax(lengths))
    raise ValueError(
      f"{long} of {len(problems)} {split} prompts have more than"
      f" config.max_prompt_tokens={limit} tokens, {problems[worst].id!r} has"
      f" {lengths[worst]} tokens; raise it, or set config.long_prompts='drop'."
    )
  if long == len(problems):
    raise ValueError(
      f"No {split} prompt fits into config.max_prompt_tokens={limit}; the"
      f" shortest has {lengths.min()} tokens."
    )
  if long and multihost.is_first():
    print(f"Dropped {long} of {len(problems)} {split} problems: too long.")
  kept = [p for p, length in zip(problems, lengths) if length <= limit]
  return kept, long
