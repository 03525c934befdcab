"""One writer of metrics: JSON lines, TensorBoard and progress for people.

`metrics.jsonl` is what a run keeps: an error in writing it ends the run.
TensorBoard's file is drawn from it anew at every start, so an error in writing
that one costs a warning, and the pictures until the next start.
"""

import contextlib
import json
import math
import os
import pathlib
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from pkpo_jax import multihost
from pkpo_jax.training import progress_bar

_SHOWN = ("pass@1", "pass@8", "pass@16", "entropy", "k", "solve_rate")
_FLUSH_EVERY = 10  # seconds, of TensorBoard's file
Record = dict[str, Any]


def open_writer(
  folder: pathlib.Path, *, start: int, num_steps: int
) -> "MetricsWriter | SilentWriter":
  """The writer of this process: the first one writes for all."""
  if multihost.is_first():
    return MetricsWriter(folder, start=start, num_steps=num_steps)
  return SilentWriter()


class SilentWriter:
  """Takes what `MetricsWriter` takes, and writes nothing."""

  bad_steps = 0

  def has_evaluated(self, step: int) -> bool:
    """Leaves that to the first process."""
    return False

  def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
    """Nothing."""

  def say(self, message: str) -> None:
    """Nothing."""

  def flush(self) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""


class MetricsWriter:
  """Writes to `metrics.jsonl` and one TensorBoard file in a folder.

  Attributes:
    bad_steps: how many were on record at the start, see `run.Run.train`.

  A run that resumes at step s drops what was written for the steps from s on,
  since it is about to write it again; but for the evaluation at s.
  """

  def __init__(self, folder: pathlib.Path, *, start: int, num_steps: int):
    """Opens the files of a run that is about to do step `start`.

    Raises:
      OSError: `metrics.jsonl` cannot be written; names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    self._path = folder / "metrics.jsonl"
    kept = [
      r for r in read(self._path) if r["step"] < start + (r["stage"] == "eval")
    ]
    _rewrite(self._path, kept)
    self.bad_steps = int(max((r.get("bad_steps", 0) for r in kept), default=0))
    self._evaluated = {r["step"] for r in kept if r["stage"] == "eval"}
    with _naming(self._path):
      self._file = self._path.open("a")
    self._board = _Board(folder, kept)
    self._bar = progress_bar.ProgressBar("train", done=start, total=num_steps)

  def has_evaluated(self, step: int) -> bool:
    """Whether an evaluation at a step was on record at the start."""
    return step in self._evaluated

  def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
    """Writes the numbers of one stage ("train" or "eval") at a step.

    What is not finite is null in the JSON and absent from TensorBoard.

    Raises:
      OSError: the disk is full, say; names the file.
    """
    metrics = {name: float(value) for name, value in metrics.items()}
    record = {"step": step, "stage": stage, **metrics}
    with _naming(self._path):
      self._file.write(_line(record))
      self._file.flush()
    self._board.write([record])
    if stage == "train":
      shown = {m: f"{metrics[m]:.3g}" for m in _SHOWN if m in metrics}
      self._bar.update(shown)

  def say(self, message: str) -> None:
    """Prints a line above the progress bar."""
    self._bar.say(message)

  def flush(self) -> None:
    """Puts on the disk what was written, ahead of a checkpoint.

    Raises:
      OSError: the disk is full, say; names the file.
    """
    with _naming(self._path):
      os.fsync(self._file.fileno())
    self._board.flush()

  def close(self) -> None:
    """Flushes and closes the files.

    Raises:
      OSError: the disk is full, say; names the file.
    """
    self._bar.close()
    self._board.close()
    with _naming(self._path):
      self._file.close()


class _Board:
  """A TensorBoard file that holds all records of a run.

  It is written in the caller's thread: in one of its own, tensorboardX would
  die of a full disk in silence, and the run would wait for it for ever.
  """

  def __init__(self, folder: pathlib.Path, records: list[Record]):
    """Opens a file in `folder` and writes what the run has recorded so far."""
    self._writer: Any = None  # from an error on
    try:
      self._writer = event_file_writer.EventsWriter(str(folder / "events"))
      # Files of earlier starts show nothing from here on: this one has it all.
      begin = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._event(0, session_log=begin)
      self._flushed = time.monotonic()
    except OSError as error:
      self._give_up(error)
    self.write(records)
    self.flush()

  def write(self, records: Iterable[Record]) -> None:
    """Adds the numbers of records."""
    if self._writer is None:
      return
    try:
      for record in records:
        numbers = record.keys() - {"step", "stage"}
        for name in sorted(numbers):
          value = record[name]
          if math.isfinite(value):  # a curve has a gap where it is not
            scalar = summary.scalar(f"{record['stage']}/{name}", value)
            self._event(record["step"], summary=scalar)
      if time.monotonic() - self._flushed > _FLUSH_EVERY:
        self._writer.flush()
        self._flushed = time.monotonic()
    except OSError as error:
      self._give_up(error)

  def flush(self) -> None:
    """Puts on the disk what was written."""
    try:
      if self._writer is not None:
        self._writer.flush()
    except OSError as error:
      self._give_up(error)

  def close(self) -> None:
    """Flushes and closes the file."""
    try:
      if self._writer is not None:
        self._writer.close()
    except OSError as error:
      self._give_up(error)

  def _event(self, step: int, **what: Any) -> None:
    event = event_pb2.Event(step=step, wall_time=time.time(), **what)
    self._writer.write_event(event)

  def _give_up(self, error: OSError) -> None:
    self._writer = None
    warnings.warn(
      f"TensorBoard's file cannot be written ({error.strerror}): the run goes"
      " on without it. metrics.jsonl has every number, and the next start"
      " writes them all to a new file.",
      stacklevel=2,
    )


def read(path: pathlib.Path) -> list[Record]:
  """All complete records of a `metrics.jsonl`; none if there is no file.

  Raises:
    ValueError: a line is no record; names it.
  """
  if not path.exists():
    return []
  lines = path.read_text(errors="replace").splitlines(keepends=True)
  if lines and not lines[-1].endswith("}\n"):  # A kill has cut it off.
    lines.pop()
  return [_record(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]


def _record(line: str, where: str) -> Record:
  try:
    record = json.loads(line)
    step, stage = record["step"], record["stage"]
    if not isinstance(step, int) or not isinstance(stage, str):
      raise TypeError(f"step {step!r}, stage {stage!r}")
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(
      f"{where} is no record ({error!r}); correct or remove the line."
    ) from error
  return {name: math.nan if x is None else x for name, x in record.items()}


def forget_evaluation(path: pathlib.Path, step: int | None) -> None:
  """Takes the evaluation at a step off the record, so that it is done anew."""
  kept = [r for r in read(path) if (r["step"], r["stage"]) != (step, "eval")]
  _rewrite(path, kept)


def _rewrite(path: pathlib.Path, records: list[Record]) -> None:
  """Replaces a file at once: a kill loses nothing."""
  new = path.with_suffix(".tmp")
  with _naming(new):
    new.write_text("".join(map(_line, records)))
    new.replace(path)


def _line(record: Record) -> str:
  """One JSON line; NaN and infinity, which JSON lacks, become null."""
  record = {
    name: None if isinstance(x, float) and not math.isfinite(x) else x
    for name, x in record.items()
  }
  return json.dumps(record) + "\n"


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
  """A context whose OSErrors name the file."""
  try:
    yield
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
