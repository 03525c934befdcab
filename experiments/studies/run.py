"""Trains what is left of a study, and keeps a result for each run.

Example:
  python -m experiments.studies.run --study=countdown --dry_run
  python -m experiments.studies.run --study=countdown

First every arm at every rate with the first seed, then each arm at its best
rate with the other seeds. What is done is skipped, and a run that was stopped
goes on, so that the same command continues after Ctrl-C or a kill. Results are
small files, made to be committed; draw them with python -m experiments.paper.
"""

import logging
import pathlib
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import command_line
from experiments.studies import study as study_lib
from experiments.studies.study import Run, Study

if TYPE_CHECKING:
  import ml_collections

  from experiments.studies import results as results_lib

_ROOT = pathlib.Path(__file__).parents[2]


class Folders(NamedTuple):
  """Where a study reads and writes.

  Attributes:
    results: a file for each finished run, of all studies.
    runs: checkpoints and metrics of runs, finished or not.
    base: base policies.
  """

  results: pathlib.Path
  runs: pathlib.Path
  base: pathlib.Path


def run_study(study: Study, folders: Folders) -> int:
  """Trains all that has no result yet.

  Returns:
    How many runs were trained or finished.

  Raises:
    ValueError: a config is not valid.
    FloatingPointError: a run diverged; names it.
  """
  from experiments.studies import results

  commit, done = current_commit(), results.load(study, folders.results).done
  trained = 0
  for run in study.runs_to_tune:
    trained += _finish(study, folders, run, done, commit)
  done = results.load(study, folders.results).done
  for run in study.runs_to_report(results.best_rates(study, done)):
    trained += _finish(study, folders, run, done, commit)
  return trained


def _finish(
  study: Study,
  folders: Folders,
  run: Run,
  done: Mapping[Run, Any],
  commit: str,
) -> bool:
  """Trains a run to its end and writes its result, unless it has one."""
  from experiments.studies import results

  if run in done:
    return False
  config, folder = study.make_config(run), workdir(study, folders, run)
  if _last_step(folder) < config.num_steps:
    _train(run, config, folder, folders)
  path = results.write(study, folders.results, run, _metrics(folder), commit)
  print(f"Wrote {path}")
  return True


def _train(
  run: Run,
  config: "ml_collections.ConfigDict",
  folder: pathlib.Path,
  folders: Folders,
) -> None:
  # Only now: gemma takes seconds to import, and finished studies need none.
  import jax

  from pkpo_jax.training import loop

  if not jax.config.jax_compilation_cache_dir:
    cache = folders.runs / "compilation_cache"
    jax.config.update("jax_compilation_cache_dir", str(cache))
  print(f"== {folder}")
  try:
    loop.train(config, folder, folders.base)
  except FloatingPointError as error:
    raise FloatingPointError(
      f"{run.name} diverged: {error} If it is the rate, take it out of the"
      " study's rates."
    ) from error


def workdir(study: Study, folders: Folders, run: Run) -> pathlib.Path:
  """The folder of a run; another one once the study changes its config."""
  from pkpo_jax.training import config as config_lib

  text = config_lib.to_json(study.make_config(run))
  name = f"{run.name}_{config_lib.fingerprint(text)}"
  return folders.runs / study.name / name


def _metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
  from pkpo_jax.training import metrics_writer

  return metrics_writer.read(folder / "metrics.jsonl")


def _last_step(folder: pathlib.Path) -> int:
  """How many steps a run has done; its last one is its last evaluation."""
  return max((record["step"] for record in _metrics(folder)), default=0)


def current_commit() -> str:
  """The commit of this code, "-dirty" if it has changed but for results."""

  def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      ["git", "-C", _ROOT, *arguments],
      capture_output=True,
      text=True,
      check=False,
    )

  try:
    head = git("rev-parse", "--short", "HEAD")
  except OSError:  # no git here
    return "unknown"
  if head.returncode:
    return "unknown"
  code = (".", f":(exclude){study_lib.RESULTS}")
  changed = git("diff", "--quiet", "HEAD", "--", *code).returncode
  return head.stdout.strip() + ("-dirty" if changed else "")


