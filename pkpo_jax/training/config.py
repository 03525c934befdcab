"""Checks a training config before minutes are spent on it.

Free of gemma, whose import takes seconds, so that a typo is answered at once.
"""

import hashlib
import inspect
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from pkpo_jax import multihost, schedules, transforms

# All names of a config but those of `task`, `tokenizer` and `model`, which are
# checked where these are made, and of `base`, which depend on its source.
_NAMES = {
  "": (
    "seed num_steps prompts_per_step n temperature max_prompt_tokens"
    " max_new_tokens transform k_opt k_boundaries k_schedule learning_rate"
    " warmup_steps b1 b2 weight_decay max_grad_norm epochs minibatches"
    " microbatch logits_chunk loss mesh task tokenizer"
    " long_prompts model base eval checkpoint"
  ),
  "microbatch": "prompts samples",
  "mesh": "data fsdp tensor",
  "loss": "clip_low clip_high entropy_coef kl_coef",
  "eval": "every n num_problems seed",
  "checkpoint": "every keep",
}
_BASE_NAMES = {
  "demonstrations": (
    "seed num_steps batch_size learning_rate warmup_steps wrong"
  ),
  "random": "seed",
  "huggingface": "path",
  "gemma": "path",
}
_POSITIVE = (
  "num_steps prompts_per_step n temperature max_prompt_tokens max_new_tokens"
  " learning_rate max_grad_norm epochs minibatches logits_chunk"
  " microbatch.prompts microbatch.samples"
  " base.num_steps base.batch_size base.learning_rate eval.every eval.n"
  " eval.num_problems checkpoint.every checkpoint.keep"
)
_NOT_NEGATIVE = (
  "warmup_steps weight_decay loss.entropy_coef loss.kl_coef base.warmup_steps"
  " base.wrong"
)
_NEUTRAL_CLIP = 0.2
_PATIENCE = 60  # seconds until a shared folder shows what another wrote


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for a name, a value or a lack of effect that is wrong."""
  for part, names in _NAMES.items():
    _check_names(part, config[part] if part else config, set(names.split()))
  values = dict(_leaves(json.loads(to_json(config))))
  for name in f"{_POSITIVE} {_NOT_NEGATIVE}".split():
    value = values.get(f"config.{name}", 1)  # `base` has only its source's
    if value < 0 or (value == 0 and name in _POSITIVE.split()):
      bound = "above 0" if name in _POSITIVE.split() else "at least 0"
      raise ValueError(f"config.{name}={value} must be {bound}.")
  if config.prompts_per_step % config.minibatches:
    raise ValueError(
      f"config.minibatches={config.minibatches} must divide"
      f" config.prompts_per_step={config.prompts_per_step}."
    )
  if config.long_prompts not in ("error", "drop"):
    raise ValueError(
      f"config.long_prompts={config.long_prompts!r} must be 'error' or 'drop'."
    )
  _check_base(config.base)
  _check_k(config)
  _check_clip(config)
  _check_microbatch(config)


def _check_names(
  part: str, config: ml_collections.ConfigDict, known: set[str]
) -> None:
  prefix = f"config.{part}." if part else "config."
  for problem, names in (
    ("unknown", set(config) - known),
    ("missing", known - set(config)),
  ):
    if names:
      listed = ", ".join(prefix + name for name in sorted(names))
      raise ValueError(f"{listed}: {problem}; known: {sorted(known)}.")


def _check_base(base: ml_collections.ConfigDict) -> None:
  source = base.get("source")
  if source not in _BASE_NAMES:
    raise ValueError(
      f"config.base.source={source!r} must be one of {sorted(_BASE_NAMES)}."
    )
  _check_names("base", base, {"source", *_BASE_NAMES[source].split()})
  if source != "demonstrations":
    return
  if base.num_steps <= base.warmup_steps:
    raise ValueError(
      f"config.base.num_steps={base.num_steps} must be above"
      f" config.base.warmup_steps={base.warmup_steps}."
    )
  if base.wrong > 1:
    raise ValueError(f"config.base.wrong={base.wrong} must be in 0..1.")


def _check_k(config: ml_collections.ConfigDict) -> None:
  """Every k of the schedule is in range for the transform and n."""
  ks = np.asarray(make_k_schedule(config)(jnp.arange(config.num_steps)))
  transform = transforms.get_transform(config.transform)
  for k in np.unique(ks):
    transform(jnp.zeros(config.n), int(k))
  ignores_k = inspect.signature(transform).parameters["k"].default is None
  if ignores_k and tuple(config.k_opt) != (1,):
    raise ValueError(
      f"config.k_opt={tuple(config.k_opt)} has no effect on"
      f" transform={config.transform!r}; set it to 1."
    )
  if config.k_schedule == "piecewise" and any(
    step >= config.num_steps for step in config.k_boundaries
  ):
    raise ValueError(
      f"config.k_boundaries={tuple(config.k_boundaries)} must be below"
      f" config.num_steps={config.num_steps}."
    )


def make_k_schedule(config: ml_collections.ConfigDict) -> schedules.Schedule:
  """The k of every step from `k_opt`, `k_boundaries` and `k_schedule`."""
  ks, boundaries = tuple(config.k_opt), tuple(config.k_boundaries)
  if config.k_schedule == "piecewise":
    return schedules.piecewise_k(ks, boundaries)
  if config.k_schedule == "linear" and len(ks) == 2 and len(boundaries) == 1:
    return schedules.linear_k(*ks, *boundaries)
  raise ValueError(
    f"k_schedule={config.k_schedule!r} with k_opt={ks} and"
    f" k_boundaries={boundaries}: must be 'piecewise' (one boundary fewer than"
    " ks) or 'linear' (two ks and one boundary)."
  )


def _check_microbatch(config: ml_collections.ConfigDict) -> None:
  minibatch = config.prompts_per_step // config.minibatches
  if minibatch % config.microbatch.prompts:
    raise ValueError(
      f"config.microbatch.prompts={config.microbatch.prompts} must divide"
      f" config.prompts_per_step={config.prompts_per_step} /"
      f" config.minibatches={config.minibatches}."
    )
  if config.n % config.microbatch.samples:
    raise ValueError(
      f"config.microbatch.samples={config.microbatch.samples} must divide"
      f" config.n={config.n}."
    )


def _check_clip(config: ml_collections.ConfigDict) -> None:
  """Clipping needs a second update from the same rollout to have an effect."""
  low, high = config.loss.clip_low, config.loss.clip_high
  if not 0 < low <= 1 or not high > 0:
    raise ValueError(f"clip_low={low} must be in (0, 1], clip_high={high} > 0.")
  single = config.epochs * config.minibatches == 1
  if single and (low, high) != (_NEUTRAL_CLIP, _NEUTRAL_CLIP):
    raise ValueError(
      f"config.loss.clip_low={low}, clip_high={high} have no effect on a single"
      " on-policy update; raise config.epochs or config.minibatches too."
    )


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Writes `config.json` to the folder of a run that starts or continues.

  With several processes, all of them call this.

  Raises:
    ValueError: `workdir` has checkpoints of another config, says what differs;
      or the processes differ in their config, or don't share `workdir`.
  """
  if workdir.parts[:1] == ("gs:",):
    raise ValueError(
      f"{workdir} is no folder; mount the bucket and name the folder, see"
      " docs/pods.md."
    )
  path, text = workdir / "config.json", to_json(config)
  _check_same_everywhere(text)
  if any(p.name.isdigit() for p in workdir.glob("checkpoints/*")):
    saved = path.read_text() if path.exists() else "{}"
    changes = difference(saved, text)
    if changes:
      raise ValueError(
        f"{workdir} holds a run with another config; use a new workdir, or undo"
        " these changes (saved -> asked for):\n  " + "\n  ".join(changes)
      )
  if multihost.is_first():
    workdir.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".tmp")
    written.write_text(text + "\n")
    written.replace(path)
  multihost.wait("claimed")
  _check_shared(path, text)


