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
from absl import logging

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
  relevant = ("task", "model", "base", "max_prompt_tokens", "max_new_tokens")
  chosen = {name: config[name] for name in relevant}
  described = configs.to_json(ml_collections.ConfigDict(chosen))
  path = folder.absolute() / configs.fingerprint(described)
  parts = build.build(config)
  checkpointer = ocp.StandardCheckpointer()
  if path.exists():
    logging.info("Base policy: loaded from %s", path)
    like = jax.eval_shape(
      lambda: models.init_params(parts.model, jax.random.key(0))
    )
    return checkpointer.restore(path, like)
  params = _pretrain(config, parts)
  checkpointer.save(path, params)
  checkpointer.wait_until_finished()
  (folder / f"{path.name}.json").write_text(described + "\n")
  logging.info("Base policy: saved to %s", path)
  return params


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
