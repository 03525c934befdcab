"""What is asked of a run's policies, checked before anything is sampled.

Free of gemma, whose import takes seconds, so that a typo is answered at once.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from pkpo_jax.tasks import base
from pkpo_jax.training import build_run, provenance
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import workdir as workdir_lib

BASE = 0  # steps that the base policy has taken
FOLDER = "evaluations"  # in the run's
# What may be other than in the run: the problems and how they are asked, where
# files lie, and how much is sampled at once on which devices.
CHANGEABLE = (
  "task",
  "max_prompt_tokens",
  "max_new_tokens",
  "long_prompts",
  "stop",
  "truncated",
  "tokenizer.path",
  "base.path",
  "mesh",
  "prompts_per_step",
  "eval.seed",
)
# Those of them that results depend on.
_ASKED = (
  "task",
  "max_prompt_tokens",
  "max_new_tokens",
  "long_prompts",
  "stop",
  "truncated",
)


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked of one or more policies of a run.

  Attributes:
    workdir: the run's.
    config: the run's, with what is changed for this evaluation.
    run_config: the run's own.
    split: of the problems.
    n: answers to each.
    temperature: of sampling; 0 is greedy.
    top_p: of sampling; None: from all tokens.
    num_problems: how many are drawn, by `config.eval.seed`; None: all.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict
  run_config: ml_collections.ConfigDict
  split: str
  n: int
  temperature: float
  top_p: float | None
  num_problems: int | None


def make_request(
  workdir: pathlib.Path,
  changes: Mapping[str, Any],
  *,
  split: str = "test",
  n: int | None = None,
  temperature: float | None = None,
  top_p: float | None = None,
  num_problems: int | None = None,
) -> Request:
  """Checks what is asked, and fills in what the run's config says.

  All processes call this with the same arguments.

  Args:
    workdir: the run's.
    changes: value of the config -> what it is in this evaluation. Another
      "task.name" begins with none of the options of the run's task.
    split: of the problems.
    n: None: `config.eval.n`, or 1 if greedy.
    temperature: None: the run's.
    top_p: None: all tokens.
    num_problems: None: all.

  Raises:
    ValueError: something is out of range or without effect, or the processes
      differ.
  """
  run_config = workdir_lib.read_config(workdir)
  config = _changed(run_config, changes)
  _check(config)
  if temperature is None:
    temperature = config.temperature
  if n is None:
    n = config.eval.n if temperature else 1
  _check_sampling(n, temperature, top_p, num_problems)
  request = Request(
    workdir,
    config,
    run_config,
    split,
    n,
    float(temperature),
    None if top_p == 1 else top_p,
    num_problems,
  )
  asked = {
    "config": json.loads(config_lib.to_json(config)),
    **settings(request),
  }
  workdir_lib.check_same_everywhere(json.dumps(asked))
  return request


def _check_sampling(
  n: int, temperature: float, top_p: float | None, num_problems: int | None
) -> None:
  """Raises for what is out of range or has no effect; names the option."""
  if not 0 <= temperature < math.inf:
    raise ValueError(
      f"--temperature={temperature} must be 0, greedy, or above."
    )
  if n < 1:
    raise ValueError(f"--n={n} must be at least 1.")
  if temperature == 0 and n > 1:
    raise ValueError(
      f"--temperature=0 is greedy: all --n={n} answers would be the same; leave"
      " --n out."
    )
  if top_p is not None and not 0 < top_p <= 1:
    raise ValueError(f"--top_p={top_p} must be above 0 and at most 1.")
  if top_p is not None and temperature == 0:
    raise ValueError(f"--top_p={top_p} has no effect at --temperature=0.")
  if num_problems is not None and num_problems < 1:
    raise ValueError(f"--num_problems={num_problems} must be at least 1.")


def _changed(
  run_config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """A run's config with some values changed."""
  config = run_config.copy_and_resolve_references()
  for name in changes:
    if not any(name == x or name.startswith(f"{x}.") for x in CHANGEABLE):
      raise ValueError(
        f"config.{name} is the run's, or has no effect on an evaluation; what"
        f" may be changed: {', '.join(f'config.{x}' for x in CHANGEABLE)}."
      )
  task = changes.get("task.name", config.task.name)
  if task != config.task.name:
    config.task = ml_collections.ConfigDict({"name": task})
  with config.task.unlocked(), config.task.ignore_type():
    for name, value in changes.items():
      try:
        config.update_from_flattened_dict({name: value})
      except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"config.{name}={value!r}: {error}") from error
  return config


