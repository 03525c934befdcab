"""Everything that a bit-exact resume needs, saved without stopping training.

A checkpoint holds the train state (parameters, optimiser, step), the solved
problems, and the config. The sampling keys and the data cursor are functions
of the config's seed and the step, so that neither can run ahead of what was
trained.
"""

import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from pkpo_jax.rl import configs, learner


class Progress(NamedTuple):
  """What a run has reached.

  Attributes:
    state: parameters, optimiser state and step.
    solved: [N] bool, the training problems solved at least once.
  """

  state: learner.TrainState
  solved: np.ndarray


class Checkpointer:
  """Saves and restores the progress of one run."""

  def __init__(self, folder: pathlib.Path, config_json: str, *, keep: int):
    """Opens `folder`, and refuses it if it holds another config's run.

    Args:
      folder: of this run's checkpoints; made if it is absent.
      config_json: the config, from `configs.to_json`.
      keep: how many checkpoints to keep, the newest ones.

    Raises:
      ValueError: the run in `folder` has another config; says what differs.
    """
    self._config_json = config_json
    self._manager = ocp.CheckpointManager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
      item_names=("progress", "config"),
    )
    latest = self._manager.latest_step()
    if latest is not None:
      self._check_config(folder, latest)

  def _check_config(self, folder: pathlib.Path, step: int) -> None:
    args = ocp.args.Composite(config=ocp.args.JsonRestore())
    saved = json.dumps(self._manager.restore(step, args=args)["config"])
    changes = configs.difference(saved, self._config_json)
    if changes:
      raise ValueError(
        f"{folder} holds a run with another config; use a new --workdir, or"
        " undo these changes (saved -> asked for):\n  " + "\n  ".join(changes)
      )

  def restore(self, like: Progress) -> Progress:
    """The newest complete checkpoint, or `like` if there is none."""
    latest = self._manager.latest_step()
    if latest is None:
      return like
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    args = ocp.args.Composite(progress=ocp.args.StandardRestore(shapes))
    return Progress(**self._manager.restore(latest, args=args)["progress"])

  def save(self, progress: Progress) -> None:
    """Saves in the background; the newest step may be saved again."""
    step = int(progress.state.step)
    if step == self._manager.latest_step():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        progress=ocp.args.StandardSave(progress._asdict()),
        config=ocp.args.JsonSave(json.loads(self._config_json)),
      ),
    )

  def close(self) -> None:
    """Waits until all is on disk."""
    self._manager.wait_until_finished()
    self._manager.close()
