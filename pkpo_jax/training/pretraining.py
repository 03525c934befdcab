"""Demonstrations -> a base policy, kept on disk under its fingerprint."""

import contextlib
import errno
import itertools
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence

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
from pkpo_jax.training import build_run, checkpointing, lock, progress_bar
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import workdir as workdir_lib

_CHECKSUMS = "checksums.json"  # one number for each array
_WORDS = "words.json"  # of the task, in the order of their ids


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
    ValueError: several processes run, and `folder` does not hold them yet; or
      what it holds is damaged, or of other words.
    OSError: `folder` cannot be written.
  """
  described = _describe(config, parts)
  path = _path(folder, described)
  if not path.exists():
    if jax.process_count() > 1:
      raise ValueError(
        f"{folder} does not hold the base policy of this config, {path.name};"
        " make it with experiments.pretrain in one process first."
      )
    _train_once(path, config, parts, described)
  if multihost.is_first():
    print(f"Base policy: loaded from {path}")
  like = models.abstract_params(models.without_adapters(parts.model))
  words = _task(parts).words
  return _load(path, sharding.with_shardings(like), words)


def _train_once(
  path: pathlib.Path,
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  described: str,
) -> None:
  """Trains and saves, unless another process does: then waits for it."""
  waiting = f"Base policy: waiting for another run, which trains {path}"
  with contextlib.ExitStack() as stack:
    # Where nothing can be written, what follows says so.
    with contextlib.suppress(OSError):
      turn = lock.in_turn(path.with_suffix(".lock"), waiting)
      stack.enter_context(turn)
    if not path.exists():
      with _writing(path):  # before minutes are spent
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
      words = _task(parts).words
      _save(path, _pretrain(config, parts), described, words)


def is_trained(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  folder: pathlib.Path,
) -> bool:
  """Whether `folder` holds the base policy of a config already."""
  return _path(folder, _describe(config, parts)).exists()


def _save(
  path: pathlib.Path,
  params: models.Params,
  described: str,
  words: Sequence[str],
) -> None:
  """Writes a base policy whole or not at all, whoever else is writing it."""
  with _writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_remains(path)
    with tempfile.TemporaryDirectory(
      prefix=f"{path.name}.", dir=path.parent
    ) as folder:
      new = pathlib.Path(folder) / path.name
      with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(new, params)
      sums = multihost.fetch(checkpointing.checksums(params)).tolist()
      (new / _CHECKSUMS).write_text(json.dumps(sums) + "\n")
      (new / _WORDS).write_text(json.dumps({"words": words}) + "\n")
      description = pathlib.Path(folder) / "description"
      description.write_text(described + "\n")
      description.replace(path.with_suffix(".json"))
      with contextlib.suppress(FileExistsError):
        _move(new, path)
  print(f"Base policy: saved to {path}")


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
  """Says what to do where a base policy cannot be written."""
  try:
    yield
  except (OSError, ValueError) as error:  # ValueError: tensorstore's
    raise OSError(
      f"The base policy cannot be written to {path}. Make room, or choose"
      f" another --base_dir. ({checkpointing.first_line(error)})"
    ) from error


def _remove_remains(path: pathlib.Path) -> None:
  """Removes what writers that were killed, an hour ago or more, have left."""
  for folder in path.parent.glob(f"{path.name}.*"):
    if folder.is_dir() and time.time() - folder.stat().st_mtime > 3600:
      shutil.rmtree(folder, ignore_errors=True)


def _move(new: pathlib.Path, path: pathlib.Path) -> None:
  """Moves a folder to where there is none, or raises FileExistsError."""
  try:
    new.rename(path)
  except OSError as error:
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
      raise FileExistsError(path) from error  # another run was faster
    raise


def _load(
  path: pathlib.Path, like: models.Params, words: Sequence[str]
) -> models.Params:
  """The parameters in a folder, if they are those that were saved."""
  try:
    noted = workdir_lib.read_json(path / _WORDS)  # {} in an earlier version
    learned = noted.get("words", list(words))
    params = ocp.StandardCheckpointer().restore(path, like)
    # Those of earlier versions have none.
    if (path / _CHECKSUMS).exists():
      saved = np.array(json.loads((path / _CHECKSUMS).read_text()), np.uint32)
      if not checkpointing.is_as_saved(params, saved):
        raise ValueError("The checksums of the arrays are not those saved.")
  except jax.errors.JaxRuntimeError:  # no memory, or a lost process
    raise
  except Exception as error:  # as many types as there are kinds of damage
    raise ValueError(
      f"The base policy {path} is damaged. Delete this folder to train it anew."
      f" ({checkpointing.first_line(error)})"
    ) from error
  if learned != list(words):
    raise ValueError(
      f"The base policy {path} has learned other words than config.task has"
      f" now, or in another order, see {_WORDS} there. (A tuple has an order;"
      " that of a set is another at each start.)"
    )
  return params


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
