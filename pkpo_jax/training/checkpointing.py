"""Everything that a bit-exact resume needs, saved without stopping training.

A checkpoint holds the train state (parameters, optimiser, step), when each
training problem was first solved, what a k for each problem is made from, and a
checksum of each of these arrays. The
sampling keys and the data cursor are functions of the config's seed and the
step, so that neither can run ahead of what was trained; the config lies beside,
see `workdir.claim`.
"""

import contextlib
import json
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from pkpo_jax import multihost
from pkpo_jax.rl import train_step
from pkpo_jax.training import k_by_problem, workdir

_DELETED = ".deleted"  # ends the name of a checkpoint that is to go
_TEMPORARY = ".orbax-checkpoint-tmp"  # in the names of unfinished ones
NEVER = -1  # in place of the step that solved a problem


class Progress(NamedTuple):
  """What a run has reached.

  Attributes:
    state: parameters, optimiser state and step.
    solved_at: [N] int32, the step that solved each training problem for the
      first time; `NEVER` for those that none has solved.
    counts: how often each problem was right, where k follows from that.
  """

  state: train_step.TrainState
  solved_at: np.ndarray
  counts: k_by_problem.Counts | None = None

  def as_dict(self) -> dict[str, Any]:
    """What a checkpoint holds, by name."""
    return {k: x for k, x in self._asdict().items() if x is not None}


def restore_params(folder: pathlib.Path, step: int, like: Any) -> Any:
  """The parameters of a checkpoint, without its optimiser state.

  Args:
    folder: of the checkpoints.
    step: one of `workdir.complete_steps`.
    like: what is trained, of `jax.ShapeDtypeStruct`s with their shardings. The
      mesh and the number of processes need not be those that saved.

  Raises:
    ValueError: as in `Checkpointer.restore`.
  """
  path = folder.absolute() / str(step)
  with _reading(path):
    found = _format(path)
  workdir.check_format(found, folder)
  shapes = jax.tree.map(_on_a_device, like)
  tree = {"state": {"params": shapes, "step": 0}, "checksums": 0}
  args = ocp.checkpoint_utils.construct_restore_args(tree)
  on_host = ocp.RestoreArgs(restore_type=np.ndarray)
  args["state"]["step"] = args["checksums"] = on_host
  handler = ocp.CompositeCheckpointHandler(
    default=ocp.PyTreeCheckpointHandler()
  )
  with _reading(path), ocp.Checkpointer(handler) as checkpointer:
    restored = checkpointer.restore(
      path,
      args=ocp.args.Composite(
        default=ocp.args.PyTreeRestore(
          item=tree, restore_args=args, partial_restore=True
        )
      ),
    ).default
    params = restored["state"]["params"]
    # Their leaves come after the counts, if any, `solved_at` and the step.
    kept = checkpointer.metadata(path).item_metadata.default.tree
    first = len(jax.tree.leaves(kept.get("counts", ()))) + 2
    saved = restored["checksums"][first : first + len(jax.tree.leaves(params))]
    _check_sums(saved, params)
  _check_step(path, int(restored["state"]["step"]))
  return params


def _check_sums(saved: np.ndarray, restored: Any) -> None:
  if not is_as_saved(restored, saved):
    raise ValueError("The checksums of the arrays are not those saved.")


def _check_step(path: pathlib.Path, step: int) -> None:
  if path.name != str(step):
    raise ValueError(
      f"{path} holds step {step}: it was copied or renamed. Delete it, or give"
      " it the name of its step; otherwise nothing could be saved before step"
      f" {path.name}."
    )


def _format(path: pathlib.Path) -> int:
  """The format of a checkpoint; 0 before formats had numbers."""
  text = (path / "_CHECKPOINT_METADATA").read_text()
  return json.loads(text)["custom_metadata"].get("format", 0)


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
  """A context in which all that goes wrong is a damaged checkpoint."""
  try:
    yield
  except jax.errors.JaxRuntimeError:  # no memory, or a lost process
    raise
  except Exception as error:  # as many types as there are kinds of damage
    if not path.exists():
      raise ValueError(
        f"{path} is gone: the run that wrote it is at work, and keeps the"
        " newest config.checkpoint.keep alone. Ask for a later one."
      ) from error
    raise ValueError(
      f"{path} cannot be restored: it is damaged, or of another model. Delete"
      " it to continue from the checkpoint before it, if there is one."
      f" ({first_line(error)})"
    ) from error


