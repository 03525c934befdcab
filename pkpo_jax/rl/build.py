"""Config -> task, tokenizer, model: what every command starts from."""

import dataclasses

import flax.linen as nn
import ml_collections

from pkpo_jax import tasks
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
    roller: samples and grades with these.
  """

  task: base.WordTask
  tokenizer: tokenizers.WordTokenizer
  model: nn.Module
  roller: rollout.Roller


def build(config: ml_collections.ConfigDict) -> Parts:
  """Builds what `config.task`, `config.model` and the limits describe.

  Raises:
    ValueError: an option is out of range, or a prompt or an answer does not
      fit into the limits.
  """
  options = dict(config.task)
  task = tasks.get_task(options.pop("name"), **options)
  tokenizer = tokenizers.WordTokenizer(task.words)
  _check_limits(config, task, tokenizer)
  if "num_embed" in config.model:
    raise ValueError(
      f"config.model.num_embed={config.model.num_embed} has no effect: the"
      f" vocabulary of the task has {tokenizer.vocab_size} words."
    )
  model = models.get_model(config.model, num_embed=tokenizer.vocab_size)
  roller = rollout.Roller(
    model,
    tokenizer,
    task,
    max_prompt_tokens=config.max_prompt_tokens,
    max_new_tokens=config.max_new_tokens,
    temperature=config.temperature,
  )
  return Parts(task, tokenizer, model, roller)


def _check_limits(
  config: ml_collections.ConfigDict,
  task: base.WordTask,
  tokenizer: tokenizers.WordTokenizer,
) -> None:
  for split in ("train", "test"):
    rollout.encode_prompts(
      tokenizer, task.problems(split), config.max_prompt_tokens
    )
  if task.max_answer_words + 1 > config.max_new_tokens:
    raise ValueError(
      f"config.max_new_tokens={config.max_new_tokens} is too small for answers"
      f" of {task.max_answer_words} words and EOS."
    )
