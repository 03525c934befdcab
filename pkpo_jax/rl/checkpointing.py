"""Everything that a bit-exact resume needs, saved without stopping training.

A checkpoint holds the train state (parameters, optimiser, step) and which
training problems have been solved. The sampling keys and the data cursor are
functions of the config's seed and the step, so that neither can run ahead of
what was trained; the config lies beside, see `configs.claim`.
"""

import pathlib
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from pkpo_jax.rl import learner


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

  def __init__(self, folder: pathlib.Path, *, keep: int):
    """Opens `folder`, or makes it; keeps the newest `keep` checkpoints."""
    self._manager = ocp.CheckpointManager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
    )

  @property
  def latest(self) -> int | None:
    """The step of the newest complete checkpoint, or None."""
    return self._manager.latest_step()

  def restore(self, like: Progress) -> Progress:
    """The newest complete checkpoint, in the shapes and shardings of `like`.

    Args:
      like: of arrays or of `jax.ShapeDtypeStruct`s. The mesh and the number of
        processes need not be those that saved.
    """
    args = ocp.args.StandardRestore(like._asdict())
    return Progress(**self._manager.restore(self.latest, args=args))

  def save(self, progress: Progress) -> None:
    """Saves in the background, unless this step is saved already."""
    step = int(progress.state.step)
    if step != self._manager.latest_step():
      args = ocp.args.StandardSave(progress._asdict())
      self._manager.save(step, args=args)

  def close(self) -> None:
    """Waits until all is on disk."""
    self._manager.wait_until_finished()
    self._manager.close()
