"""Demonstrations -> a base policy, kept on disk under its fingerprint."""

import itertools
import pathlib
from collections.abc import Iterator

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax
import orbax.checkpoint as ocp

from pkpo_jax import multihost
from pkpo_jax.lm import logprobs, models, sharding, tokenizers
from pkpo_jax.rl import losses
from pkpo_jax.tasks import base
from pkpo_jax.training import build_run, progress_bar
from pkpo_jax.training import config as config_lib


def train_or_load(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
) -> models.Params:
  """A policy trained on the task's demonstrations as `config.base` says.

  Trained now, unless `folder` holds it already.

  Args:
    config: a training config; only `task`, `model`, `base` and the two limits
      on tokens matter.
    parts: what `build_run.build` makes of it.
    folder: where base policies are kept, each under its fingerprint.

  Returns:
    The parameters, the same bits whether trained now or loaded; on the mesh, if
    one is set.

  Raises:
    ValueError: several processes run, and `folder` does not hold them yet.
  """
  described = _describe(config, parts)
  path = _path(folder, described)
  if not path.exists():
    if jax.process_count() > 1:
      raise ValueError(
        f"{folder} does not hold the base policy of this config, {path.name};"
        " make it with experiments.pretrain in one process first."
      )
    params = _pretrain(config, parts)
    if not path.exists():  # Another run may have been faster.
      with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, params)
      path.with_suffix(".json").write_text(described + "\n")
      print(f"Base policy: saved to {path}")
  if multihost.is_first():
    print(f"Base policy: loaded from {path}")
  like = models.abstract_params(models.without_adapters(parts.model))
  return ocp.StandardCheckpointer().restore(path, sharding.with_shardings(like))


def is_trained(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
) -> bool:
  """Whether `folder` holds the base policy of a config already."""
  return _path(folder, _describe(config, parts)).exists()


def _path(folder: pathlib.Path, described: str) -> pathlib.Path:
  return folder.absolute() / config_lib.fingerprint(described)


def _task(parts: build_run.Parts) -> base.WordTask:
  if not isinstance(parts.task, base.WordTask):
    raise ValueError(
      "config.base.source='demonstrations' needs a task that has some; choose"
      " another source."
    )
  return parts.task


def _describe(config: ml_collections.ConfigDict, parts: build_run.Parts) -> str:
  """All that the parameters depend on: the model, and what it is shown."""
  options = config.base
  shown = _task(parts).demonstrations(options.seed, wrong=options.wrong)
  return config_lib.to_json(
    ml_collections.ConfigDict(
      {
        "base": options,
        "task": config.task,
        "model": f"{parts.model.config} in {parts.model.dtype}",
        "limits": [config.max_prompt_tokens, config.max_new_tokens],
        "demonstrations": list(itertools.islice(shown, 1000)),
      }
    )
  )


def _pretrain(
  config: ml_collections.ConfigDict, parts: build_run.Parts
) -> models.Params:
  """Minimises the cross-entropy of the demonstrated answers."""
  options = config.base
  model = models.without_adapters(parts.model)
  params = models.init_params(model, jax.random.key(options.seed))
  optimizer = _optimizer(options)
  step = _make_step(model, optimizer)
  opt_state = optimizer.init(params)
  batches = _batches(config, parts)
  bar = progress_bar.ProgressBar("pretrain", done=0, total=options.num_steps)
  shown = {}
  for i in range(options.num_steps):
    params, opt_state, loss = step(params, opt_state, *next(batches))
    if i % 10 == 0 or i == options.num_steps - 1:
      shown = {"loss": f"{float(loss):.3f}"}
    bar.update(shown)
  bar.close()
  if not np.isfinite(loss):
    raise FloatingPointError(
      f"Pretraining ended with loss {loss}; lower config.base.learning_rate="
      f"{options.learning_rate}."
    )
  return params


def _optimizer(
  options: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  rate = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=options.learning_rate,
    warmup_steps=options.warmup_steps,
    decay_steps=options.num_steps,
    end_value=0.05 * options.learning_rate,
  )
  return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))


def _make_step(model: nn.Module, optimizer: optax.GradientTransformation):
  """A jitted step on prompts [N, P], their lengths [N] and answers [N, T]."""

  def loss_fn(params, prompts, lengths, answers):
    answers = answers[:, None]
    mask = answers != models.PAD
    log_probs, _ = logprobs.completion_log_probs(
      model, params, prompts, lengths, answers, mask, temperature=1.0
    )
    return -losses.token_mean(log_probs, mask)

  @jax.jit
  def step(params, opt_state, prompts, lengths, answers):
    loss, grads = jax.value_and_grad(loss_fn)(params, prompts, lengths, answers)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  return step


def _batches(
  config: ml_collections.ConfigDict, parts: build_run.Parts
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Prompts, their lengths and answers with EOS, as arrays."""
  options, tokenizer = config.base, parts.tokenizer
  pairs = _task(parts).demonstrations(options.seed, wrong=options.wrong)
  while True:
    some = list(itertools.islice(pairs, options.batch_size))
    prompts = [tokenizer.encode(prompt) for prompt, _ in some]
    answers = [
      [*tokenizer.encode_completion(answer), tokenizers.EOS]
      for _, answer in some
    ]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    yield (
      tokenizers.pad(prompts, config.max_prompt_tokens),
      lengths,
      tokenizers.pad(answers, config.max_new_tokens),
    )
