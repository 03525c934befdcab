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
import tqdm

from pkpo_jax.lm import logprobs, models, tokenizers
from pkpo_jax.rl import build, configs, losses


def base_policy(
  config: ml_collections.ConfigDict, folder: pathlib.Path
) -> models.Params:
  """The parameters that training starts from.

  Trained on the task's demonstrations as `config.base` says, unless `folder`
  holds them already.

  Args:
    config: a training config; only `task`, `model`, `base` and the two limits
      on tokens matter.
    folder: where base policies are kept, each under its fingerprint.

  Returns:
    The parameters, the same bits whether trained now or loaded.
  """
  parts = build.build(config)
  described = _describe(config, parts)
  path = _path(folder, described)
  if not path.exists():
    params = _pretrain(config, parts)
    if not path.exists():  # Another process may have been faster.
      with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, params)
      path.with_suffix(".json").write_text(described + "\n")
      print(f"Base policy: saved to {path}")
  return load_base_policy(config, folder)


def load_base_policy(
  config: ml_collections.ConfigDict, folder: pathlib.Path
) -> models.Params:
  """The base policy of a config, which `folder` must hold.

  Raises:
    ValueError: it does not.
  """
  parts = build.build(config)
  path = _path(folder, _describe(config, parts))
  if not path.exists():
    raise ValueError(
      f"{folder} does not hold the base policy of this config, {path.name};"
      " give the --base_dir of the run, or make it with experiments.pretrain."
    )
  print(f"Base policy: loaded from {path}")
  like = jax.eval_shape(
    lambda: models.init_params(parts.model, jax.random.key(0))
  )
  return ocp.StandardCheckpointer().restore(path, like)


def _path(folder: pathlib.Path, described: str) -> pathlib.Path:
  return folder.absolute() / configs.fingerprint(described)


def _describe(config: ml_collections.ConfigDict, parts: build.Parts) -> str:
  """All that the parameters depend on: the model, and what it is shown."""
  base = config.base
  shown = parts.task.demonstrations(base.seed, wrong=base.wrong)
  return configs.to_json(
    ml_collections.ConfigDict(
      {
        "base": base,
        "task": config.task,
        "model": f"{parts.model.config} in {parts.model.dtype}",
        "limits": [config.max_prompt_tokens, config.max_new_tokens],
        "demonstrations": list(itertools.islice(shown, 1000)),
      }
    )
  )


def _pretrain(
  config: ml_collections.ConfigDict, parts: build.Parts
) -> models.Params:
  """Minimises the cross-entropy of the demonstrated answers."""
  base = config.base
  params = models.init_params(parts.model, jax.random.key(base.seed))
  optimizer = _optimizer(base)
  step = _make_step(parts.model, optimizer)
  opt_state = optimizer.init(params)
  batches = _batches(config, parts)
  bar = tqdm.tqdm(range(base.num_steps), desc="pretrain", unit="step")
  for i in bar:
    params, opt_state, loss = step(params, opt_state, *next(batches))
    if i % 10 == 0 or i == base.num_steps - 1:
      bar.set_postfix(loss=f"{float(loss):.3f}")
  if not np.isfinite(loss):
    raise FloatingPointError(
      f"Pretraining ended with loss {loss}; lower config.base.learning_rate="
      f"{base.learning_rate}."
    )
  return params


def _optimizer(
  base: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  rate = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=base.learning_rate,
    warmup_steps=base.warmup_steps,
    decay_steps=base.num_steps,
    end_value=0.05 * base.learning_rate,
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
  config: ml_collections.ConfigDict, parts: build.Parts
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Prompts, their lengths and answers with EOS, as arrays."""
  base, tokenizer = config.base, parts.tokenizer
  pairs = parts.task.demonstrations(base.seed, wrong=base.wrong)
  while True:
    some = list(itertools.islice(pairs, base.batch_size))
    prompts = [tokenizer.encode(prompt) for prompt, _ in some]
    answers = [
      [*tokenizer.encode(answer, bos=False), tokenizer.EOS]
      for _, answer in some
    ]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    yield (
      tokenizers.pad(prompts, config.max_prompt_tokens),
      lengths,
      tokenizers.pad(answers, config.max_new_tokens),
    )
