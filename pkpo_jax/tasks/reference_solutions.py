"""Grades each problem's own solution once, before anything else is graded.

A wrong test, or a setup that cannot run, would make every answer wrong, and
nobody would know. What has passed is remembered in the user's cache folder,
where it took long.
"""

import hashlib
import logging
import os
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from pkpo_jax.tasks import base

_WORTH_SECONDS = 5.0  # What was graded faster is not remembered.
_log = logging.getLogger(__name__)


class Solved(NamedTuple):
  """A problem with its own solution.

  Attributes:
    where: the place in the data.
    problem: as the task has it.
    code: the solution.
  """

  where: str
  problem: base.Problem
  code: str


def check(task: base.Task, solved: Sequence[Solved], conditions: str) -> None:
  """Grades the solutions that have not passed before.

  Args:
    task: grades them.
    solved: the problems.
    conditions: all else that a grade depends on, as text.

  Raises:
    ValueError: one is wrong, other than by being slow, which is logged; the
      message names the first.
  """
  file, passed = _cache_file(), set[str]()
  if file.is_file():
    passed.update(file.read_text("ascii", errors="replace").split())
  new = {
    key: one for one in solved if (key := _key(one, conditions)) not in passed
  }
  if not new:
    return
  _log.info("Grading the data's own solutions of %d problems.", len(new))
  start = time.monotonic()
  grades = [
    grade
    for (grade,) in task.grades(
      [one.problem for one in new.values()],
      [[f"`````python\n{one.code}\n`````"] for one in new.values()],
    )
  ]
  right = [k for k, grade in zip(new, grades) if grade.reward == 1]
  if time.monotonic() - start > _WORTH_SECONDS:
    _remember(file, right)
  failed = [
    (one, grade) for one, grade in zip(new.values(), grades) if grade.reward < 1
  ]
  _report(failed, len(solved))


def _report(
  failed: Sequence[tuple[Solved, base.Grade]], num_problems: int
) -> None:
  slow = [one.problem.id for one, g in failed if g.reason == "timeout"]
  if slow:
    _log.warning(
      "The data's own solutions of %s take longer than an answer may; raise"
      " cpu_seconds, or expect no right answers there.",
      ", ".join(slow),
    )
  wrong = [(one, g) for one, g in failed if g.reason != "timeout"]
  if wrong:
    one, grade = wrong[0]
    raise ValueError(
      f"{one.where}: the solution of {one.problem.id} fails its own tests"
      f" ({grade.reason}), as do {len(wrong) - 1} more of {num_problems}. No"
      " answer could be right: mend or remove the problem."
    )


def _key(one: Solved, conditions: str) -> str:
  text = f"{one.problem.data!r} {one.code!r} {conditions}"
  return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _cache_file() -> pathlib.Path:
  root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path("~/.cache")
  return pathlib.Path(root).expanduser() / "pkpo_jax" / "solutions"


def _remember(file: pathlib.Path, keys: Sequence[str]) -> None:
  """Adds keys in one write, which other processes may do at the same time."""
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="ascii") as opened:
      opened.write("".join(f"{key}\n" for key in keys))
  except OSError as error:
    _log.info("Not remembered, so graded again next time: %s.", error)
