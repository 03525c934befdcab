"""The training loop: wires the rooms together, and holds no maths."""

import pathlib
import signal
import sys
import time

import chex
import jax
import ml_collections
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import evaluation, rollout_metrics, train_step
from pkpo_jax.training import (
  build_run,
  checkpointing,
  initial_policy,
  interrupts,
  metrics_writer,
  problem_order,
)
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import workdir as workdir_lib


def train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  base_dir: pathlib.Path,
  data: build_run.Data | None = None,
) -> train_step.TrainState:
  """Runs a config to its end, from the newest checkpoint in `workdir` if any.

  With several processes, all of them call this.

  Args:
    config: a training config, see configs/default.py.
    workdir: the folder of this run alone: checkpoints, metrics, TensorBoard.
    base_dir: the folder of base policies that are trained on demonstrations.
    data: what `build_run.load_data` makes of the config, if it was called.

  Returns:
    The final state.

  Raises:
    ValueError: a config that is not valid, or not that of `workdir`.
    FloatingPointError: a loss or gradient is not finite.
    SystemExit: after a SIGTERM (code 143) or Ctrl-C (130) to any process and a
      checkpoint.
  """
  config_lib.check(config)
  workdir_lib.claim(workdir, config)
  with jax.set_mesh(sharding.make_mesh(**config.mesh)):
    run = Run(config, workdir, base_dir, build_run.build(config, data))
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
  run: "Run",
  config: ml_collections.ConfigDict,
  interrupted: interrupts.Interrupts,
) -> int:
  """Takes all steps, or those until a signal to any process.

  A run that has stalled ends as if `config.num_steps` were reached.

  Returns:
    The number of the signal, else 0.
  """
  for step in range(run.step, config.num_steps):
    if run.stalled:
      break
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
  run.evaluate(run.step)
  if run.stalled:
    run.say_stalled()
  return 0


class Run:
  """A run in progress: what to do at a step, and where it has got to."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    base_dir: pathlib.Path,
    parts: build_run.Parts,
  ):
    """Starts the graders and restores the newest checkpoint, if any."""
    self._config, self._parts = config, parts
    parts.task.start()
    self._order = problem_order.problem_order(
      len(parts.problems["train"]),
      prompts_per_step=config.prompts_per_step,
      seed=config.seed,
    )
    self._k_schedule = config_lib.make_k_schedule(config)
    self._train_step = build_run.compile_train_step(
      config, parts.model, build_run.make_optimizer(config)
    )
    self._rows = sharding.rows_sharding(
      jax.sharding.get_mesh(), config.prompts_per_step
    )
    self._checkpointer = checkpointing.Checkpointer(
      workdir / "checkpoints", keep=config.checkpoint.keep
    )
    resumed = initial_policy.restore_or_init(
      config, parts, self._checkpointer, base_dir
    )
    self.progress, self._frozen, self._reference = resumed
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

  @property
  def stalled(self) -> bool:
    """Whether `config.patience` steps have solved no problem anew."""
    last = int(np.max(self.progress.solved_at))  # NEVER is before step 0
    patience = self._config.patience
    return bool(patience) and self.step - (last + 1) >= patience

  def say_stalled(self) -> None:
    """Says on screen and in the log why the run ended before its last step."""
    rate = np.mean(self.progress.solved_at != checkpointing.NEVER)
    patience = self._config.patience
    self._writer.write(
      self.step, "stalled", {"patience": patience, "solve_rate": rate}
    )
    self._writer.say(
      f"Ended at step {self.step}: the solve rate has stood still at {rate:.3f}"
      f" for config.patience={patience} steps."
    )

  def train(self, step: int) -> None:
    """Takes one step: sample, grade, weigh, update; and logs all of it."""
    start = time.perf_counter()
    state, solved_at = self.progress
    rows = self._order(step)
    sample_key, update_key = jax.random.split(_key(self._config.seed, step))
    problems = [self._parts.problems["train"][i] for i in rows]
    rollout, seconds = self._parts.rollout_worker(
      self.params, problems, sample_key, n=self._config.n
    )
    sampled = time.perf_counter()
    state, update_metrics = self._train_step(
      state,
      multihost.place(rollout, self._rows),
      np.asarray(self._k_schedule(step)),
      update_key,
      self._frozen,
      self._reference,
    )
    measured = rollout_metrics.rollout_metrics(rollout)
    update_metrics = jax.device_get(update_metrics)
    end = time.perf_counter()
    # A broken policy may leave nothing to update: then its entropy shows it.
    finite = update_metrics | {"entropy": measured["entropy"]}
    check_finite(step, finite, self._config.learning_rate)
    solved_at = solved_at.copy()
    # A problem can be in a batch twice: at the border of two epochs.
    newly = np.asarray(rows)[rollout_metrics.solved(rollout)]
    solved_at[newly[solved_at[newly] == checkpointing.NEVER]] = step
    self.progress = checkpointing.Progress(state, solved_at)
    seconds |= {"update": end - sampled, "step": end - start}
    tokens = np.sum(rollout.completions.mask)
    self._writer.write(
      step,
      "train",
      measured
      | update_metrics
      | {
        "solve_rate": np.mean(solved_at != checkpointing.NEVER),
        "tokens_per_second": tokens / (end - start),
      }
      | {f"seconds_{name}": value for name, value in seconds.items()},
    )

  def evaluate(self, step: int) -> None:
    """Logs pass@k on the held-out problems, sampled with keys of their own."""
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
    curve = rollout_metrics.pass_at_k_curve(rewards, valid, ks)
    seconds = {"seconds_eval": time.perf_counter() - start}
    self._writer.write(step, "eval", rollout_metrics.named(curve) | seconds)

  def save(self) -> None:
    """Starts to save the progress, in the background."""
    self._checkpointer.save(self.progress)

  def close(self) -> None:
    """Saves, waits until everything is on disk, and ends the graders."""
    self.save()
    self._checkpointer.close()
    self._writer.close()
    self._parts.task.close()


def _key(seed: int, step: int) -> chex.PRNGKey:
  """The key of a step; evaluations have another root, see `evaluation.key`."""
  root = jax.random.fold_in(jax.random.key(seed), 0)
  return jax.random.fold_in(root, step)


def check_finite(step: int, metrics: dict[str, float], rate: float) -> None:
  """Stops a run before a broken state is saved.

  Looks at what the state depends on; other metrics may overflow.

  Raises:
    FloatingPointError: names what is not finite, and what may be done.
  """
  names = ("loss", "grad_norm", "entropy")
  broken = [x for x in names if x in metrics and not np.isfinite(metrics[x])]
  if not broken:
    return
  advice = (
    "The rewards are not such as config.transform takes (maxrl and"
    " passk_training: 0 and 1 alone), or the policy moved too far in one step:"
    f" lower config.learning_rate={rate}, config.epochs or config.minibatches."
  )
  if "entropy" in broken:  # of the policy before this update
    advice = (
      "The policy itself is broken: look for parameters that are not finite in"
      f" config.base, or lower config.learning_rate={rate}."
    )
  raise FloatingPointError(
    f"{', '.join(broken)} not finite at step {step}; the last checkpoint is"
    f" intact. {advice}"
  )
