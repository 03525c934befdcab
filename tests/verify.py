"""Runs the tests marked `verify` whose subject has changed: `make verify`.

  python tests/verify.py [--list] [--all] [FILE ...]

An item is a test file with such tests; its subject is the file itself and the
paths that its marks name, or all of pkpo_jax where they name none. It is due
unless it has passed at a commit since which none of these has changed.
Outcomes go to docs/verification.md, after each item, so that what was stopped
goes on with the same command; commit the page with what it is about. FILE
limits the choice, --all takes what is not due as well, and --list only says
what is.
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs/verification.md"
HEADER = """# What was verified, and when

`make verify` runs what takes long and is rarely due, and writes this page: each
test file once at the commit named, and again when it or one of the paths that
it is about has changed since. tests/verify.py says more.

| tests | about | outcome | minutes | commit | date |
|---|---|---|---|---|---|
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A row of the page."""

  file: str
  paths: str
  result: str = "never run"
  minutes: str = ""
  commit: str = ""
  date: str = ""


class Collector:
  """A plugin that notes the files with `verify` tests, and their paths."""

  def __init__(self) -> None:
    self.paths: dict[str, set[str]] = {}

  def pytest_collection_finish(self, session: pytest.Session) -> None:
    """Reads the marks of the tests that pytest has selected."""
    for item in session.items:
      file = str(item.path.relative_to(ROOT))
      for mark in item.iter_markers("verify"):
        paths = mark.args or ("pkpo_jax",)
        self.paths.setdefault(file, set()).update(paths)


def main() -> int:
  """Runs what is due; 1 if anything of it failed."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("files", nargs="*", metavar="FILE", help="test files; default: all")
  add("--all", action="store_true", help="also what is not due")
  add("--list", action="store_true", help="say what is due, and run nothing")
  arguments = parser.parse_args()
  outcomes = collect()
  unknown = set(arguments.files) - outcomes.keys()
  if unknown:
    parser.error(f"no tests to verify in {sorted(unknown)}")
  failed = []
  for file in arguments.files or sorted(outcomes):
    due = arguments.all or is_due(outcomes[file])
    print(f"{file}: {'due' if due else 'has passed'}", flush=True)
    if due and not arguments.list:
      outcomes[file] = run(outcomes[file])
      write(outcomes.values())
      if not outcomes[file].result.startswith("passed"):
        failed.append(file)
  if failed:
    print(f"FAILED: {', '.join(failed)}")
  return int(bool(failed))


def collect() -> dict[str, Outcome]:
  """The items by their file, with what the page says of them."""
  collector = Collector()
  options = ["-m", "verify", "--collect-only", "-p", "no:terminal"]
  code = pytest.main([*options, str(ROOT / "tests")], [collector])
  if code:
    raise SystemExit(f"pytest could not collect the tests: {code!r}")
  known = {outcome.file: outcome for outcome in read()}
  outcomes = {}
  for file, paths in collector.paths.items():
    old = known.get(file, Outcome(file, ""))
    outcomes[file] = dataclasses.replace(old, paths=" ".join(sorted(paths)))
  return outcomes


def is_due(outcome: Outcome) -> bool:
  """Whether it has not passed, or what it is about has changed since."""
  if not outcome.result.startswith("passed"):
    return True
  paths = [outcome.file, *outcome.paths.split()]
  command = ["git", "diff", "--quiet", outcome.commit, "--", *paths]
  result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
  return result.returncode != 0


def run(outcome: Outcome) -> Outcome:
  """Runs the tests of one file in a process of their own."""
  start = time.monotonic()
  result = subprocess.run(
    [sys.executable, "-m", "pytest", "-m", "verify", outcome.file],
    cwd=ROOT,
    env=os.environ | {"PKPO_REQUIRE": "1"},  # what was skipped was not verified
    check=False,
  )
  passed = result.returncode == 0
  return dataclasses.replace(
    outcome,
    result="passed" if passed else "**failed**",
    minutes=f"{(time.monotonic() - start) / 60:.1f}",
    commit=_git("rev-parse", "--short=10", "HEAD"),
    date=datetime.date.today().isoformat(),
  )


def read() -> Iterator[Outcome]:
  """The rows of the page."""
  if PAGE.exists():
    for line in PAGE.read_text().splitlines():
      if line.startswith("| tests/"):
        yield Outcome(*(x.strip() for x in line.strip("|").split("|")))


def write(outcomes: Iterable[Outcome]) -> None:
  """Writes the page anew; items that are no more have left it."""
  rows = sorted(dataclasses.astuple(outcome) for outcome in outcomes)
  lines = [f"| {' | '.join(row)} |\n" for row in rows]
  PAGE.write_text(HEADER + "".join(lines))


def _git(*arguments: str) -> str:
  result = subprocess.run(
    ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
  )
  return result.stdout.strip()


if __name__ == "__main__":
  sys.exit(main())
