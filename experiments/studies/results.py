"""Results of a study: one JSON file a run, and what is reported of them.

A file holds the metrics that figures draw, by step, with the config of the run,
the config's fingerprint, the commit and the seconds that the steps took. What
was made with another config than the study has now is not counted.
"""

import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from experiments.studies import study as study_lib
from experiments.studies.study import RESULTS, Run, Study
from pkpo_jax.training import config as config_lib

_KEPT = (
  "clip_fraction completion_length entropy fraction_updated grad_clipped"
  " grad_norm groups_all_right groups_all_wrong groups_skipped invalid k"
  " k_lowered kl_to_reference log_prob_mismatch_max log_prob_mismatch_mean"
  " num_problems num_ungraded solve_rate step truncated updates_skipped"
)
_CURVES = re.compile(r"(pass|max)@\d+(_stderr|_lower|_upper)?")
_DIGITS = 4  # significant ones; sampling errors are far above


class MissingResultsError(ValueError):
  """What cannot be drawn yet, with the command that makes it."""


class Result(NamedTuple):
  """A finished run.

  Attributes:
    run: which one.
    commit: of the code that trained it; two with a comma between, where a run
      went on with another one.
    seconds: of all its steps and evaluations.
    train: metric -> [steps].
    test: metric -> [evaluations] on the held-out problems; the first is of the
      base policy.
    by_problem: "pass@4", ... -> [problems] of the last evaluation; {} if the
      run was made before these were kept.
  """

  run: Run
  commit: str
  seconds: float
  train: dict[str, np.ndarray]
  test: dict[str, np.ndarray]
  by_problem: dict[str, np.ndarray]


class Value(NamedTuple):
  """One number of a run, or bounds in its place.

  Attributes:
    mean: NaN where answers that could not be graded leave it open.
    lower: the mean if these were wrong; where the mean exists, the mean.
    upper: the same if they were right.
  """

  mean: float
  lower: float
  upper: float


class Found(NamedTuple):
  """What a folder holds of a study.

  Attributes:
    done: results of runs as the study has them now.
    other: file -> why its result is not counted.
  """

  done: dict[Run, Result]
  other: dict[pathlib.Path, str]


def write(
  study: Study,
  folder: pathlib.Path,
  run: Run,
  records: Sequence[Mapping[str, Any]],
  commit: str,
  by_problem: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> pathlib.Path:
  """Writes the result of a run from its metrics.

  Args:
    study: what the run is of.
    folder: of the results of all studies.
    run: which one.
    records: of its metrics.jsonl.
    commit: of the code that trained it.
    by_problem: pass@k and max@k of each held-out problem at the end.

  Returns:
    The path of the file.
  """
  text = config_lib.to_json(study.make_config(run))
  stages = {
    name: [record for record in records if record["stage"] == stage]
    for name, stage in (("train", "train"), ("test", "eval"))
  }
  seconds = sum(r["seconds_step"] for r in stages["train"])
  seconds += sum(r["seconds_eval"] for r in stages["test"])
  result = {
    "study": study.name,
    **run._asdict(),
    "commit": commit,
    "fingerprint": config_lib.fingerprint(text),
    "seconds": round(seconds, 1),
    "config": json.loads(text),
    **{name: _columns(stage) for name, stage in stages.items()},
    "by_problem": {
      name: [_rounded(x) for x in values]
      for name, values in by_problem.items()
      if int(name.partition("@")[2]) in study.k_eval
    },
  }
  path = path_of(study, folder, run)
  path.parent.mkdir(parents=True, exist_ok=True)
  written = path.with_suffix(".tmp")
  written.write_text(_one_line_a_metric(result))
  written.replace(path)
  return path


def path_of(study: Study, folder: pathlib.Path, run: Run) -> pathlib.Path:
  """Where the result of a run is kept."""
  return folder / study.name / f"{run.name}.json"


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list]:
  """Metric -> values by step; NaN, and what a step lacks, become null."""
  names = [
    name
    for name in dict.fromkeys(name for record in records for name in record)
    if name in _KEPT.split() or _CURVES.fullmatch(name)
  ]
  return {
    name: [_rounded(record.get(name, math.nan)) for record in records]
    for name in names
  }


