"""The folder of a run: which config, and which format, it belongs to."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections

from pkpo_jax import multihost
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import lock

# The format of a run's folder. It rises when a config or a checkpoint gets
# another shape, and when the mathematics of a run changes.
FORMAT = 3
# format -> what changed in the mathematics of runs with it.
MATHEMATICS_CHANGED: dict[int, str] = {
  2: (
    "entropy bonus and KL penalty are in nats per completion; the KL term"
    " follows the policy after the first minibatch; gradients are clipped at"
    " another norm; updates without a gradient are skipped; the learning rate"
    " follows steps; k is lowered where samples could not be graded; attention"
    " logits are float32."
  ),
}
# Keys that came after format 0, with the value that their absence stands for.
ADDED_KEYS = {
  "k_weights": (),
  "k_forgetting": 0.5,
  "stop": (),
  "truncated": "as_is",
  "decay_steps": 0,
  "patience": 0,
  "max_bad_steps": 0,
}
# Values that may change when a run is resumed: all that is trained before and
# after is the same to rounding.
FREE = (
  "num_steps",
  "eval",
  "checkpoint",
  "mesh",
  "microbatch",
  "logits_chunk",
  "max_bad_steps",
)
_OF_AN_EVALUATION = ("eval.n", "eval.num_problems", "eval.seed")

PATIENCE = 60  # seconds until a shared folder shows what another wrote


def claim(
  workdir: pathlib.Path,
  config: ml_collections.ConfigDict,
  *,
  allowed: Sequence[str] = (),
) -> None:
  """Takes the folder of a run that starts or continues, and locks it.

  Writes `config.json`; a value that may change goes to `changes.jsonl` too,
  with the step from which on it holds. With several processes, all call this.

  Args:
    workdir: the folder.
    config: the run's.
    allowed: values, beside `FREE`, that may differ from those saved: their
      names, such as "learning_rate".

  Raises:
    ValueError: `workdir` has checkpoints of another config, says what differs,
      or of a format whose mathematics has changed, or the metrics of a run of
      another config whose checkpoints are gone; or the processes differ in
      their config, or don't share `workdir`; or another run is at work in it.
    OSError: it cannot be written.
  """
  check_local(workdir, "--workdir")
  path, text = workdir / "config.json", config_lib.to_json(config)
  check_same_everywhere(text)
  step = max(
    (int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit()),
    default=None,
  )
  changes = []
  if step is None:
    _check_nothing_is_lost(workdir, text)
  else:
    changes = config_lib.difference(_saved_json(path), text)
    _check_changes(workdir, changes, (*FREE, *allowed))
    if config.num_steps < step:
      raise ValueError(
        f"config.num_steps={config.num_steps} is less than the {step} steps"
        f" that {workdir} has done."
      )
  written = json.dumps({"format": FORMAT} | json.loads(text), indent=2) + "\n"
  first_process(lambda: _take(workdir, written, step, changes))
  multihost.wait("claimed")
  _check_shared(workdir)


@contextlib.contextmanager
def released(workdir: pathlib.Path) -> Iterator[None]:
  """A context that gives back what `claim` has taken, at its end."""
  try:
    yield
  finally:
    lock.release(workdir)


def check_local(path: pathlib.Path, name: str) -> None:
  """Checks that a path is one, and no address of a bucket.

  Raises:
    ValueError: it is an address; names the option.
  """
  if path.parts and path.parts[0].endswith(":"):
    raise ValueError(
      f"{name}={path} is an address, not a folder; mount the bucket and name"
      " the folder, see docs/pods.md."
    )


def read_config(
  workdir: pathlib.Path, name: str = "--workdir"
) -> ml_collections.ConfigDict:
  """The config of a run, with the default of every key that it lacks.

  Args:
    workdir: the run's.
    name: of the option that says so.

  Raises:
    ValueError: `workdir` is no run's, or its format can't be continued.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise ValueError(f"{path} is missing: {name} must be a training run's.")
  return ml_collections.ConfigDict(json.loads(_saved_json(path)))


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file of a run; {} if there is no file.

  Raises:
    ValueError: it holds something else; names it.
  """
  if not path.exists():
    return {}
  try:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
      raise TypeError(f"a {type(found).__name__}, and no object")
  except (ValueError, TypeError) as error:
    raise ValueError(
      f"{path} is damaged ({error}): bring back a copy of it, or take another"
      " folder."
    ) from error
  return found


def complete_steps(folder: pathlib.Path) -> list[int]:
  """Steps of the checkpoints in a folder, from old to new; without the folder.

  The same in all processes: a shared folder may show what is new to one before
  another.

  Raises:
    ValueError: one of them does not see the newest; in all.
  """
  newest = multihost.max_over_hosts(max(seen_steps(folder), default=-1))
  seen = multihost.all_see(
    lambda: newest < 0 or (folder / str(newest)).exists(),
    patience=PATIENCE,
  )
  if not seen:
    raise ValueError(
      f"Not all processes see the checkpoint {folder / str(newest)}: it must be"
      " one folder that all share, and no copy of it."
    )
  return json.loads(multihost.broadcast_text(json.dumps(seen_steps(folder))))


def seen_steps(folder: pathlib.Path) -> list[int]:
  """The complete checkpoints that this process sees."""
  names = (path.name for path in folder.glob("*"))
  return sorted(int(name) for name in names if name.isdigit())


def check_format(found: int, where: pathlib.Path) -> None:
  """Checks that this code continues what was written in a format.

  Raises:
    ValueError: the format is newer, or the mathematics has changed since.
  """
  if found > FORMAT:
    raise ValueError(
      f"{where} was written by a newer version of pkpo_jax (format {found},"
      f" this one writes {FORMAT}); continue with that version."
    )
  changes = [
    reason for number, reason in MATHEMATICS_CHANGED.items() if number > found
  ]
  if changes:
    raise ValueError(
      f"{where} was written by an older version of pkpo_jax (format {found}),"
      " and the same config would train otherwise since; continue with that"
      " version, or take a new --workdir. Changed:\n  " + "\n  ".join(changes)
    )


def _check_nothing_is_lost(workdir: pathlib.Path, text: str) -> None:
  """Raises if metrics are all that is left of another config's run.

  The same config would write the same numbers again.
  """
  from pkpo_jax.training import metrics_writer

  path = workdir / "metrics.jsonl"
  steps = sum(r["stage"] == "train" for r in metrics_writer.read(path))
  if not steps:
    return
  saved = read_json(workdir / "config.json")
  saved.pop("format", None)
  saved = _converted(ADDED_KEYS | saved)
  every = saved.get("checkpoint", {}).get("every", 1)
  changes = config_lib.difference(json.dumps(saved), text)
  if steps >= every and not all(_is_one_of(x, FREE) for x in changes):
    raise ValueError(
      f"{path} has {steps} steps of a run with another config, whose"
      " checkpoints are gone; they would be erased. Take a new --workdir, or"
      " move that file away."
    )


def _check_changes(
  workdir: pathlib.Path, changes: list[str], free: Sequence[str]
) -> None:
  """Raises if a value has changed that must not."""
  locked = [x for x in changes if not _is_one_of(x, free)]
  if not locked:
    return
  rate = any(_is_one_of(x, ["learning_rate"]) for x in locked)
  hint = " --change_learning_rate lets that one change." if rate else ""
  raise ValueError(
    f"{workdir} holds a run with another config; use a new workdir, or undo"
    f" these changes (saved -> asked for).{hint}\n  " + "\n  ".join(locked)
  )


def _is_one_of(change: str, names: Sequence[str]) -> bool:
  """Whether a line of `config.difference` is about a value or a part of it."""
  name = change.partition(":")[0].removeprefix("config.")
  return any(name == x or name.startswith(f"{x}.") for x in names)


def first_process(do: Callable[[], None]) -> None:
  """Has the first process do something; what it raises, all raise."""
  error: Exception | None = None
  if multihost.is_first():
    try:
      do()
    except (OSError, ValueError) as raised:
      error = raised
  if multihost.max_over_hosts(error is not None):
    raise error or ValueError("The first process of this run has failed.")


def _take(
  workdir: pathlib.Path, text: str, step: int | None, changes: list[str]
) -> None:
  """Locks the folder and writes its config, and what changed in it."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock.acquire(workdir)
    _write(workdir / "config.json", text)
    if any(_is_one_of(x, _OF_AN_EVALUATION) for x in changes):
      from pkpo_jax.training import metrics_writer

      metrics_writer.forget_evaluation(workdir / "metrics.jsonl", step)
    if changes:
      with (workdir / "changes.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "changes": changes}) + "\n")
  except OSError as error:
    raise OSError(
      f"--workdir={workdir} cannot be written: {error.strerror}; make room, or"
      " choose another folder."
    ) from error


def _write(path: pathlib.Path, text: str) -> None:
  """Writes the file at once or not at all."""
  new = path.with_suffix(".tmp")
  new.write_text(text)
  new.replace(path)


def _saved_json(path: pathlib.Path) -> str:
  """The saved config as JSON, without its format, with the keys it lacks."""
  saved = read_json(path)
  check_format(saved.pop("format", 0), path)
  if saved:
    saved = _converted(ADDED_KEYS | saved)
  return json.dumps(saved, indent=2, sort_keys=True)


def _converted(saved: dict[str, Any]) -> dict[str, Any]:
  """A config of an older format in the names and shapes of this one."""
  microbatch = saved.get("microbatch", {})
  if "prompts" in microbatch:  # before format 3: so many, and samples of each
    rows = microbatch["prompts"] * microbatch["samples"]
    saved |= {"microbatch": {"rows": rows}}
  return saved


def check_same_everywhere(text: str) -> None:
  """Raises in all processes if the config of one is not that of the first."""
  changes = config_lib.difference(multihost.broadcast_text(text), text)
  if multihost.max_over_hosts(bool(changes)):
    raise ValueError(
      "The processes of this run have different configs; start all with the"
      " same command. First process -> this one:\n  "
      + "\n  ".join(changes or ["no difference; see the other processes"])
    )


def _check_shared(workdir: pathlib.Path) -> None:
  """Raises, in all processes, unless all see what the first one just wrote.

  It is the lock, which no copy of the folder has: it says since when it is
  held. The config would be the same in a copy.
  """
  path = workdir / "lock"
  mark = multihost.broadcast_text(
    path.read_text() if multihost.is_first() else ""
  )
  seen = multihost.all_see(
    lambda: path.exists() and path.read_text() == mark, patience=PATIENCE
  )
  if not seen:
    raise ValueError(
      f"{path} is not everywhere as the first process wrote it: --workdir must"
      " be one folder that all processes share, and no copy of it."
    )
