"""Evaluates policies of a run, on its mesh and in all its processes."""

import json
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pkpo_jax import multihost
from pkpo_jax.lm import models
from pkpo_jax.rl import evaluation, rollout_metrics
from pkpo_jax.tasks import base as task_lib
from pkpo_jax.training import (
  build_run,
  checkpointing,
  evaluation_record,
  provenance,
  saved_policy,
)
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import evaluation_request as request_lib
from pkpo_jax.training import workdir as workdir_lib


class Evaluator:
  """Evaluates policies of a run, on the mesh that is set."""

  def __init__(
    self,
    request: request_lib.Request,
    data: build_run.Data,
    problems: Sequence[task_lib.Problem],
    base_dir: pathlib.Path,
  ):
    """Starts the graders.

    Args:
      request: what is asked.
      data: of `request_lib.load_problems`.
      problems: of `request_lib.load_problems`.
      base_dir: where base policies are kept.

    Raises:
      ValueError: as `build_run.build`.
    """
    self._request, self._problems, self._base_dir = request, problems, base_dir
    self._parts = build_run.build(
      request.config,
      data,
      temperature=request.temperature,
      top_p=request.top_p,
    )
    self._parts.task.start()

  def close(self) -> None:
    """Ends the graders."""
    self._parts.task.close()

  def evaluate(
    self, step: int, progress: Callable[[Iterable[int]], Iterable[int]] = iter
  ) -> pathlib.Path:
    """Evaluates the policy of a step, unless that is on record.

    The first process writes the file; all call this.

    Args:
      step: of `request_lib.choose_steps`.
      progress: is given the batches, and yields them.

    Returns:
      The path of the file, see docs/training.md.

    Raises:
      ValueError: the checkpoint is damaged, or the base policy, where it is
        needed, not what the run began with.
      OSError: the file cannot be written.
    """
    request, config = self._request, self._request.config
    path = request_lib.file_of(request, step)
    workdir_lib.first_process(lambda: path.parent.mkdir(exist_ok=True))
    params, policy = self._policy(step)
    head = self._describe(step, policy)
    if multihost.max_over_hosts(
      multihost.is_first() and evaluation_record.is_on_record(path, head)
    ):
      return path
    start = time.perf_counter()
    answers = evaluation.evaluate(
      self._parts.rollout_worker,
      params,
      self._problems,
      evaluation.key(config.eval.seed),
      n=request.n,
      batch=evaluation.plan_batch(
        len(self._problems),
        request.n,
        prompts=config.prompts_per_step,
        samples=config.n,
      ),
      progress=progress,
    )
    found = head | provenance.surroundings()
    found["seconds"] = round(time.perf_counter() - start, 1)
    found |= self._measured(answers)
    workdir_lib.first_process(lambda: evaluation_record.write(path, found))
    return path

  def _policy(self, step: int) -> tuple[models.Params, str]:
    """All parameters of a policy, and a fingerprint of their bits."""
    request = self._request
    frozen, trained = saved_policy.load(
      request.workdir, step, request.config, self._parts, self._base_dir
    )
    sums = multihost.fetch(checkpointing.checksums((frozen, trained)))
    fingerprint = config_lib.fingerprint(str(sums.tolist()))
    return models.merge(frozen, trained), fingerprint

  def _describe(self, step: int, policy: str) -> dict[str, Any]:
    """What the results of a policy depend on."""
    request = self._request
    return {
      "what": evaluation_record.WHAT,
      "run": str(request.workdir.absolute()),
      "step": step,
      "policy": policy,
      **request_lib.settings(request),
      "num_problems": len(self._problems),
      "num_dropped": self._parts.dropped[request.split],
      "contents": provenance.of_problems(self._problems, prompts=False),
      "binary_rewards": task_lib.has_binary_rewards(self._parts.task),
      "config": json.loads(config_lib.to_json(request.config)),
      **provenance.code(),
    }

  def _measured(self, answers: rollout_metrics.Answers) -> dict[str, Any]:
    """All metrics, and what became of each problem."""
    binary = task_lib.has_binary_rewards(self._parts.task)
    return {
      "num_ungraded": int((~answers.valid).sum()),
      "metrics": rollout_metrics.measure(answers, binary=binary),
      "problems": [
        {"id": problem.id, "tier": problem.tier}
        | rollout_metrics.describe_problem(answers, row)
        for row, problem in enumerate(self._problems)
      ],
    }
