"""Trains what is left of a study, and keeps a result for each run.

Example:
  python -m experiments.studies.run --study=countdown --dry_run
  python -m experiments.studies.run --study=countdown --processes=2

First every arm at every rate with the first seed, then each arm at its best
rate with the other seeds. What is done is skipped, and a run that was stopped
goes on, so that the same command continues after Ctrl-C or a kill. Two
processes with a core each finish more runs an hour than one with two cores; the
command may also be started twice. Results are small files, made to be
committed; draw them with python -m experiments.paper.
"""

import logging
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import command_line
from experiments.studies import side_by_side
from experiments.studies import study as study_lib
from experiments.studies.study import Run, Study

if TYPE_CHECKING:
  import ml_collections

  from experiments.studies import results as results_lib

_WAIT = 10.0  # seconds between looks at what other processes have finished


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

  Several processes may do so at once: each takes a run that no other is at
  work on, and waits for the others where it needs their results.

  Returns:
    How many runs this process trained or finished.

  Raises:
    ValueError: a config is not valid, or `rates_from` is not done.
    FloatingPointError: a run diverged; names it.
  """
  from experiments.studies import results

  trained = _finish_all(study, folders, study.runs_to_tune)
  best = results.best_runs(study, folders.results)
  families = study.runs_of_families(best)
  trained += _finish_all(study, folders, families)
  best = results.best_runs(study, folders.results)
  if unknown := set(study.reported) - set(best):
    raise ValueError(
      f"Study {study.name!r} takes the best rates of {study.rates_from!r},"
      f" which lacks those of {', '.join(sorted(unknown))}; first run"
      f" --study={study.rates_from}."
    )
  reported = study.runs_to_report(best)
  return trained + _finish_all(study, folders, reported)


def _finish_all(study: Study, folders: Folders, runs: Sequence[Run]) -> int:
  """Finishes runs that have no result, and waits for those of others."""
  from experiments.studies import results
  from pkpo_jax.training import lock

  trained, left = 0, list(runs)
  while left:
    busy = []
    for run in left:
      if run in results.load(study, folders.results).done:
        continue
      try:
        _finish(study, folders, run)
        trained += 1
      except lock.HeldError:
        busy.append(run)
    if busy:
      time.sleep(_WAIT)
    left = busy
  return trained


def _finish(study: Study, folders: Folders, run: Run) -> None:
  """Trains a run to its end and writes its result.

  Raises:
    HeldError: another process is at work on it.
  """
  from experiments.studies import results
  from pkpo_jax.training import held_out, lock, provenance

  config, folder = study.make_config(run), workdir(study, folders, run)
  folder.mkdir(parents=True, exist_ok=True)
  lock.acquire(folder)
  try:
    if _last_step(folder) < config.num_steps:
      _train(run, config, folder, folders)
    path = results.write(
      study,
      folders.results,
      run,
      _metrics(folder),
      provenance.commits(folder),
      held_out.read(folder),
    )
    print(f"Wrote {path}")
  finally:
    lock.release(folder)


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
  """The folder of a run; another one once the study changes its config.

  Studies share it, so that what one has trained another need not.
  """
  from pkpo_jax.training import config as config_lib

  text = config_lib.to_json(study.make_config(run))
  name = f"{run.name}_{config_lib.fingerprint(text)}"
  return folders.runs / name


def _metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
  from pkpo_jax.training import metrics_writer

  return metrics_writer.read(folder / "metrics.jsonl")


def _last_step(folder: pathlib.Path) -> int:
  """How many steps a run has done; its last one is its last evaluation."""
  return max((record["step"] for record in _metrics(folder)), default=0)


class _State(NamedTuple):
  """How far a study is: its finished runs, and the best ones as known."""

  study: Study
  folders: Folders
  done: "Mapping[Run, results_lib.Result]"
  best: Mapping[str, Run]


def plan(study: Study, folders: Folders) -> str:
  """The matrix of a study as text: what is done, what is left, and its hours.

  Raises:
    ValueError: the config of an arm is not valid.
  """
  from experiments.studies import results
  from pkpo_jax.training import config as config_lib

  for arm in study.arms:
    run = Run(arm, study.rates[0], study.seeds[0])
    config_lib.check(study.make_config(run))
  done, other = results.load(study, folders.results)
  best = results.best_runs(study, folders.results, done)
  state = _State(study, folders, done, best)
  count, total = len(study.runs_needed(best).intersection(done)), study.num_runs
  lines = [
    f"{study.name} ({study.config}): {count} of {total} runs are done",
    *_matrix(state),
  ]
  if len(state.best) < len(study.reported):
    source = study.rates_from or f"seed {study.seeds[0]}"
    lines.append(f"?: if this rate is the arm's best on {source}")
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
  if run not in study.runs_needed(best):
    return "-" if _is_settled(state, run) else "?"
  step = _last_step(workdir(study, folders, run))
  return f"step {step}" if step else "to do"


def _is_settled(state: _State, run: Run) -> bool:
  """Whether it is known that a run which is not needed never will be."""
  study, best = state.study, state.best
  for name, family in study.families.items():
    if run.arm in family.arms:
      other = run.rate != best.get(family.rate_of, run).rate
      return name in best or other
  return run.arm in best


def _hours(state: _State) -> str:
  """Hours done and left, from the seconds of finished runs if there are any."""
  study, folders, done, best = state
  spent = sum(result.seconds for result in done.values())
  seconds = spent / len(done) if done else study.seconds
  source = "measured" if done else "as the study says"
  needed = study.runs_needed(best)
  left = float(study.num_runs - len(needed))
  for run in needed - set(done):
    num_steps = study.make_config(run).num_steps
    left += 1 - _last_step(workdir(study, folders, run)) / num_steps
  return (
    f"Hours: {spent / 3600:.2f} done, {left * seconds / 3600:.2f} left"
    f" ({seconds:.0f} s a run, {source}), by one process"
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
  add(
    "--processes",
    type=int,
    default=1,
    help="how many to train with, each on a core of its own (default: 1)",
  )
  flags = parser.parse_args()
  for name in (None, "absl"):  # orbax says every save
    logging.getLogger(name).setLevel(logging.WARNING)
  folders = Folders(flags.results, flags.runs, flags.base_dir)
  try:
    study = study_lib.load(flags.study)
    print(plan(study, folders))
    if flags.dry_run:
      return
    if flags.processes > 1:
      sys.exit(side_by_side.run(flags.processes, sys.argv[1:]))
    trained = run_study(study, folders)
    print(f"{trained} runs finished; results: {flags.results / study.name}")
  except (ValueError, FloatingPointError) as error:
    parser.error(str(error))


if __name__ == "__main__":
  main()
