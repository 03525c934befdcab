"""Tries a config before it costs hours: two steps, and nothing is written."""

import dataclasses
import pathlib
import resource
import sys
import time

import jax
import ml_collections
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import train_step
from pkpo_jax.training import build_run, initial_policy, pretraining
from pkpo_jax.training import config as config_lib

_GIB = 2**30


def dry_run(
  config: ml_collections.ConfigDict,
  base_dir: pathlib.Path,
  data: build_run.Data,
) -> str:
  """Builds and compiles everything, takes two steps, and says what a run needs.

  The second step is timed. Half of its rewards, drawn at random, are 1 in the
  update: so the backward pass runs even for a policy that is never right, and
  the seconds of an update are those of a policy that is often right.

  Args:
    config: a training config.
    base_dir: the folder of base policies. One that is still to be trained is
      replaced by random parameters.
    data: what `build_run.load_data` makes of the config.

  Returns:
    Lines for people: problems and what was dropped, parameters, memory, seconds
    a step, and hours.

  Raises:
    ValueError: as in a run.
    FloatingPointError: the update is not finite.
  """
  with jax.set_mesh(sharding.make_mesh(**config.mesh)):
    parts = build_run.build(config, data)
    parts.task.start()
    optimizer = build_run.make_optimizer(config)
    step = build_run.compile_train_step(config, parts.model, optimizer)
    params, note = _initial_params(config, parts, base_dir)
    state = train_step.init_state(params.trained, optimizer)
    reference = None
    if config.loss.kl_coef:
      reference = models.compute_params(parts.model, params.trained)
      reference = jax.tree.map(lambda x: x.copy(), reference)
    for i in range(2):
      state, metrics, seconds = _step(
        i, config, parts, step, state, params.frozen, reference
      )
    memory = _memory()
    parts.task.close()
  count = models.num_params(params.frozen) + models.num_params(state.params)
  return "\n".join(
    [
      *_problems(config, data),
      f"policy      {count:,} parameters; {note}",
      *memory,
      *_times(config, seconds, len(data.problems["test"])),
      f"gradient    norm {metrics['grad_norm']:.3g}, with random rewards",
      "Nothing was written.",
    ]
  )


def _initial_params(
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  base_dir: pathlib.Path,
) -> tuple[initial_policy.InitialParams, str]:
  """The base policy, or random parameters where it would have to be trained."""
  note = f"base policy: {config.base.source}"
  if config.base.source == "demonstrations" and not pretraining.is_trained(
    config, parts, base_dir
  ):
    note = "base policy: not trained yet, random here"
    config = config.copy_and_resolve_references()
    config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  return initial_policy.initial_params(config, parts, base_dir), note


def _step(
  i: int,
  config: ml_collections.ConfigDict,
  parts: build_run.Parts,
  step: train_step.TrainStep,
  state: train_step.TrainState,
  frozen: models.Params,
  reference: models.Params | None,
) -> tuple[train_step.TrainState, train_step.Metrics, dict[str, float]]:
  """Takes step i; returns the state, its metrics, and seconds by phase."""
  B, n = config.prompts_per_step, config.n
  train = parts.problems["train"]
  problems = [train[(i * B + j) % len(train)] for j in range(B)]
  start = time.perf_counter()
  rollout, _, seconds = parts.rollout_worker(
    models.merge(frozen, state.params), problems, jax.random.key(i), n=n
  )
  rewards = np.random.default_rng(i).permuted(
    np.tile([0, 1], (B, n))[:, :n], axis=1
  )
  rollout = dataclasses.replace(
    rollout, rewards=np.float32(rewards), valid=np.full((B, n), True)
  )
  k = config_lib.make_k_schedule(config)(i)
  rows = sharding.rows_sharding(jax.sharding.get_mesh(), B)
  sampled = time.perf_counter()
  state, metrics = step(
    state,
    multihost.place(rollout, rows),
    np.asarray(k),
    jax.random.key(i),
    frozen,
    reference,
  )
  metrics = jax.device_get(metrics)
  end = time.perf_counter()
  names = ("loss", "grad_norm")
  broken = [name for name in names if not np.isfinite(metrics[name])]
  if broken:
    raise FloatingPointError(f"{', '.join(broken)} not finite in a dry run.")
  return state, metrics, seconds | {"update": end - sampled, "all": end - start}


def _problems(config, data: build_run.Data) -> list[str]:
  return [
    f"{split:<11} {len(data.problems[split]):,} problems,"
    f" {data.dropped[split]:,} dropped: longer than"
    f" config.max_prompt_tokens={config.max_prompt_tokens}"
    for split in ("train", "test")
  ]


def _memory() -> list[str]:
  """The peak of the first device, and of this process on the host."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  host = peak * (1 if sys.platform == "darwin" else 1024) / _GIB
  lines = [f"memory      {host:.2f} GiB on the host at most"]
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    device = stats["peak_bytes_in_use"] / _GIB
    limit = stats.get("bytes_limit", 0) / _GIB
    lines.append(f"            {device:.2f} of {limit:.2f} GiB on a device")
  return lines


def _times(config, seconds: dict[str, float], num_test: int) -> list[str]:
  """Seconds of a step, and the hours of all steps and evaluations.

  An evaluation is taken to sample as many completions a second as a step.
  """
  completions = config.prompts_per_step * config.n
  every = config.eval.every
  evaluations = 1 + -(-config.num_steps // every) if every else 0
  sampled = seconds["sample"] + seconds["grade"]
  evaluated = min(config.eval.num_problems, num_test) * config.eval.n
  train = config.num_steps * seconds["all"] / 3600
  evaluate = evaluations * evaluated / completions * sampled / 3600
  return [
    f"a step      {seconds['all']:.2f} s: sample {seconds['sample']:.2f},"
    f" grade {seconds['grade']:.2f}, update {seconds['update']:.2f}",
    f"the run     {train + evaluate:.2f} h: {config.num_steps} steps"
    f" {train:.2f} h, {evaluations} evaluations {evaluate:.2f} h",
  ]
