"""The training loop: wires the rooms together, and holds no maths."""

import pathlib
import signal
import sys

import jax
import ml_collections

from pkpo_jax import multihost
from pkpo_jax.lm import sharding
from pkpo_jax.rl import train_step
from pkpo_jax.training import build_run, interrupts, watchdog
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import run as run_lib
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
    FloatingPointError: the policy is not finite; or a loss or a gradient, for
      more than `config.max_bad_steps` steps.
    SystemExit: after a SIGTERM (code 143) or Ctrl-C (130) to any process and a
      checkpoint, see `interrupts.Interrupts`; which may end the process itself
      where nothing is unsaved.
  """
  config_lib.check(config)
  workdir_lib.claim(workdir, config)
  stop = 0
  with (
    workdir_lib.released(workdir),
    jax.set_mesh(sharding.make_mesh(**config.mesh)),
    interrupts.Interrupts() as interrupted,
    watchdog.Watchdog() as watch,
  ):
    watch.begin("start")
    parts = build_run.build(config, data)
    run = run_lib.Run(config, workdir, base_dir, parts, watch)
    interrupted.unsaved = run.unsaved
    try:
      _loop(run, config, interrupted)
    except interrupts.Stopped as stopped:
      stop = stopped.number
    except Exception:
      run.give_up()
      raise
    run.close()
  if stop:
    name = signal.Signals(stop).name
    if multihost.is_first():
      print(f"{name}: saved step {run.step}; the same command continues.")
    sys.exit(128 + stop)
  return run.progress.state


def _loop(
  run: run_lib.Run,
  config: ml_collections.ConfigDict,
  interrupted: interrupts.Interrupts,
) -> None:
  """Takes all steps.

  A run that has stalled ends as if `config.num_steps` were reached.

  Raises:
    Stopped: after a signal to any process: within a step, or within a batch of
      an evaluation.
  """
  interrupted.check()
  for step in range(run.step, config.num_steps):
    if run.stalled:
      break
    if config.eval.every and step % config.eval.every == 0:
      run.evaluate(step, interrupted.checked)
      interrupted.check()
    run.train(step)
    interrupted.check()
    if run.step % config.checkpoint.every == 0:
      run.save()
  run.save()
  if config.eval.every:
    run.evaluate(run.step, interrupted.checked)
  if run.stalled:
    run.say_stalled()
  interrupted.check()
