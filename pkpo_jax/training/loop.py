"""The training loop: wires the rooms together, and holds no maths."""

import pathlib
import signal
import sys
import time
from collections.abc import Callable

import chex
import grain
import jax
import ml_collections
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import evaluation, train_step
from pkpo_jax.training import (
  build_run,
  checkpointing,
  initial_policy,
  interrupts,
  metrics_writer,
)
from pkpo_jax.training import config as config_lib


def train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  base_dir: pathlib.Path,
) -> train_step.TrainState:
  """Runs a config to its end, from the newest checkpoint in `workdir` if any.

  With several processes, all of them call this.

  Args:
    config: a training config, see configs/countdown.py.
    workdir: of this run alone: checkpoints, metrics, TensorBoard files.
    base_dir: of base policies that are trained on demonstrations.

  Returns:
    The final state.

  Raises:
    ValueError: a config that is not valid, or not that of `workdir`.
    FloatingPointError: a loss or gradient is not finite.
    SystemExit: after a SIGTERM (code 143) or Ctrl-C (130) to any process and a
      checkpoint.
  """
  config_lib.check(config)
  config_lib.claim(workdir, config)
  with jax.set_mesh(sharding.make_mesh(**config.mesh)):
    run = _Run(config, workdir, base_dir)
    with interrupts.Interrupts() as interrupted:
      stop = _loop(run, config, interrupted)
      run.close()
  if stop:
    name = signal.Signals(stop).name
    if multihost.is_first():
      print(f"{name}: saved step {run.step}; the same command continues.")
    sys.exit(128 + stop)
  return run.progress.state


def _loop(
  run: "_Run",
  config: ml_collections.ConfigDict,
  interrupted: interrupts.Interrupts,
) -> int:
  """All steps; or until a signal to any process, which is returned, else 0."""
  for step in range(run.step, config.num_steps):
    if step % config.eval.every == 0:
      run.evaluate(step)
      if stop := multihost.max_over_hosts(interrupted.number):
        return stop
    run.train(step)
    if stop := multihost.max_over_hosts(interrupted.number):
      return stop
    if run.step % config.checkpoint.every == 0:
      run.save()
  run.save()
  run.evaluate(config.num_steps)
  return 0


class _Run:
  """A run in progress: what to do at a step, and where it has got to."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    base_dir: pathlib.Path,
  ):
    """Builds the parts and restores the newest checkpoint, if there is one."""
    self._config = config
    self._parts = build_run.build(config)
    self._order = _order(config, len(self._parts.problems["train"]))
    optimizer = train_step.make_optimizer(config)
    self._update = train_step.make_update(self._parts.model, config, optimizer)
    self._rows = sharding.rows_sharding(
      jax.sharding.get_mesh(), config.prompts_per_step
    )
    self._checkpointer = checkpointing.Checkpointer(
      workdir / "checkpoints", keep=config.checkpoint.keep
    )
    self.progress, self._frozen, self._reference = (
      initial_policy.restore_or_init(
        config, self._parts, optimizer, self._checkpointer, base_dir
      )
    )
    self._writer = metrics_writer.open_writer(
      workdir, start=self.step, num_steps=config.num_steps
    )
    if self.step:
      self._writer.say(f"Resumed {workdir} at step {self.step}.")

  @property
  def params(self) -> models.Params:
    """All parameters of the policy as it is now."""
    return models.merge(self._frozen, self.progress.state.params)

  @property
  def step(self) -> int:
    """How many steps are done."""
    return int(self.progress.state.step)

  def train(self, step: int) -> None:
    """One step: sample, grade, update, and log all of it."""
    start = time.perf_counter()
    state, solved = self.progress
    rows = self._order(step)
    sample_key, update_key = jax.random.split(_key(self._config, step))
    problems = [self._parts.problems["train"][i] for i in rows]
    rollout, seconds = self._parts.rollout_worker(
      self.params, problems, sample_key, n=self._config.n
    )
    sampled = time.perf_counter()
    state, update_metrics = self._update(
      state,
      multihost.place(rollout, self._rows),
      update_key,
      self._frozen,
      self._reference,
    )
    # While the devices work.
    rollout_metrics = evaluation.rollout_metrics(rollout)
    update_metrics = jax.device_get(update_metrics)
    end = time.perf_counter()
    # A broken policy may leave nothing to update: then its entropy shows it.
    finite = update_metrics | {"entropy": rollout_metrics["entropy"]}
    train_step.check_finite(step, finite, self._config.learning_rate)
    solved = solved.copy()
    # A problem can be in a batch twice: at the border of two epochs.
    np.logical_or.at(solved, rows, evaluation.solved(rollout))
    self.progress = checkpointing.Progress(state, solved)
    seconds |= {"update": end - sampled, "step": end - start}
    tokens = np.sum(rollout.completions.mask)
    self._writer.write(
      step,
      "train",
      rollout_metrics
      | update_metrics
      | {
        "solve_rate": solved.mean(),
        "tokens_per_second": tokens / (end - start),
      }
      | {f"seconds_{name}": value for name, value in seconds.items()},
    )

  def evaluate(self, step: int) -> None:
    """pass@k on the held-out problems, with keys of their own."""
    options = self._config.eval
    start = time.perf_counter()
    rewards, valid = evaluation.evaluate(
      self._parts.rollout_worker,
      self.params,
      self._parts.problems["test"][: options.num_problems],
      evaluation.key(options.seed),
      n=options.n,
      batch_size=self._config.prompts_per_step,
    )
    ks = evaluation.powers_of_two(options.n)
    curve = evaluation.pass_at_k_curve(rewards, valid, ks)
    seconds = {"seconds_eval": time.perf_counter() - start}
    self._writer.write(step, "eval", evaluation.named(curve) | seconds)

  def save(self) -> None:
    """Starts to save the progress, in the background."""
    self._checkpointer.save(self.progress)

  def close(self) -> None:
    """Saves, and waits until everything is on disk."""
    self.save()
    self._checkpointer.close()
    self._writer.close()


def _key(config: ml_collections.ConfigDict, step: int) -> chex.PRNGKey:
  """Of a step; evaluations have another root, see `evaluation.key`."""
  root = jax.random.fold_in(jax.random.key(config.seed), 0)
  return jax.random.fold_in(root, step)


def _order(
  config: ml_collections.ConfigDict, num_problems: int
) -> Callable[[int], list[int]]:
  """step -> the rows of its problems; every epoch is shuffled anew."""
  B = config.prompts_per_step
  rows = grain.MapDataset.range(num_problems).seed(config.seed)
  rows = rows.shuffle().repeat()
  return lambda step: [int(rows[i]) for i in range(step * B, (step + 1) * B)]