def _check(config: ml_collections.ConfigDict) -> None:
  """Checks a config but for how an update is divided: there is none."""
  config = config.copy_and_resolve_references()
  config.update(minibatches=1)
  config.microbatch.rows = 1
  config_lib.check(config)


def choose_steps(workdir: pathlib.Path, wanted: Sequence[str]) -> list[int]:
  """Policies of a run by the steps that they have taken; the same everywhere.

  Args:
    workdir: the run's.
    wanted: numbers, 0 for the base policy; or "latest".

  Raises:
    ValueError: the run has no such checkpoint; says which it has.
  """
  saved = workdir_lib.complete_steps(workdir / "checkpoints")
  there = [BASE, *(step for step in saved if step != BASE)]
  listed = ", ".join(map(str, there))
  steps = []
  for name in wanted:
    step = str(there[-1]) if name == "latest" else name
    if not step.isdigit() or int(step) not in there:
      raise ValueError(
        f"--step={name}: {workdir} has {listed}, where {BASE} is the base"
        " policy; or say latest."
      )
    if name == "latest" and there[-1] == BASE:
      raise ValueError(
        f"{workdir} holds no checkpoint yet; --step={BASE} evaluates its base"
        " policy."
      )
    if int(step) not in steps:
      steps.append(int(step))
  return steps


def load_problems(
  request: Request,
) -> tuple[build_run.Data, Sequence[base.Problem]]:
  """The task with its tokenizer, and the problems to evaluate.

  Raises:
    ValueError: as `build_run.load_data`; or there is no such split, it has
      fewer problems, or another vocabulary than the policy knows.
  """
  from pkpo_jax.rl import evaluation

  config, split = request.config, request.split
  data = build_run.load_data(config, [split])
  provenance.require_words(request.workdir, request.run_config, data.task)
  problems = data.problems[split]
  count = request.num_problems
  if count is None:
    return data, problems
  if count > len(problems):
    raise ValueError(
      f"--num_problems={count}: there are {len(problems)} {split} problems"
      f" ({data.dropped[split]} dropped as too long)."
    )
  return data, evaluation.draw(problems, count, config.eval.seed)


def settings(request: Request) -> dict[str, Any]:
  """What the answers depend on, beside the policy."""
  config = json.loads(config_lib.to_json(request.config))
  return {
    "split": request.split,
    "n": request.n,
    "temperature": request.temperature,
    "top_p": request.top_p,
    "seed": request.config.eval.seed,
    **{name: config[name] for name in _ASKED},
  }


def file_of(request: Request, step: int) -> pathlib.Path:
  """The file of an evaluation; another for whatever results depend on."""
  parts = [f"step{step}", request.split, f"n{request.n}"]
  parts.append(f"t{request.temperature:g}")
  if request.top_p is not None:
    parts.append(f"p{request.top_p:g}")
  if request.num_problems is not None:
    parts.append(f"{request.num_problems}problems")
  own = dataclasses.replace(request, config=request.run_config)
  asked = settings(request)
  if asked != settings(own):
    name = request.config.task.name.rpartition(":")[2]
    parts += [name, config_lib.fingerprint(json.dumps(asked, sort_keys=True))]
  return request.workdir / FOLDER / f"{'_'.join(parts)}.json"
