"""Checks a training config before minutes are spent on it."""

import hashlib
import json
from collections.abc import Iterator

import jax.numpy as jnp
import ml_collections
import numpy as np

from pkpo_jax import transforms
from pkpo_jax.rl import learner

_WITHOUT_K = ("rloo", "grpo", "dr_grpo", "maxrl")
_NEUTRAL_CLIP = 0.2


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for a value out of range or without any effect."""
  positive = ("num_steps", "n", "epochs", "minibatches", "temperature")
  for name in (*positive, "prompts_per_step", "learning_rate"):
    if config[name] <= 0:
      raise ValueError(f"config.{name}={config[name]} must be above 0.")
  for room, name in (("eval", "every"), ("eval", "n"), ("checkpoint", "every")):
    if config[room][name] <= 0:
      raise ValueError(f"config.{room}.{name} must be above 0.")
  if config.prompts_per_step % config.minibatches:
    raise ValueError(
      f"config.minibatches={config.minibatches} must divide"
      f" config.prompts_per_step={config.prompts_per_step}."
    )
  _check_k(config)
  _check_clip(config)


def _check_k(config: ml_collections.ConfigDict) -> None:
  """Every k of the schedule is in range for the transform and n."""
  ks = np.asarray(learner.make_k_schedule(config)(jnp.arange(config.num_steps)))
  transform = transforms.get_transform(config.transform)
  for k in np.unique(ks):
    transform(jnp.zeros(config.n), int(k))
  if config.transform in _WITHOUT_K and tuple(config.k_opt) != (1,):
    raise ValueError(
      f"config.k_opt={tuple(config.k_opt)} has no effect on"
      f" transform={config.transform!r}; set it to 1."
    )
  if any(step >= config.num_steps for step in config.k_boundaries[:-1]) or (
    config.k_schedule == "piecewise"
    and any(step >= config.num_steps for step in config.k_boundaries)
  ):
    raise ValueError(
      f"config.k_boundaries={tuple(config.k_boundaries)} must be below"
      f" config.num_steps={config.num_steps}."
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


def _leaves(tree: dict, prefix: str = "config") -> Iterator[tuple[str, object]]:
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _leaves(value, f"{prefix}.{name}")
    else:
      yield f"{prefix}.{name}", value
