"""Everything that a bit-exact resume needs, saved without stopping training.

A checkpoint holds the train state (parameters, optimiser, step) and which
training problems have been solved. The sampling keys and the data cursor are
functions of the config's seed and the step, so that neither can run ahead of
what was trained; the config lies beside, see `configs.claim`.
"""

import pathlib
from typing import NamedTuple

import jax
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

  def restore(self, like: Progress) -> Progress:
    """The newest complete checkpoint, or `like` if there is none."""
    latest = self._manager.latest_step()
    if latest is None:
      return like
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    args = ocp.args.StandardRestore(shapes)
    return Progress(**self._manager.restore(latest, args=args))

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
