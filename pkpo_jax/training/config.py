"""What a training config may say, checked before minutes are spent on it.

Free of gemma, whose import takes seconds, so that a typo is answered at once.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from pkpo_jax import schedules, transforms

# All names of a config but those of `task`, `tokenizer` and `model`, which are
# checked where these are made, and of `base`, which depend on its source.
_NAMES = {
  "": (
    "seed num_steps prompts_per_step n temperature max_prompt_tokens"
    " max_new_tokens transform k_opt k_boundaries k_schedule k_forgetting"
    " k_weights"
    " learning_rate warmup_steps decay_steps b1 b2 weight_decay max_grad_norm"
    " patience max_bad_steps epochs minibatches microbatch logits_chunk loss"
    " mesh task tokenizer long_prompts model base eval checkpoint stop"
    " truncated"
  ),
  "microbatch": "rows",
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
  "run": "path",
}
_POSITIVE = (
  "num_steps prompts_per_step n temperature max_prompt_tokens max_new_tokens"
  " learning_rate epochs minibatches logits_chunk"
  " microbatch.rows"
  " base.num_steps base.batch_size base.learning_rate eval.n"
  " eval.num_problems checkpoint.every checkpoint.keep"
)
_NOT_NEGATIVE = (
  "warmup_steps decay_steps weight_decay max_grad_norm patience"
  " max_bad_steps eval.every"
  " loss.entropy_coef loss.kl_coef base.warmup_steps base.wrong"
)
_FORGETTING = 0.5  # the default of k_forgetting
_LARGEST_INT = 2**31 - 1  # of what is counted in int32
_SMALL_TRIAL = 100  # steps
_LARGEST = {"num_steps": 10**7}  # whose ks are looked at one by one


def check(config: ml_collections.ConfigDict) -> None:
  """Checks names, ranges and effects of all values.

  Raises:
    ValueError: an unknown name, a value out of range, or an option that would
      have no effect.
  """
  for part, names in _NAMES.items():
    _check_names(part, config[part] if part else config, set(names.split()))
  values = dict(leaves(json.loads(to_json(config))))
  _check_values(values)
  for name in f"{_POSITIVE} {_NOT_NEGATIVE}".split():
    value = values.get(f"config.{name}", 1)  # `base` has only its source's
    if value < 0 or (value == 0 and name in _POSITIVE.split()):
      bound = "above 0" if name in _POSITIVE.split() else "at least 0"
      raise ValueError(f"config.{name}={value} must be {bound}.")
  for name in ("b1", "b2"):
    if not 0 <= values[f"config.{name}"] < 1:
      raise ValueError(
        f"config.{name}={values[f'config.{name}']} must be at least 0 and less"
        " than 1."
      )
  _check_sizes(config)
  if config.prompts_per_step % config.minibatches:
    raise ValueError(
      f"config.minibatches={config.minibatches} must divide"
      f" config.prompts_per_step={config.prompts_per_step}."
    )
  if config.long_prompts not in ("error", "drop"):
    raise ValueError(
      f"config.long_prompts={config.long_prompts!r} must be 'error' or 'drop'."
    )
  if config.truncated not in ("as_is", "wrong", "masked"):
    raise ValueError(
      f"config.truncated={config.truncated!r} must be 'as_is', 'wrong' or"
      " 'masked'."
    )
  if isinstance(config.stop, str) or not all(
    isinstance(string, str) and string for string in config.stop
  ):
    raise ValueError(
      f"config.stop={config.stop!r} must be a tuple of strings that are not"
      ' empty, such as ("\\nQ:",).'
    )
  _check_base(config.base)
  _check_k(config)
  _check_clip(config)
  _check_microbatch(config)


def _check_values(values: dict[str, Any]) -> None:
  """Checks what holds for all values: numbers and addresses that make sense."""
  for name, value in values.items():
    last = name.rpartition(".")[2]
    numbers = value if isinstance(value, list) else [value]
    for x in numbers:
      if isinstance(x, float) and not math.isfinite(x):
        raise ValueError(
          f"{name}={x} must be a finite number; a large one does what infinity"
          " would."
        )
      if isinstance(x, int) and abs(x) > _LARGEST.get(last, _LARGEST_INT):
        raise ValueError(
          f"{name}={x} is out of range: at most"
          f" {_LARGEST.get(last, _LARGEST_INT)}."
        )
      if last == "seed" and not isinstance(x, str) and (x is None or x < 0):
        raise ValueError(f"{name}={x} must be an integer from 0 on.")
    if isinstance(value, str) and "://" in value:
      raise ValueError(
        f"{name}={value} is an address, not a path; download or mount it, and"
        " name the folder."
      )
  for name in ("config.k_opt", "config.k_boundaries", "config.k_weights"):
    if any(type(x) not in (int, float) for x in values[name]):
      raise ValueError(f"{name}={tuple(values[name])} must be numbers.")
  if not values["config.k_opt"]:
    raise ValueError("config.k_opt=() must have a k; 8, say, or 8,1.")


def _check_sizes(config: ml_collections.ConfigDict) -> None:
  """Refuses what cannot act in so many steps, and slips of the keyboard.

  A warm-up acts from step 0 on, and so may be longer than a small trial.
  """
  steps, warmup = config.num_steps, config.warmup_steps
  if warmup > max(steps, _SMALL_TRIAL):
    raise ValueError(
      f"config.warmup_steps={warmup} must be at most config.num_steps={steps}:"
      " the learning rate would never be reached."
    )
  if config.decay_steps and warmup >= steps:
    raise ValueError(
      f"config.decay_steps={config.decay_steps} has no effect: it begins after"
      f" config.warmup_steps={warmup} of config.num_steps={steps}; set it to 0."
    )
  if config.patience >= steps:
    raise ValueError(
      f"config.patience={config.patience} has no effect on a run of"
      f" config.num_steps={steps}; set it to 0, or to less."
    )
  if config.logits_chunk > max(config.max_new_tokens, 1000):
    raise ValueError(
      f"config.logits_chunk={config.logits_chunk} must be at most"
      f" config.max_new_tokens={config.max_new_tokens}."
    )


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
  """Checks that every k of the schedule suits the transform and n."""
  transform = make_transform(config)
  schedule = make_k_schedule(config)
  _check_output(config, transform)
  for k in sorted({min(config.k_opt), schedule.max_k}):
    try:
      every = np.ones(config.n, bool)
      weights = transform(np.zeros(config.n), int(k), where=every)
    except ValueError as error:
      raise ValueError(
        f"config.k_opt={tuple(config.k_opt)} with config.n={config.n} and"
        f" config.transform={config.transform!r}: {error}"
      ) from error
    if not np.all(np.isfinite(weights)):
      raise ValueError(
        f"config.transform={config.transform!r} must return finite weights, but"
        f" for {config.n} rewards of 0 and k={k} it does not."
      )
  if _ignores_k(transform) and tuple(config.k_opt) != (1,):
    raise ValueError(
      f"config.k_opt={tuple(config.k_opt)} has no effect on"
      f" config.transform={config.transform!r}; set it to 1."
    )
  _check_by_problem(config)
  if config.k_schedule == "piecewise" and any(
    step >= config.num_steps for step in config.k_boundaries
  ):
    raise ValueError(
      f"config.k_boundaries={tuple(config.k_boundaries)} must be below"
      f" config.num_steps={config.num_steps}."
    )


def _check_output(
  config: ml_collections.ConfigDict, transform: transforms.Transform
) -> None:
  """Checks that a transform, as the train step calls it, gives weights [n]."""
  n, name = config.n, f"config.transform={config.transform!r}"
  try:
    found = jax.eval_shape(
      lambda rewards, k, where: transform(rewards, k, where=where),
      jax.ShapeDtypeStruct((n,), jnp.float32),
      jax.ShapeDtypeStruct((), jnp.int32),
      jax.ShapeDtypeStruct((n,), jnp.bool_),
    )
  except Exception as error:  # whatever a function of a user raises
    said = str(error).strip().partition("\n")[0]
    raise ValueError(
      f"{name} failed with config.n={n} ({type(error).__name__}: {said}); the"
      " train step calls transform(rewards, k, where=valid) inside jax.jit,"
      " where all three are traced."
    ) from error
  shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
  if shape != (n,) or not jnp.issubdtype(dtype, jnp.floating):
    returned = repr(found) if dtype is None else f"{dtype} of shape {shape}"
    raise ValueError(
      f"{name} must return floats of shape ({n},), one weight for each of"
      f" config.n={n} rewards, but returned {returned}."
    )


def _check_by_problem(config: ml_collections.ConfigDict) -> None:
  forgetting = f"config.k_forgetting={config.k_forgetting}"
  if not 0 <= config.k_forgetting <= 1:
    raise ValueError(f"{forgetting} must be in 0..1.")
  if by_problem(config) and config.k_opt[0] == 1:
    raise ValueError(
      "config.k_schedule='by_problem' has no effect with config.k_opt=1, which"
      " is the largest k; n // 2 is a good choice."
    )
  if not by_problem(config) and config.k_forgetting != _FORGETTING:
    raise ValueError(
      f"{forgetting} has no effect on config.k_schedule="
      f"{config.k_schedule!r}; leave it at {_FORGETTING}."
    )


def _ignores_k(transform: transforms.Transform) -> bool:
  k = inspect.signature(transform).parameters.get("k")
  return k is not None and k.default is None


def make_transform(config: ml_collections.ConfigDict) -> transforms.Transform:
  """The transform of a config; a mixture over k has its weights built in.

  Raises:
    ValueError: an unknown name, or weights without effect.
  """
  k_weights = tuple(config.k_weights)
  if (config.transform == "k_mixture") != bool(k_weights):
    raise ValueError(
      f"config.k_weights={k_weights} with config.transform="
      f"{config.transform!r}: 'k_mixture' needs one weight for each k = 1, 2,"
      " ..., and no other transform takes any."
    )
  if k_weights and not any(k_weights):
    raise ValueError(
      f"config.k_weights={k_weights}: with zeros alone nothing is learned."
    )
  if not k_weights:
    try:
      return transforms.get_transform(config.transform)
    except ValueError as error:
      raise ValueError(f"config.transform: {error}") from error

  def mixture(rewards, k=None, *, where=None):
    del k
    return transforms.k_mixture(rewards, jnp.array(k_weights), where=where)

  return mixture


def by_problem(config: ml_collections.ConfigDict) -> bool:
  """Whether each problem has a k of its own, see `k_by_problem`."""
  return config.k_schedule == "by_problem"


def make_k_schedule(config: ml_collections.ConfigDict) -> schedules.Schedule:
  """The k of every step from `k_opt`, `k_boundaries` and `k_schedule`.

  Where each problem has its own, the largest that it may have.
  """
  ks, boundaries = tuple(config.k_opt), tuple(config.k_boundaries)
  problem = (
    "must be 'piecewise', 'linear' (two ks and one boundary) or 'by_problem'"
    " (one k, the largest, and no boundary)."
  )
  try:
    if config.k_schedule == "piecewise":
      return schedules.piecewise_k(ks, boundaries)
    if by_problem(config) and len(ks) == 1 and not boundaries:
      return schedules.constant_k(*ks)
    if config.k_schedule == "linear" and len(ks) == 2 and len(boundaries) == 1:
      return schedules.linear_k(*ks, *boundaries)
  except ValueError as error:
    problem = str(error)
  raise ValueError(
    f"config.k_opt={ks}, config.k_boundaries={boundaries},"
    f" config.k_schedule={config.k_schedule!r}: {problem}"
  )


def _check_microbatch(config: ml_collections.ConfigDict) -> None:
  completions = config.prompts_per_step * config.n // config.minibatches
  if completions % config.microbatch.rows:
    raise ValueError(
      f"config.microbatch.rows={config.microbatch.rows} must divide the"
      f" {completions} completions of an update, config.prompts_per_step="
      f"{config.prompts_per_step} x config.n={config.n} /"
      f" config.minibatches={config.minibatches}."
    )


def _check_clip(config: ml_collections.ConfigDict) -> None:
  """Checks the range of the clip.

  It acts on a single on-policy update too: sampler and trainer compute the same
  log-probs in another order, and bfloat16 rounds them apart.
  """
  low, high = config.loss.clip_low, config.loss.clip_high
  if not 0 < low <= 1 or not high > 0:
    raise ValueError(
      f"config.loss.clip_low={low} must be in (0, 1],"
      f" config.loss.clip_high={high} above 0."
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
  before, after = (dict(leaves(json.loads(text))) for text in (old, new))
  return [
    f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
    for name in sorted({*before, *after})
    if before.get(name) != after.get(name)
  ]


def leaves(tree: dict, prefix: str = "config") -> Iterator[tuple[str, Any]]:
  """(name, value) of every leaf of nested dicts; names joined by dots."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}.{name}")
    else:
      yield f"{prefix}.{name}", value
