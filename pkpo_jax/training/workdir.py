"""The folder of a run: which config, and which format, it belongs to."""

import json
import pathlib
import time

import ml_collections

from pkpo_jax import multihost
from pkpo_jax.training import config as config_lib

# The format of a run's folder. It rises when a config or a checkpoint gets
# another shape, and when the mathematics of a run changes.
FORMAT = 2
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
ADDED_KEYS = {"k_weights": (), "decay_steps": 0, "patience": 0}

_PATIENCE = 60  # seconds until a shared folder shows what another wrote


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Writes `config.json` to the folder of a run that starts or continues.

  With several processes, all of them call this.

  Raises:
    ValueError: `workdir` has checkpoints of another config, says what differs,
      or of a format whose mathematics has changed; or the processes differ in
      their config, or don't share `workdir`.
  """
  if workdir.parts[:1] == ("gs:",):
    raise ValueError(
      f"--workdir={workdir} is no folder; mount the bucket and name the folder,"
      " see docs/pods.md."
    )
  path, text = workdir / "config.json", config_lib.to_json(config)
  _check_same_everywhere(text)
  if any(p.name.isdigit() for p in workdir.glob("checkpoints/*")):
    changes = config_lib.difference(_saved_json(path), text)
    if changes:
      raise ValueError(
        f"{workdir} holds a run with another config; use a new workdir, or undo"
        " these changes (saved -> asked for):\n  " + "\n  ".join(changes)
      )
  written = json.dumps({"format": FORMAT} | json.loads(text), indent=2) + "\n"
  if multihost.is_first():
    _write(path, written)
  multihost.wait("claimed")
  _check_shared(path, written)


def read_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """The config of a run, with the default of every key that it lacks.

  Raises:
    ValueError: `workdir` is no run's, or its format can't be continued.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise ValueError(f"{path} is missing: --workdir must be a training run's.")
  return ml_collections.ConfigDict(json.loads(_saved_json(path)))


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


def _write(path: pathlib.Path, text: str) -> None:
  """Writes the file at once or not at all, and makes its folder."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".tmp")
    new.write_text(text)
    new.replace(path)
  except OSError as error:
    raise OSError(
      f"--workdir={path.parent} cannot be written: {error.strerror}; choose"
      " another folder."
    ) from error


def _saved_json(path: pathlib.Path) -> str:
  """The saved config as JSON, without its format, with the keys it lacks."""
  saved = json.loads(path.read_text()) if path.exists() else {}
  check_format(saved.pop("format", 0), path)
  with_defaults = ADDED_KEYS | saved if saved else saved
  return json.dumps(with_defaults, indent=2, sort_keys=True)


def _check_same_everywhere(text: str) -> None:
  """Raises in all processes if the config of one is not that of the first."""
  changes = config_lib.difference(multihost.broadcast_text(text), text)
  if multihost.max_over_hosts(bool(changes)):
    raise ValueError(
      "The processes of this run have different configs; start all with the"
      " same command. First process -> this one:\n  "
      + "\n  ".join(changes or ["no difference; see the other processes"])
    )


def _check_shared(path: pathlib.Path, text: str) -> None:
  """Raises if this process does not see what the first one wrote."""
  deadline = time.monotonic() + _PATIENCE
  while not path.exists() or path.read_text() != text:
    if time.monotonic() > deadline:
      raise ValueError(
        f"{path} is not as the first process wrote it: --workdir must be one"
        " folder that all processes share."
      )
    time.sleep(1)