def _check_same_everywhere(text: str) -> None:
  """Raises in all processes if the config of one is not that of the first."""
  changes = difference(multihost.broadcast_text(text), text)
  if multihost.max_over_hosts(bool(changes)):
    raise ValueError(
      "The processes of this run have different configs; start all with the"
      " same command. First process -> this one:\n  "
      + "\n  ".join(changes or ["no difference; see the other processes"])
    )


def _check_shared(path: pathlib.Path, text: str) -> None:
  """Raises if this process does not see what the first one wrote."""
  deadline = time.monotonic() + _PATIENCE
  while not path.exists() or path.read_text() != text + "\n":
    if time.monotonic() > deadline:
      raise ValueError(
        f"{path} is not as the first process wrote it: --workdir must be one"
        " folder that all processes share."
      )
    time.sleep(1)


def to_json(config: ml_collections.ConfigDict) -> str:
  """The config as canonical JSON."""
  return json.dumps(
    json.loads(config.to_json_best_effort()), indent=2, sort_keys=True
  )


def fingerprint(text: str) -> str:
  """12 hexadecimal digits that change with the text."""
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def difference(old: str, new: str) -> list[str]:
  """What differs between two configs in JSON: "name: old -> new" lines."""
  before, after = (dict(_leaves(json.loads(text))) for text in (old, new))
  return [
    f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
    for name in sorted({*before, *after})
    if before.get(name) != after.get(name)
  ]


def _leaves(tree: dict, prefix: str = "config") -> Iterator[tuple[str, Any]]:
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _leaves(value, f"{prefix}.{name}")
    else:
      yield f"{prefix}.{name}", value