class _State(NamedTuple):
  """How far a study is: its finished runs, and arm -> best rate if known."""

  study: Study
  folders: Folders
  done: "Mapping[Run, results_lib.Result]"
  best: Mapping[str, float]


def plan(study: Study, folders: Folders) -> str:
  """The matrix of a study as text: what is done, what is left, and its hours.

  Raises:
    ValueError: the config of an arm is not valid.
  """
  from experiments.studies import results
  from pkpo_jax.training import config as config_lib

  for run in study.runs_to_tune:
    config_lib.check(study.make_config(run))
  done, other = results.load(study, folders.results)
  state = _State(study, folders, done, results.best_rates(study, done))
  needed = {*study.runs_to_tune, *study.runs_to_report(state.best)}
  count = len(needed.intersection(done))
  total = len(study.arms) * (len(study.rates) + len(study.seeds) - 1)
  lines = [
    f"{study.name} ({study.config}): {count} of {total} runs are done",
    *_matrix(state),
  ]
  if len(state.best) < len(study.arms):
    lines.append(f"?: if this rate is the arm's best on seed {study.seeds[0]}")
  lines += [f"Not counted: {path} ({why})" for path, why in other.items()]
  return "\n".join([*lines, _hours(state)])


def _matrix(state: _State) -> list[str]:
  """A line for each arm and rate, a column for each seed."""
  study = state.study
  rows = [["arm", study.tuned, *(f"seed {seed}" for seed in study.seeds)]]
  for arm in study.arms:
    for rate in study.rates:
      cells = [_cell(state, Run(arm, rate, seed)) for seed in study.seeds]
      rows.append([arm, f"{rate:g}", *cells])
  widths = [max(map(len, column)) for column in zip(*rows)]
  return [
    "  ".join(x.ljust(w) for x, w in zip(row, widths)).rstrip() for row in rows
  ]


def _cell(state: _State, run: Run) -> str:
  study, folders, done, best = state
  if run in done:
    return "done"
  if run.seed != study.seeds[0] and best.get(run.arm) != run.rate:
    return "-" if run.arm in best else "?"
  step = _last_step(workdir(study, folders, run))
  return f"step {step}" if step else "to do"


def _hours(state: _State) -> str:
  """Hours done and left, from the seconds of finished runs if there are any."""
  study, folders, done, best = state
  spent = sum(result.seconds for result in done.values())
  seconds = spent / len(done) if done else study.seconds
  source = "measured" if done else "as the study says"
  left = float((len(study.arms) - len(best)) * (len(study.seeds) - 1))
  for run in {*study.runs_to_tune, *study.runs_to_report(best)} - set(done):
    num_steps = study.make_config(run).num_steps
    left += 1 - _last_step(workdir(study, folders, run)) / num_steps
  return (
    f"Hours: {spent / 3600:.2f} done, {left * seconds / 3600:.2f} left"
    f" ({seconds:.0f} s a run, {source})"
  )


def main() -> None:
  """The command."""
  parser = command_line.parser(__doc__)
  add = parser.add_argument
  add("--study", required=True, help=f"one of: {', '.join(study_lib.known())}")
  add(
    "--results",
    type=command_line.path,
    default=study_lib.RESULTS,
    help=f"folder of a small file a run (default: {study_lib.RESULTS})",
  )
  add(
    "--runs",
    type=command_line.path,
    default="runs/studies",
    help="folder of checkpoints and metrics (default: runs/studies)",
  )
  add(
    "--base_dir",
    type=command_line.path,
    default="runs/base",
    help="folder of base policies (default: runs/base)",
  )
  add("--dry_run", action="store_true", help="print the matrix and its hours")
  flags = parser.parse_args()
  for name in (None, "absl"):  # orbax says every save
    logging.getLogger(name).setLevel(logging.WARNING)
  folders = Folders(flags.results, flags.runs, flags.base_dir)
  try:
    study = study_lib.load(flags.study)
    print(plan(study, folders))
    if not flags.dry_run:
      trained = run_study(study, folders)
      print(f"{trained} runs finished; results: {flags.results / study.name}")
  except (ValueError, FloatingPointError) as error:
    parser.error(str(error))


if __name__ == "__main__":
  main()
