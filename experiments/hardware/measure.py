"""How long do the sampler and the update of a config take on this machine?

Example:
  python -m experiments.hardware.measure \
    --config=configs/gemma2_2b_gsm8k_lora.py:k8

Compiles the very programs that training runs, and runs them on the TPU or the
GPUs that are here, with random parameters and prompts: it needs no weights, no
vocabulary and no data. Prompts are as long as they may be, and so are nearly
all completions. Prints seconds of sampling; of an update where all rewards
differ, and of one where one answer in four is right; how many completions have
a weight then; what the matrix products reach; and the most of a device's memory
that was in use. docs/hardware.md has what they take at least. It takes minutes,
most of them to compile.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments import command_line
from experiments.benchmarks import timing
from experiments.hardware import flops, programs
from pkpo_jax import multihost
from pkpo_jax.lm import models, sampler, sharding
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import train_step
from pkpo_jax.training import build_run
from pkpo_jax.training import config as config_lib

_GIB = 2**30


def main() -> None:
  """Compiles, runs and prints."""
  parser = command_line.parser(__doc__)
  command_line.add_config(parser, "configs/gemma3_1b_gsm8k_lora.py")
  parser.add_argument(
    "--repetitions",
    type=int,
    default=5,
    help="timed runs of each program (default: 5)",
  )
  args = command_line.parse(parser)
  if args.repetitions < 1:
    parser.error(f"--repetitions {args.repetitions} is less than 1.")
  with command_line.mistakes(parser):
    config_lib.check(args.config)
    mesh = sharding.make_mesh(**args.config.mesh)
    programs.model_of(args.config)
  sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
  device = mesh.devices.flat[0]
  print(f"{mesh.size} x {device.device_kind} as {sizes}", flush=True)
  with jax.set_mesh(mesh):
    frozen, trained = _random_params(args.config)
    completions = _measure_sampler(
      args.config, mesh, models.merge(frozen, trained), args.repetitions
    )
    _measure_update(args.config, frozen, trained, completions, args.repetitions)
  stats = device.memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    peak, limit = stats["peak_bytes_in_use"], stats["bytes_limit"]
    print(f"memory      {peak / _GIB:.2f} of {limit / _GIB:.2f} GiB at most")


def _random_params(
  config: ml_collections.ConfigDict,
) -> tuple[models.Params, models.Params]:
  """Frozen parameters, rounded, and trained ones; on the mesh.

  Drawn one by one: XLA compiles the draws of one shape once, where it takes
  minutes to compile a model's initialisation for GPUs.
  """
  model = programs.model_of(config)
  frozen, trained = models.split(model, models.abstract_params(model))
  shapes = models.compute_shapes(model, frozen), trained
  keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(shapes))))

  def draw(shape: jax.ShapeDtypeStruct, placed: Any) -> jax.Array:
    return jax.jit(_normal, static_argnums=(1, 2), out_shardings=placed)(
      next(keys), shape.shape, shape.dtype
    )

  return jax.tree.map(draw, shapes, sharding.shardings_on_mesh(shapes))


def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return 0.02 * jax.random.normal(key, shape, dtype)


def _prompts(config: ml_collections.ConfigDict) -> models.Prompts:
  """Random tokens, as many as may be."""
  B, P = config.prompts_per_step, config.max_prompt_tokens
  V = programs.model_of(config).config.num_embed
  tokens = np.random.default_rng(0).integers(3, V, (B, P), dtype=np.int32)
  return models.Prompts(tokens, np.full(B, P, np.int32))


def _measure_sampler(
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  params: models.Params,
  repetitions: int,
) -> sampler.Completions:
  """Prints what sampling takes; returns the last completions."""
  traced = programs.trace_sampler(config, mesh)
  run = _compile("sampler", traced)
  shape = (config.prompts_per_step, config.n)
  keys = [
    jax.random.split(jax.random.key(i), shape) for i in range(1 + repetitions)
  ]
  prompts, keys = jax.device_put(
    (_prompts(config), keys), sharding.replicated(mesh)
  )
  seconds, completions = _repeat(
    lambda i: run(params, *prompts, keys[i], config.temperature), repetitions
  )
  _print("sample", seconds, flops.count(traced.jaxpr))
  rate = np.prod(completions.tokens.shape) / statistics.median(seconds)
  print(f"            {rate:,.0f} tokens a second", flush=True)
  return completions


def _measure_update(
  config: ml_collections.ConfigDict,
  frozen: models.Params,
  trained: models.Params,
  completions: sampler.Completions,
  repetitions: int,
) -> None:
  """Prints what an update takes, with many weights and with few."""
  traced = programs.trace_update(config)
  run = _compile("update", traced)
  model = programs.model_of(config)
  reference = None
  if config.loss.kl_coef:  # a copy: the update overwrites what it is given
    rounded = models.compute_params(model, trained)
    reference = jax.tree.map(lambda x: x.copy(), rounded)
  state = train_step.init_state(trained, build_run.make_optimizer(config))
  k = np.int32(config_lib.make_k_schedule(config)(0))
  n = config.n
  for rewards in (np.arange(n) / n, np.arange(n) < n // 4):
    rollout = _rollout(config, completions, rewards)

    def step(i: int, rollout=rollout):
      nonlocal state
      key = jax.random.key(i)
      state, metrics = run(state, rollout, k, key, frozen, reference)
      return metrics

    seconds, metrics = _repeat(step, repetitions)
    used = float(metrics["fraction_updated"])
    operations = flops.count(traced.jaxpr, share=used)
    _print(f"update {used:4.0%}", seconds, operations)


def _rollout(
  config: ml_collections.ConfigDict,
  completions: sampler.Completions,
  rewards: np.ndarray,
) -> rollout_lib.Rollout:
  """The completions with rewards [n], the same for every prompt."""
  B, n = config.prompts_per_step, config.n
  rollout = rollout_lib.Rollout(
    *_prompts(config),
    jax.device_get(completions),
    rewards=np.broadcast_to(rewards, (B, n)).astype(np.float32),
    valid=np.ones((B, n), bool),
    truncated=np.zeros((B, n), bool),
  )
  rows = sharding.rows_sharding(jax.sharding.get_mesh(), B)
  return multihost.place(rollout, rows)


def _compile(name: str, traced: jax.stages.Traced) -> Callable[..., Any]:
  start = time.perf_counter()
  compiled = traced.lower().compile()
  seconds = time.perf_counter() - start
  print(f"{name:<11} compiled in {seconds:.0f} s", flush=True)
  return compiled


def _repeat(
  run: Callable[[int], Any], repetitions: int
) -> tuple[list[float], Any]:
  """Seconds of each run after the first, and the last result."""
  seconds = []
  for i in range(1 + repetitions):
    taken, result = timing.timed(functools.partial(run, i))
    seconds.append(taken)
  return seconds[1:], result


def _print(name: str, seconds: list[float], operations: float) -> None:
  rate = operations / statistics.median(seconds) / 1e12
  print(
    f"{name:<11} {timing.spread(seconds)} s, {rate:.3g} TFLOP/s", flush=True
  )


if __name__ == "__main__":
  main()
