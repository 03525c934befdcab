r"""How many answers a second do the graders grade?

Three kinds of answers in mathematics, all different, half of them wrong:
  integers: a reasoning of eight lines that ends in #### and an integer.
  attacked: the same, but one in twenty is an inequality that is hard to solve
    or a formula that is hard to compute.
  LaTeX: fractions, roots, intervals, polynomials and points in a box, in
    another spelling than the reference.

And two kinds of programs, where there is bubblewrap:
  programs: short functions with three tests, half of them wrong.
  sleepers: the same, but one in ten sleeps for as long as it may.

A minute on two cores.
"""

import argparse
import functools
import os
import time
from collections.abc import Callable, Sequence

from experiments import command_line
from pkpo_jax.tasks import base, code_task, unit_tests
from pkpo_jax.tasks.grading.sandbox import sandbox
from pkpo_jax.tasks.grading.workers import pool

Item = tuple[str, str]
_REASONING = "First we add what there is, and then we take away the rest.\n" * 8

# Of integers a and b: a reference, and the same in another spelling.
_SPELLINGS: tuple[Callable[[int, int], Item], ...] = (
  lambda a, b: (rf"\frac{{{a}}}{{{b}}}", rf"{2 * a}/{2 * b}"),
  lambda a, b: (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{b}}}\cdot {a}"),
  lambda a, b: (f"[{a},{a + b})", rf"{a} \le x < {a + b}"),
  lambda a, b: (f"x^2-{a * a}", f"(x-{a})(x+{a})"),
  lambda a, b: (rf"({a},\frac{{{b}\pi}}{{3}})", rf"({a}.0, {b}\pi/3)"),
)


def integers(count: int) -> list[Item]:
  """So many integers, every other one wrong."""
  return [
    (str(i), f"{_REASONING}#### {i + i % 2}") for i in range(1, count + 1)
  ]


# Of an integer: what would keep an honest solver busy.
_HARD: tuple[Callable[[int], str], ...] = (
  lambda i: rf"\frac{{x^{{17}}-{i}x^5+3}}{{x^{{11}}-7x+{i}}}>0",
  lambda i: rf"|x^9-{i}|+|x^7+{i}|<{i}",
  lambda i: rf"\sin(x^{{{i}}})\le\log(x+{i})",
  lambda i: rf"9^{{9^{{{i}}}}}+{i}!",
  lambda i: rf"\left({'(' * 9}x+{i}{')^7' * 9}\right)^7=0",
)


def attacked(count: int) -> list[Item]:
  """So many integers, one in twenty replaced by what is hard to grade."""
  items = integers(count)
  for i in range(0, count, 20):
    hard = _HARD[i // 20 % len(_HARD)](i + 1)
    items[i] = (items[i][0], f"{_REASONING}It is $\\boxed{{{hard}}}$.")
  return items


def latex(count: int) -> list[Item]:
  """So many LaTeX answers, every other one wrong."""
  items = []
  for i in range(1, count + 1):
    spelling = _SPELLINGS[i % len(_SPELLINGS)]
    gold, _ = spelling(i, 7)
    _, answer = spelling(i + i % 2, 7)
    items.append((gold, f"{_REASONING}It is $\\boxed{{{answer}}}$."))
  return items


def answers_per_second(workers: pool.Pool, items: Sequence[Item]) -> float:
  """Grades the answers.

  Raises:
    RuntimeError: not exactly every other one was found right.
  """
  start = time.perf_counter()
  grades = workers.grade(items)
  seconds = time.perf_counter() - start
  late = sum(grade.reason == "timeout" for grade in grades)
  if late:
    raise RuntimeError(f"{late} answers were late.")
  right = [grade.reward == 1 for grade in grades]
  if right != [i % 2 == 0 for i in range(1, len(items) + 1)]:
    raise RuntimeError(f"{sum(right)} of {len(items)} answers were right.")
  return len(items) / seconds


def programs(count: int, *, sleepers: bool) -> list[str]:
  """So many programs for one problem, every other one wrong; some may sleep."""
  found = []
  for i in range(1, count + 1):
    value = "x + 1" if i % 2 == 0 else "x + 2"
    if sleepers and i % 10 == 1:
      value = "__import__('time').sleep(100)"
    found.append(f"```python\ndef f(x):\n  return {value}  # {i}\n```")
  return found


def programs_per_second(task: code_task.CodeTask, answers: list[str]) -> float:
  """Grades the programs.

  Raises:
    RuntimeError: not exactly every other one was found right.
  """
  tests = unit_tests.from_sources(
    [f"assert f({x}) == {x + 1}" for x in range(3)], "f"
  )
  start = time.perf_counter()
  (rewards,), _ = task.grade_batch([base.Problem("", "", "", tests)], [answers])
  seconds = time.perf_counter() - start
  if rewards.tolist() != [i % 2 == 0 for i in range(1, len(answers) + 1)]:
    raise RuntimeError(f"{rewards.sum():g} of {len(answers)} were right.")
  return len(answers) / seconds


def parser() -> argparse.ArgumentParser:
  """The command line."""
  p = command_line.parser(__doc__)
  add = functools.partial(p.add_argument, type=int)
  add("--workers", default=2, help="worker processes (2)")
  add("--integers", default=20_000, help="how many integers (20000)")
  add("--latex", default=1_000, help="how many LaTeX answers (1000)")
  add("--programs", default=600, help="how many programs (600)")
  return p


def main(argv: Sequence[str] | None = None) -> None:
  """Measures and prints."""
  args = parser().parse_args(argv)
  print(
    f"{args.workers} workers, {len(os.sched_getaffinity(0))} cores, load"
    f" {os.getloadavg()[0]:.1f}"
  )
  with pool.Pool(
    "pkpo_jax.tasks.grading.latex.equality:grade",
    num_workers=args.workers,
    timeout=60,
  ) as workers:
    answers_per_second(workers, latex(2 * args.workers))  # Warms up.
    for name, items in (
      ("integers", integers(args.integers)),
      ("attacked", attacked(args.integers)),
      ("LaTeX", latex(args.latex)),
    ):
      print(f"{name:9} {answers_per_second(workers, items):8.0f} answers/s")
  try:
    box = sandbox.Sandbox()
  except RuntimeError as error:
    print(f"No programs: {error}")
    return
  task = code_task.CodeTask({}, box, reward="binary", num_workers=args.workers)
  for name in ("programs", "sleepers"):
    answers = programs(args.programs, sleepers=name == "sleepers")
    print(f"{name:9} {programs_per_second(task, answers):8.1f} answers/s")


if __name__ == "__main__":
  main()
