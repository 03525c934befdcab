r"""Audits the math grader on a data set: what it refuses, what it lets through.

Example:
  python -m experiments.audit_grader --task=math --path=data/MATH

Three questions, each with the cases listed:
  references: which problems do their own solutions not reach?
  copies: which questions can be "solved" by an expression that stands in them?
    One that is written as the reference is right, and not counted.
  cross pairs: which references of other problems are taken for right? Those
    that mean the same, as 1/2 and 0.5 do, are right; read the others.

A minute for MATH's test problems on two cores.
"""

import argparse
import pathlib
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from experiments import command_line
from pkpo_jax.tasks import answer_task, gsm8k, hendrycks_math, jsonl
from pkpo_jax.tasks.grading.workers import pool

_TASKS = ("gsm8k", "math", "jsonl")


class Case(NamedTuple):
  """An answer that is graded.

  Attributes:
    problem: it is graded as an answer to this one.
    completion: the text.
  """

  problem: answer_task.Worked
  completion: str


class Finding(NamedTuple):
  """What one of the three questions found.

  Attributes:
    title: of the finding.
    total: how many problems or pairs were looked at.
    cases: those to read.
  """

  title: str
  total: int
  cases: list[Case]


def read(args: argparse.Namespace) -> list[answer_task.Worked]:
  """Reads the problems that the command line names.

  Raises:
    FileNotFoundError: there are no such data.
    ValueError: they cannot be read.
  """
  if args.task == "gsm8k":
    return gsm8k.worked(args.path, args.split)
  if args.task == "math":
    return hendrycks_math.worked(args.path, args.split)
  return jsonl.worked(
    args.path,
    prompt_column=args.prompt_column,
    answer_column=args.answer_column,
    solution_column=args.solution_column,
  )


def audit(
  problems: Sequence[answer_task.Worked],
  *,
  num_workers: int,
  timeout: float,
  cross: int,
  seed: int,
) -> list[Finding]:
  """Grades solutions, copies and answers to other problems.

  Args:
    problems: with their solutions, which may be empty.
    num_workers: how many answers are graded at a time.
    timeout: seconds of an answer.
    cross: how many other references each problem is tried with.
    seed: another seed, other pairs.
  """
  with pool.Pool(
    answer_task.LATEX_GRADER, num_workers=num_workers, timeout=timeout
  ) as workers:
    own = [Case(p, p.solution) for p in problems if p.solution]
    unreached = [c for c, ok in zip(own, _right(workers, own)) if not ok]
    copies = [case for p in problems for case in _copies(p)]
    solved = {
      case.problem.where: case
      for case, ok in zip(copies, _right(workers, copies))
      if ok
    }
    pairs = [*_cross_pairs(problems, cross, random.Random(seed))]
    mixed = [c for c, ok in zip(pairs, _right(workers, pairs)) if ok]
  return [
    Finding("references that their own solutions miss", len(own), unreached),
    Finding("questions solved by a copy", len(problems), [*solved.values()]),
    Finding("cross pairs accepted", len(pairs), mixed),
  ]


def _right(workers: pool.Pool, cases: Sequence[Case]) -> list[bool]:
  """Whether each answer is right."""
  items = [
    (case.problem.answer, case.completion, case.problem.question)
    for case in cases
  ]
  return [grade.reward == 1 for grade in workers.grade(items)]


def _copies(problem: answer_task.Worked) -> Iterator[Case]:
  """The expressions of a question as answers, but for the reference."""
  # Here, since sympy takes a second to import.
  from pkpo_jax.tasks.grading.latex import question, spelling, values

  gold = spelling.clean(problem.answer)
  literal = values.literal(gold)
  for text in question.expressions(problem.question):
    theirs = values.literal(text)
    if spelling.skeleton(text) == spelling.skeleton(gold):
      continue
    if literal and theirs and literal.form == theirs.form:
      continue  # 4.00 is 4.
    yield Case(problem, f"\\boxed{{{text}}}")


def _cross_pairs(
  problems: Sequence[answer_task.Worked], count: int, draw: random.Random
) -> Iterator[Case]:
  """References of other problems as answers, where they read differently."""
  for problem in problems:
    for other in draw.sample(problems, min(count, len(problems))):
      if other.answer != problem.answer:
        yield Case(problem, f"\\boxed{{{other.answer}}}")


def parser() -> argparse.ArgumentParser:
  """The command line."""
  p = command_line.parser(__doc__)
  add = p.add_argument
  add("--task", choices=_TASKS, required=True, help="the kind of the data")
  add("--path", type=pathlib.Path, required=True, help="as config.task.path")
  add("--split", default="test", help="train or test; jsonl has none (test)")
  for name in ("prompt", "answer", "solution"):
    add(
      f"--{name}_column",
      default=name,
      help=f"of jsonl, as in a config ({name})",
    )
  add("--cross", type=int, default=4, help="pairs for each problem (4)")
  add("--seed", type=int, default=0, help="of the pairs (0)")
  add("--show", type=int, default=20, help="cases to list of each kind (20)")
  add("--workers", type=int, default=2, help="worker processes (2)")
  add("--timeout", type=float, default=5.0, help="seconds of an answer (5)")
  return p


def main(argv: Sequence[str] | None = None) -> None:
  """Audits and prints."""
  p = parser()
  args = command_line.parse(p, argv)
  with command_line.mistakes(p):
    problems = read(args)
  for finding in audit(
    problems,
    num_workers=args.workers,
    timeout=args.timeout,
    cross=args.cross,
    seed=args.seed,
  ):
    print(f"{finding.title}: {len(finding.cases)} of {finding.total}")
    for case in finding.cases[: args.show]:
      end = " ".join(case.completion[-80:].split())
      print(f"  {case.problem.where}: {case.problem.answer!r} <- {end!r}")


if __name__ == "__main__":
  main()
