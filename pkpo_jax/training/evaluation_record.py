"""The file of an evaluation: written, found again, compared with another."""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from pkpo_jax.rl import evaluation

WHAT = "evaluation of a run of pkpo_jax"  # what a file says it is
# In a file, and without influence on the answers: the folder may have moved,
# other devices sample the same.
_FREE = ("run", "config")


def is_on_record(path: pathlib.Path, head: Mapping[str, Any]) -> bool:
  """Whether the file has what would be found again; says what it replaces."""
  if not path.exists():
    return False
  try:
    old = json.loads(path.read_text())
  except ValueError:
    return False
  new = json.loads(json.dumps(dict(head)))
  changed = [
    f"{name}: {old.get(name)} -> {value}"
    for name, value in new.items()
    if name not in _FREE and old.get(name) != value
  ]
  if changed:
    print(f"Replaces {path}, which differs in {'; '.join(changed)}")
  return not changed and not str(head["commit"]).endswith("+")


def write(path: pathlib.Path, found: Mapping[str, Any]) -> None:
  """Writes JSON at once or not at all: null for NaN, a problem a line."""
  head = {name: x for name, x in found.items() if name != "problems"}
  rows = (f"  {json.dumps(_plain(row))}" for row in found["problems"])
  text = json.dumps(_plain(head), indent=1, allow_nan=False)
  text = f'{text[:-2]},\n "problems": [\n' + ",\n".join(rows) + "\n ]\n}\n"
  new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  try:
    new.write_text(text)
    new.replace(path)
  except OSError as error:
    raise OSError(
      f"{path} cannot be written ({error.strerror}). What was found:"
      f" {json.dumps(_plain(found['metrics']))}"
    ) from error


def _plain(x: Any) -> Any:
  """The same with None for what does not exist."""
  if isinstance(x, Mapping):
    return {name: _plain(value) for name, value in x.items()}
  if isinstance(x, list):
    return [_plain(y) for y in x]
  return None if isinstance(x, float) and not math.isfinite(x) else x


def read(path: pathlib.Path) -> dict[str, Any]:
  """An evaluation that `write` has written.

  Raises:
    ValueError: the file is something else.
    OSError: it cannot be read.
  """
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f"{path} is no evaluation: {error}") from error
  if not isinstance(found, dict) or found.get("what") != WHAT:
    raise ValueError(
      f"{path} is no evaluation that experiments.evaluate wrote."
    )
  return found


def estimate(
  found: Mapping[str, Any], ks: Sequence[int]
) -> "dict[str, evaluation.Estimate]":
  """pass@k of an evaluation, and max@k, see `evaluation.estimate`."""
  from pkpo_jax.rl import evaluation

  return evaluation.estimate(
    *_rewards(found["problems"]), ks, binary=found["binary_rewards"]
  )


def compare(
  before: Mapping[str, Any], after: Mapping[str, Any], ks: Sequence[int]
) -> "dict[str, evaluation.Estimate]":
  """Gains by pairs of problems, see `evaluation.compare`.

  Args:
    before: an evaluation.
    after: another, of the same problems; all else may differ.
    ks: each at most both n.

  Raises:
    ValueError: they are not of the same problems.
  """
  from pkpo_jax.rl import evaluation

  check_same_problems(before, after)
  return evaluation.compare(
    _rewards(before["problems"]),
    _rewards(after["problems"]),
    ks,
    binary=before["binary_rewards"] and after["binary_rewards"],
  )


def check_same_problems(
  *found: Mapping[str, Any], contents: str | None = None
) -> None:
  """Checks that evaluations are of the same problems.

  Args:
    *found: the evaluations.
    contents: a fingerprint of problems that these must be of, too.

  Raises:
    ValueError: they are of others.
  """
  others = [
    x for x in found if x["contents"] != (contents or found[0]["contents"])
  ]
  if others:
    described = [
      f"{x['num_problems']} {x['split']} problems of {x['task']['name']}"
      f" (step {x['step']} of {x['run']})"
      for x in found
    ]
    raise ValueError(
      f"Not of the same problems: {' and '.join(described)}. Evaluate on the"
      " same --split, --num_problems, config.task and config.eval.seed."
    )


def _rewards(
  problems: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray]:
  """Rewards and valid, [N, n] each."""
  rewards = np.array([row["rewards"] for row in problems], float)
  valid = ~np.isnan(rewards)
  return np.where(valid, rewards, 0.0), valid