def _rounded(x: float) -> float | int | None:
  if isinstance(x, int):
    return x
  return float(f"{x:.{_DIGITS}g}") if math.isfinite(x) else None


def _one_line_a_metric(result: Mapping[str, Any]) -> str:
  """JSON that `git diff` shows metric by metric."""
  lines = []
  for name, value in result.items():
    if name in ("config", "train", "test", "by_problem"):
      inside = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
      text = "{\n" + ",\n".join(inside) + "\n }"
    else:
      text = json.dumps(value)
    lines.append(f" {json.dumps(name)}: {text}")
  return "{\n" + ",\n".join(lines) + "\n}\n"


def load(study: Study, folder: pathlib.Path) -> Found:
  """All results of a study in `folder`."""
  runs = {
    path_of(study, folder, run): run
    for run in (
      Run(arm, rate, seed)
      for arm in study.arms
      for rate in study.rates
      for seed in study.seeds
    )
  }
  found = Found({}, {})
  for path in sorted((folder / study.name).glob("*.json")):
    if path not in runs:
      found.other[path] = "no run of this study"
      continue
    saved = json.loads(path.read_text())
    text = config_lib.to_json(study.make_config(runs[path]))
    if saved["fingerprint"] == config_lib.fingerprint(text):
      found.done[runs[path]] = _result(runs[path], saved)
    else:
      changes = config_lib.difference(json.dumps(saved["config"]), text)
      found.other[path] = "another config: " + "; ".join(changes)
  return found


def _result(run: Run, saved: Mapping[str, Any]) -> Result:
  columns = (
    {name: np.array(x, float) for name, x in saved.get(part, {}).items()}
    for part in ("train", "test", "by_problem")
  )
  return Result(run, saved["commit"], saved["seconds"], *columns)


