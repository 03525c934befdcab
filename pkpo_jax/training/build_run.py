"""Config -> task, tokenizer, model: what every command starts from."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import ml_collections
import numpy as np

from pkpo_jax import multihost, tasks
from pkpo_jax.lm import models, tokenizers
from pkpo_jax.rl import rollout
from pkpo_jax.tasks import base


@dataclasses.dataclass(frozen=True)
class Parts:
  """A task with the tokenizer and the model for it.

  Attributes:
    task: problems and grades.
    tokenizer: for prompts and completions.
    model: the policy, without parameters.
    rollout_worker: samples and grades with these.
    problems: those of "train" and of "test" whose prompts fit.
  """

  task: base.Task
  tokenizer: tokenizers.Tokenizer
  model: nn.Module
  rollout_worker: rollout.RolloutWorker
  problems: dict[str, list[base.Problem]]


def build(config: ml_collections.ConfigDict) -> Parts:
  """Builds what `config.task`, `config.tokenizer` and `config.model` describe.

  Raises:
    ValueError: an option is out of range, the three don't go together, or a
      prompt or an answer does not fit into the limits.
  """
  options = dict(config.task)
  task = tasks.get_task(options.pop("name"), **options)
  tokenizer = _tokenizer(config, task)
  model = _model(config, tokenizer)
  problems = {
    split: _fitting(config, tokenizer, split, task.problems(split))
    for split in ("train", "test")
  }
  rollout_worker = rollout.RolloutWorker(
    model,
    tokenizer,
    task,
    max_prompt_tokens=config.max_prompt_tokens,
    max_new_tokens=config.max_new_tokens,
    temperature=config.temperature,
  )
  return Parts(task, tokenizer, model, rollout_worker, problems)


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
  if not isinstance(task, base.WordTask):
    return tokenizers.get_tokenizer(options.pop("name"), **options)
  if task.max_answer_words + 1 > config.max_new_tokens:
    raise ValueError(
      f"config.max_new_tokens={config.max_new_tokens} is too small for answers"
      f" of {task.max_answer_words} words and EOS."
    )
  return tokenizers.WordTokenizer(task.words)


def _model(
  config: ml_collections.ConfigDict, tokenizer: tokenizers.Tokenizer
) -> nn.Module:
  """The model, with an embedding for every id of the tokenizer."""
  if config.tokenizer.name == "words":
    if "num_embed" in config.model:
      raise ValueError(
        f"config.model.num_embed={config.model.num_embed} has no effect: the"
        f" vocabulary of the task has {tokenizer.vocab_size} words."
      )
    return models.get_model(config.model, num_embed=tokenizer.vocab_size)
  model = models.get_model(config.model)
  if model.config.num_embed < tokenizer.vocab_size:
    raise ValueError(
      f"The model has {model.config.num_embed} embeddings for the"
      f" {tokenizer.vocab_size} ids of the tokenizer; raise"
      " config.model.num_embed or choose another config.tokenizer."
    )
  return model


def _fitting(
  config: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  split: str,
  problems: Sequence[base.Problem],
) -> list[base.Problem]:
  """Those whose prompts fit; all of them, unless the config says "drop"."""
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
  return [p for p, length in zip(problems, lengths) if length <= limit]