class Checkpointer:
  """Saves and restores the progress of one run."""

  def __init__(self, folder: pathlib.Path, *, keep: int):
    """Opens `folder`, or makes it; keeps the newest `keep` checkpoints.

    Older ones, and what killed saves have left, are deleted before the next
    save and at the end.

    Raises:
      OSError: it cannot be made.
      ValueError: as `workdir.complete_steps`.
    """
    self._folder, self._keep = folder.absolute(), keep
    self._told: set[str] = set()
    self._saves = False
    if multihost.is_first():  # orbax would not mind a file in its place
      self._folder.mkdir(parents=True, exist_ok=True)
    workdir.complete_steps(self._folder)  # so that all go on from the same
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=None,  # orbax would end the run where it cannot delete
        # Where that fails, other threads would wait minutes for the folder.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      ),
    )

  @property
  def latest(self) -> int | None:
    """The step of the newest complete checkpoint, or None."""
    return self._manager.latest_step()

  def holds(self, step: int) -> bool:
    """Whether there is a complete checkpoint of a step; in any thread."""
    return (self._folder / str(step)).exists()

  def restore(self, like: Progress) -> Progress:
    """The newest complete checkpoint, in the shapes and shardings of `like`.

    Args:
      like: of arrays or of `jax.ShapeDtypeStruct`s; what has no sharding comes
        to the first device. The mesh and the number of processes need not be
        those that saved.

    Raises:
      ValueError: its files are damaged, or of another model or step, or of a
        format that can't be continued, see `workdir.check_format`.
    """
    path = self._folder / str(self.latest)
    with _reading(path):
      found = _format(path)
    workdir.check_format(found, self._folder)
    tree = jax.tree.map(_on_a_device, like.as_dict())
    tree["checksums"] = np.zeros(len(jax.tree.leaves(tree)), np.uint32)
    with _reading(path):
      restored = self._manager.restore(
        self.latest, args=ocp.args.StandardRestore(tree)
      )
      _check_sums(restored.pop("checksums"), restored)
    progress = Progress(**restored)
    _check_step(path, int(progress.state.step))
    return progress

  def save(self, progress: Progress) -> None:
    """Saves in the background, unless this step is saved already.

    Raises:
      OSError: this or the checkpoint before could not be written, or one of a
        later step stands in the way.
    """
    step = int(progress.state.step)
    if step == self._manager.latest_step():
      return
    tree = progress.as_dict()
    tree["checksums"] = multihost.fetch(checksums(tree))
    with self._writing():
      self._manager.wait_until_finished()
      self._saves = True
      self._tidy()
      if not self._manager.save(
        step,
        args=ocp.args.StandardSave(tree),
        custom_metadata={"format": workdir.FORMAT},
      ):
        raise ValueError(
          f"step {step} is not saved: there is {self._manager.latest_step()}"
        )

  def wait(self) -> None:
    """Lets a save that was begun come to its end, whatever that is."""
    with contextlib.suppress(OSError, ValueError):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits until all is on disk.

    Raises:
      OSError: the last checkpoint could not be written.
    """
    with self._writing():
      self._manager.wait_until_finished()
    if self._saves:  # and does not read what another process is writing
      self._tidy()
    self._manager.close()

  def _tidy(self) -> None:
    """Deletes old checkpoints and remains; what resists is no error."""
    if not multihost.is_first():
      return
    for step in workdir.seen_steps(self._folder)[: -self._keep]:
      # Renamed first: half a checkpoint must not pass for a whole one.
      self._attempt(
        (self._folder / str(step)).rename, self._folder / f"{step}{_DELETED}"
      )
    for path in self._folder.iterdir():
      if path.name.endswith(_DELETED) or _TEMPORARY in path.name:
        self._attempt(shutil.rmtree, path)

  def _attempt(self, do: Callable[[pathlib.Path], Any], path: pathlib.Path):
    """Does something to a path; says once, at most, that it failed."""
    try:
      do(path)
    except OSError as error:
      if path.name not in self._told:
        warnings.warn(
          f"{path} cannot be deleted ({error.strerror}); the run goes on"
          " without that. Delete it when it can be.",
          stacklevel=3,
        )
      self._told.add(path.name)

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except (OSError, ValueError) as error:
      raise OSError(
        f"No checkpoint could be written to {self._folder}; the earlier ones"
        " are intact. Make room, or make it writable; the same command"
        f" continues from them. ({first_line(error)})"
      ) from error


def _on_a_device(x: Any) -> Any:
  """A shape without a sharding -> the same on the first device."""
  if not isinstance(x, jax.ShapeDtypeStruct) or x.sharding is not None:
    return x
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)


def is_as_saved(tree: Any, saved: np.ndarray) -> bool:
  """Whether the checksums of arrays are those that were saved with them.

  Those of earlier versions, which are blind to permuted arrays, count too.
  """
  return any(
    np.array_equal(saved, multihost.fetch(sums(tree)))
    for sums in (checksums, _sums_of_bits)
  )


@jax.jit
def checksums(tree: Any) -> jax.Array:
  """[leaves] uint32 that change with any bit and any place of an element.

  Sums of hashes of both, and so the same on every mesh.
  """

  def total(x):
    x = x.astype(jnp.uint8) if x.dtype == bool else x
    unsigned = jnp.dtype(f"uint{8 * min(x.dtype.itemsize, 4)}")
    bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    return jnp.sum(_hash(bits + _hash(_places(bits.shape))), dtype=jnp.uint32)

  return jnp.stack([total(x) for x in jax.tree.leaves(tree)])


def _places(shape: tuple[int, ...]) -> jax.Array:
  """The place of each element in an array of a shape: uint32, modulo 2^32."""
  places, stride = jnp.zeros(shape, jnp.uint32), 1
  for axis in reversed(range(len(shape))):
    along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    places += along * jnp.uint32(stride % 2**32)
    stride *= shape[axis]
  return places


def _hash(x: jax.Array) -> jax.Array:
  """A bijection of uint32 without order: the finalizer of MurmurHash3."""
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
    x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
  return x


@jax.jit
def _sums_of_bits(tree: Any) -> jax.Array:
  """[leaves] uint32, the checksums of earlier versions."""

  def total(x):
    if x.dtype == bool:
      return jnp.sum(x, dtype=jnp.uint32)
    unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(x, unsigned)
    return jnp.sum(bits, dtype=jnp.uint32)

  return jnp.stack([total(x) for x in jax.tree.leaves(tree)])


def first_line(error: Exception) -> str:
  """The beginning of an error's message, or its type."""
  return (str(error).splitlines() or [type(error).__name__])[0][:500]