def bounds(
  columns: Mapping[str, np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
  """The lower and upper bounds of a metric: itself, where it exists."""
  value = columns[name]
  lower, upper = (
    np.where(np.isnan(value), columns.get(f"{name}_{end}", value), value)
    for end in ("lower", "upper")
  )
  return lower, upper


def summarise(study: Study, result: Result, metric: str) -> Value:
  """One number of a run, of a metric as `Study` describes them.

  Raises:
    ValueError: the run has no such metric.
  """
  kind, _, names = metric.partition(" ")
  columns = result.test if kind == "test" else result.train
  values = []
  for name in names.split(" + "):
    if kind not in ("train", "final", "rise", "test") or name not in columns:
      raise ValueError(
        f"{result.run.name} has no metric {metric!r}; known are train, final,"
        f" rise and test before one of: {', '.join(columns)}."
      )
    by_step = (columns[name], *bounds(columns, name))
    if kind == "rise":
      mean, lower, upper = (x[-1] - x[-1 - len(x) // 3] for x in by_step)
      values.append((mean, lower, upper))
    else:
      last = study.last if kind == "train" else 1
      values.append(tuple(np.mean(x[-last:]) for x in by_step))
  return Value(*(float(np.mean(x)) for x in zip(*values)))


def best_runs(
  study: Study, folder: pathlib.Path, done: Mapping[Run, Result] | None = None
) -> dict[str, Run]:
  """Arm or family -> the run of the first seed whose objective is largest.

  What has not been trained with all values to choose from is left out.

  Args:
    study: of which.
    folder: of the results of all studies.
    done: what `load` finds there, if it was called.

  Raises:
    ValueError: answers that could not be graded leave open which is best.
  """
  if study.rates_from:
    other = best_runs(study_lib.load(study.rates_from), folder)
    first = study.seeds[0]
    return {
      arm: other[arm]._replace(seed=first)
      for arm in study.reported
      if arm in other
    }
  done = load(study, folder).done if done is None else done
  choices = {
    arm: [run for run in study.runs_to_tune if run.arm == arm]
    for arm in study.tuned_arms
  }
  best = _best_of(study, choices, done)
  choices = {name: study.runs_of_families(best) for name in study.families}
  choices = {
    name: [run for run in runs if run.arm in study.families[name].arms]
    for name, runs in choices.items()
  }
  best |= _best_of(study, choices, done)
  return {name: best[name] for name in study.reported if name in best}


def _best_of(
  study: Study,
  choices: Mapping[str, Sequence[Run]],
  done: Mapping[Run, Result],
) -> dict[str, Run]:
  """Name -> the best of its runs, where all of them are done."""
  best = {}
  for name, runs in choices.items():
    if len(runs) == 1:
      best[name] = runs[0]
    elif runs and all(run in done for run in runs):
      best[name] = _best(study, [done[run] for run in runs])
  return best


def _best(study: Study, found: Sequence[Result]) -> Run:
  """The run of an arm whose objective is largest."""
  metric = study.objective(found[0].run.arm)
  values = [summarise(study, result, metric) for result in found]
  first = int(np.nanargmax([value.lower for value in values]))
  for result, value in zip(found, values):
    if result.run != found[first].run and value.upper > values[first].lower:
      raise ValueError(
        f"{metric} of {found[first].run.name} is at least"
        f" {values[first].lower:g}, and of {result.run.name} up to"
        f" {value.upper:g}: too many answers are ungraded to say which rate is"
        " best. Run them again, or choose another objective in the study."
      )
  return found[first].run


def reported(
  study: Study, folder: pathlib.Path, arms: Sequence[str] = ()
) -> dict[str, list[Result]]:
  """Arm or family -> results of all reported seeds of its best run.

  Args:
    study: of which.
    folder: of the results of all studies.
    arms: which; all if there are none.

  Raises:
    MissingResultsError: one of them is not there; says how to make it.
    ValueError: an arm is not of the study.
  """
  if unknown := [arm for arm in arms if arm not in study.reported]:
    raise ValueError(
      f"--arms={' '.join(unknown)}: not in study {study.name!r}, which has"
      f" {', '.join(study.reported)}."
    )
  found = load(study, folder)
  best = best_runs(study, folder, found.done)
  missing, chosen = [], {}
  for name in arms or study.reported:
    if name not in best:
      missing += _missing_choices(study, name, best, found)
      continue
    runs = study.runs_to_report({name: best[name]})
    missing += [run.name for run in runs if run not in found.done]
    chosen[name] = [found.done[run] for run in runs if run in found.done]
  if missing:
    raise MissingResultsError(_what_is_missing(study, folder, missing, found))
  return chosen


def _missing_choices(
  study: Study, name: str, best: Mapping[str, Run], found: Found
) -> list[str]:
  """What must be trained before the best of an arm or family is known."""
  if study.rates_from:
    return [f"the best rate of {name} in study {study.rates_from}"]
  arms = study.families[name].arms if name in study.families else (name,)
  runs = [*study.runs_to_tune, *study.runs_of_families(best)]
  names = [r.name for r in runs if r.arm in arms and r not in found.done]
  return names or [f"{name} at the best rate of another arm"]


def _what_is_missing(
  study: Study, folder: pathlib.Path, missing: Sequence[str], found: Found
) -> str:
  names = ", ".join(missing[:3])
  if len(missing) > 3:
    names += f" and {len(missing) - 3} more"
  stale = sum("another config" in reason for reason in found.other.values())
  note = f" ({stale} of another config are not counted)" if stale else ""
  return (
    f"{folder / study.name} lacks {names}{note}; make them with:"
    f" {command(study, folder)}"
  )


def command(study: Study, folder: pathlib.Path) -> str:
  """What makes the missing results of a study."""
  text = f"python -m experiments.studies.run --study={study.name}"
  if folder != RESULTS:
    text += f" --results={folder}"
  return text


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard error over the first axis, the seeds.

  The error of a single seed is NaN.
  """
  values = np.asarray(values, float)
  if len(values) == 1:
    return values[0], np.full_like(values[0], np.nan)
  return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
