"""One writer of metrics: JSON lines, TensorBoard and a progress bar."""

import json
import math
import pathlib
from typing import Any

import tensorboardX
import tqdm

from pkpo_jax import multihost

_SHOWN = ("pass@1", "pass@8", "pass@16", "entropy", "k", "solve_rate")


def open_writer(
  folder: pathlib.Path, *, start: int, num_steps: int
) -> "MetricsWriter | SilentWriter":
  """The writer of this process: the first one writes for all."""
  if multihost.is_first():
    return MetricsWriter(folder, start=start, num_steps=num_steps)
  return SilentWriter()


class SilentWriter:
  """Takes what `MetricsWriter` takes, and writes nothing."""

  def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
    """Nothing."""

  def say(self, message: str) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""


class MetricsWriter:
  """Writes to `metrics.jsonl` and TensorBoard files in a folder.

  A run that resumes at step s drops what was written for the steps from s on,
  since it is about to write it again.
  """

  def __init__(self, folder: pathlib.Path, *, start: int, num_steps: int):
    """Opens the files of a run that is about to do step `start`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    kept = [r for r in read(path) if r["step"] < start]
    rewritten = path.with_suffix(".tmp")
    rewritten.write_text("".join(map(_line, kept)))
    rewritten.replace(path)  # at once: a kill loses nothing
    self._file = path.open("a")
    self._board = tensorboardX.SummaryWriter(str(folder), purge_step=start)
    self._bar = tqdm.tqdm(
      total=num_steps, initial=start, desc="train", unit="step"
    )

  def write(self, step: int, stage: str, metrics: dict[str, float]) -> None:
    """Writes the numbers of one stage ("train" or "eval") at a step.

    What is not finite is null in the JSON and absent from TensorBoard.

    Raises:
      OSError: the disk is full, say; names the file.
    """
    metrics = {name: float(value) for name, value in metrics.items()}
    try:
      self._file.write(_line({"step": step, "stage": stage, **metrics}))
      self._file.flush()
    except OSError as error:
      raise OSError(error.errno, error.strerror, self._file.name) from error
    for name, value in metrics.items():
      if math.isfinite(value):  # A curve has a gap where a number has none.
        self._board.add_scalar(f"{stage}/{name}", value, step)
    if stage == "train":
      shown = {m: f"{metrics[m]:.3g}" for m in _SHOWN if m in metrics}
      self._bar.set_postfix(shown, refresh=False)
      self._bar.update()

  def say(self, message: str) -> None:
    """Prints a line above the progress bar."""
    self._bar.write(message)

  def close(self) -> None:
    """Flushes and closes the files."""
    self._bar.close()
    self._board.close()
    self._file.close()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """All complete records of a `metrics.jsonl`; none if there is no file."""
  if not path.exists():
    return []
  lines = path.read_text().splitlines(keepends=True)
  # A kill may cut the last line off.
  records = [json.loads(line) for line in lines if line.endswith("}\n")]
  return [
    {name: math.nan if x is None else x for name, x in record.items()}
    for record in records
  ]


def _line(record: dict[str, Any]) -> str:
  """One JSON line; NaN and infinity, which JSON lacks, become null."""
  record = {
    name: None if isinstance(x, float) and not math.isfinite(x) else x
    for name, x in record.items()
  }
  return json.dumps(record) + "\n"
