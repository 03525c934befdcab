"""A run in progress: what a step of training does, and where it has got to."""

import pathlib
import time
from collections.abc import Callable, Iterable, Iterator

import chex
import jax
import ml_collections
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import models, sharding
from pkpo_jax.rl import evaluation, rollout_metrics
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.tasks import base
from pkpo_jax.training import (
  build_run,
  checkpointing,
  held_out,
  initial_policy,
  k_by_problem,
  metrics_writer,
  problem_order,
  provenance,
  watchdog,
)
from pkpo_jax.training import config as config_lib


class Run:
  """A run in progress: what to do at a step, and where it has got to."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    base_dir: pathlib.Path,
    parts: build_run.Parts,
    watch: watchdog.Watchdog,
  ):
    """Starts the graders and restores the newest checkpoint, if any."""
    self._config, self._parts, self._watch = config, parts, watch
    self._workdir = workdir
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
    begun = self._checkpointer.latest is not None
    found = provenance.contents(config, parts)
    provenance.check_contents(workdir, found, begun=begun)
    resumed = initial_policy.restore_or_init(
      config,
      parts,
      self._checkpointer,
      base_dir,
      provenance.saved_contents(workdir),
    )
    self.progress, self._frozen, self._reference, base = resumed
    provenance.check_contents(workdir, base, begun=begun)
    provenance.record_start(workdir, self.step, parts.dropped)
    self._taken = self.step  # without a look at arrays, which may be donated
    self._writer = metrics_writer.open_writer(
      workdir, start=self.step, num_steps=config.num_steps
    )
    self._bad_steps = multihost.max_over_hosts(self._writer.bad_steps)
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
    """Takes one step: sample, grade, weigh, update; and logs all of it.

    Updates whose gradient or loss is not finite have changed nothing, see
    `train_step`; a step that has one is a bad one.

    Raises:
      FloatingPointError: after more bad steps than `config.max_bad_steps`.
    """
    start = time.perf_counter()
    self._watch.begin("sampling and grading", f"of step {step}")
    state, solved_at, _ = self.progress
    rows = np.asarray(self._order(step))
    k = self._k(step, rows)
    sample_key, update_key = jax.random.split(_key(self._config.seed, step))
    problems = [self._parts.problems["train"][i] for i in rows]
    rollout, reasons, seconds = self._parts.rollout_worker(
      self.params, problems, sample_key, n=self._config.n
    )
    sampled = time.perf_counter()
    self._watch.begin("update", f"of step {step}")
    state, update_metrics = self._train_step(
      state,
      multihost.place(rollout, self._rows),
      k,
      update_key,
      self._frozen,
      self._reference,
    )
    # In numpy alone, while the devices update.
    measured = self._measure(
      rollout_metrics.answers(rollout, problems, reasons), "train"
    )
    update_metrics = jax.device_get(update_metrics)
    end = time.perf_counter()
    self._count_bad(step, not_finite(update_metrics))
    solved_at = solved_at.copy()
    # A problem can be in a batch twice: at the border of two epochs.
    newly = rows[rollout_metrics.solved(rollout)]
    solved_at[newly[solved_at[newly] == checkpointing.NEVER]] = step
    if counts := self.progress.counts:
      update_metrics |= k_by_problem.measure(counts, rows, k)
    counts = self._count(rows, rollout)
    self.progress = checkpointing.Progress(state, solved_at, counts)
    self._taken = step + 1
    seconds |= {"update": end - sampled, "step": end - start}
    tokens = np.sum(rollout.completions.mask)
    self._writer.write(
      step,
      "train",
      measured
      | update_metrics
      | {
        "solve_rate": np.mean(solved_at != checkpointing.NEVER),
        "bad_steps": self._bad_steps,
        "tokens_per_second": tokens / (end - start),
      }
      | {f"seconds_{name}": value for name, value in seconds.items()},
    )

  def _count_bad(self, step: int, broken: list[str]) -> None:
    """Counts a step with metrics that are not finite; ends at the limit."""
    if not broken:
      return
    self._bad_steps += 1
    allowed, rate = self._config.max_bad_steps, self._config.learning_rate
    what = f"{', '.join(broken)} not finite at step {step}"
    if self._bad_steps > allowed:
      raise FloatingPointError(
        f"{what}, which makes {self._bad_steps} bad steps, above"
        f" config.max_bad_steps={allowed}; the last checkpoint is intact. The"
        " policy moves too far in one step, or a reward is too large: lower"
        f" config.learning_rate={rate} and continue with"
        " --change_learning_rate, or take fewer config.epochs or"
        " config.minibatches in a new run; or allow more."
      )
    self._writer.say(
      f"{what}: it changed nothing, and is bad step {self._bad_steps} of"
      f" config.max_bad_steps={allowed} at most."
    )

  def _k(self, step: int, rows: np.ndarray) -> np.ndarray:
    """The k of a step, or one for each of its problems, from earlier steps."""
    counts = self.progress.counts
    if counts is None:
      return np.asarray(self._k_schedule(step))
    return k_by_problem.ks(counts, rows, k_max=self._k_schedule.max_k)

  def _count(
    self, rows: np.ndarray, some: rollout_lib.Rollout
  ) -> k_by_problem.Counts | None:
    """The counts of all steps, after one with the problems `rows` [B]."""
    counts, masked = self.progress.counts, self._config.truncated == "masked"
    return counts and k_by_problem.count(
      counts,
      rows,
      np.asarray(some.rewards),
      np.asarray(rollout_lib.samples_that_count(some, masked)),
      forgetting=self._config.k_forgetting,
    )

  def unsaved(self) -> bool:
    """Whether steps were taken that no complete checkpoint holds."""
    return self._taken > 0 and not self._checkpointer.holds(self._taken)

  def evaluate(
    self,
    step: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
  ) -> None:
    """Logs metrics of held-out problems, sampled with keys of their own.

    An evaluation that is on record already is not repeated.

    Args:
      step: the one that the evaluation is of.
      progress: is given the batches, and yields them.
    """

    def watched(starts: Iterable[int]) -> Iterator[int]:
      for start in progress(starts):
        self._watch.begin(
          "batch of an evaluation", f"at step {step}, from problem {start} on"
        )
        yield start

    if multihost.max_over_hosts(self._writer.has_evaluated(step)):
      return
    options = self._config.eval
    start = time.perf_counter()
    problems = evaluation.draw(
      self._parts.problems["test"], options.num_problems, options.seed
    )
    answers = evaluation.evaluate(
      self._parts.rollout_worker,
      self.params,
      problems,
      evaluation.key(options.seed),
      n=options.n,
      batch=evaluation.plan_batch(
        len(problems),
        options.n,
        prompts=self._config.prompts_per_step,
        samples=self._config.n,
      ),
      progress=watched,
    )
    seconds = {"seconds_eval": time.perf_counter() - start}
    if multihost.is_first():
      ids = [problem.id for problem in problems]
      held_out.write(self._workdir, step, ids, self._curves(answers))
    self._writer.write(step, "eval", self._measure(answers, "test") | seconds)

  def _curves(
    self, answers: rollout_metrics.Answers
  ) -> dict[str, rollout_metrics.Curve]:
    """pass@k, and max@k where rewards are not 0/1, of each problem."""
    rewards, valid = answers.rewards, answers.valid
    ks = rollout_metrics.k_eval(rewards.shape[1])
    binary = base.has_binary_rewards(self._parts.task)
    return rollout_metrics.curves(rewards, valid, ks, binary=binary)

  def _measure(
    self, answers: rollout_metrics.Answers, split: str
  ) -> dict[str, float]:
    """The metrics of answers to problems of a split."""
    dropped = {"num_dropped": self._parts.dropped[split]}
    binary = base.has_binary_rewards(self._parts.task)
    return dropped | rollout_metrics.measure(answers, binary=binary)

  def save(self) -> None:
    """Starts to save the progress, in the background."""
    self._watch.begin("save", f"of step {self._taken}")
    self._writer.flush()  # so that no checkpoint is ahead of the metrics
    self._checkpointer.save(self.progress)

  def give_up(self) -> None:
    """Lets the last save come to its end, after an error.

    Not with several processes: each of them has a part in it, and others may
    be gone.
    """
    if jax.process_count() == 1:
      self._watch.begin("end")
      self._checkpointer.wait()

  def close(self) -> None:
    """Saves, waits until everything is on disk, and ends the graders."""
    self.save()
    self._watch.begin("end")
    self._checkpointer.close()
    self._writer.close()
    self._parts.task.close()


def _key(seed: int, step: int) -> chex.PRNGKey:
  """The key of a step; evaluations have another root, see `evaluation.key`."""
  root = jax.random.fold_in(jax.random.key(seed), 0)
  return jax.random.fold_in(root, step)


def not_finite(metrics: dict[str, float]) -> list[str]:
  """The metrics that are not finite, of those that the state depends on."""
  decisive = ("loss", "grad_norm")
  return [
    name
    for name, value in metrics.items()
    if name in decisive and not np.isfinite(value)
  ]
