"""The faults that are inflicted on real runs, and what must come of each.

  PYTHONPATH=.:tests python tests/helpers/fault_table.py

prints the table of docs/faults.md. tests/training/test_fault_table.py runs it.
The run is one of 6 steps that saves every second step and evaluates every
third; "begun" ones have done 5 steps, and hold the checkpoints 4 and 5.
"""

import dataclasses
import signal
from collections.abc import Callable
from typing import Any

from helpers import harm, moments

from pkpo_jax.training import workdir

STEP_4 = 9  # the grading of that step: four are of evaluations before it
HANG = 25.0  # seconds: longer than the watchdog's patience with a tiny run
# What may be on disk after a fault, in the words of the table.
NOTHING = "nothing"
AS_BEFORE = "what was there before"
LAST_SAVE = "the last checkpoint, and metrics up to it"
LAST_STEP = "a checkpoint of the last step"
ALL = "the whole run"
BAD_STEP = "the whole run, with `bad_steps` 1"
FAILED = "not 0"  # an exit code


@dataclasses.dataclass(frozen=True)
class Fault:
  """One row: after it, the same command ends as if nothing had happened.

  Attributes:
    what: is done to the run, in words.
    code: the exit codes, one for each process; several that may be are a set.
    says: fragments of what is printed.
    left: on disk, see above.
    once: what has to be done before the next start, in words; "" for nothing.
    then: fragments of what the next start prints.
    plans: what is done inside its processes, and when, see `moments`.
    begun: whether the run has been begun before.
    harm: is done to the folder before the start.
    mend: does what `once` says, to the folder.
    start: another way to launch than `launches.Launch`.
    disk: size of the file system that the folder is on.
    options, streams, environment: see `launches.Launch`.
    second: options of the second process alone.
  """

  what: str
  code: tuple[Any, ...]
  says: tuple[str, ...]
  left: str
  once: str = ""
  then: tuple[str, ...] = ()
  plans: tuple[tuple[moments.Moment, ...], ...] = ((),)
  begun: bool = False
  harm: Callable[..., Any] | None = None
  mend: Callable[..., Any] | None = None
  start: Callable[..., Any] | None = None
  disk: str = ""
  options: tuple[str, ...] = ()
  streams: str = ""
  environment: tuple[tuple[str, str], ...] = ()
  second: tuple[str, ...] = ()


def at(kind: str, number: int, do: Callable[..., Any], *args: Any):
  """The plans of a run of one process."""
  return ((moments.Moment(kind, number, do, args),),)


def first(kind: str, number: int, do: Callable[..., Any], *args: Any):
  """Those of two processes, for the first alone."""
  return (*at(kind, number, do, *args), ())


def second(kind: str, number: int, do: Callable[..., Any], *args: Any):
  """Those of two processes, for the second alone."""
  return ((), *at(kind, number, do, *args))


SAMPLING = "sampling and grading"
SAVED = "saved step"
DAMAGED = "cannot be restored: it is damaged"
HALF = {"begun": True}
SLOW = "has been at this for"

FAULTS = [
  # Ends
  Fault(
    "SIGKILL in an update", (-9,), (), LAST_SAVE,
    then=("ended without a word",), plans=at("update", 5, moments.die),
  ),
  Fault(
    "SIGKILL amid a save", (-9,), (), LAST_SAVE,
    plans=at("save", 2, moments.die, 0.02),
  ),
  *[
    Fault(
      f"{number.name} in an update", (128 + number,),
      (f"{number.name}: {SAVED}", "the same command continues"), LAST_STEP,
      then=("Resumed",), plans=at("update", 4, moments.send, number),
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
  ],
  Fault(
    "SIGHUP, SIGTERM and SIGTERM, 2 ms apart", ({129, 143},), (SAVED,),
    LAST_STEP,
    plans=at(
      SAMPLING, 4, moments.send, signal.SIGHUP, signal.SIGTERM, signal.SIGTERM
    ),
  ),
  Fault(
    "SIGTERM twice, 4 s apart, in a grader that hangs", (143,),
    ("asked twice, so what is unsaved is lost",), LAST_SAVE,
    plans=at(
      "grading", 8, moments.send_slowly, signal.SIGTERM, signal.SIGTERM
    ),
  ),
  Fault(
    "SIGTERM in a batch of an evaluation", (143,), (f"SIGTERM: {SAVED} 3",),
    LAST_STEP,
    plans=at("batch of an evaluation", 3, moments.send, signal.SIGTERM),
  ),
  Fault(
    "SIGTERM in the last evaluation", (143,), (f"SIGTERM: {SAVED} 6",),
    LAST_STEP,
    plans=at("batch of an evaluation", 5, moments.send, signal.SIGTERM),
  ),
  Fault(
    "SIGTERM while it starts, and is stuck", (143,),
    ("SIGTERM: nothing is unsaved",), AS_BEFORE, **HALF,
    plans=at("start", 1, moments.send_slowly, signal.SIGTERM),
  ),
  Fault(
    "Ctrl-C while Python imports", (-2,), ("SIGINT: ended",), NOTHING,
    start=harm.interrupt_imports,
  ),
  Fault(
    "SIGSTOP for 3 s, as of a laptop that sleeps", (0,), ("Done.",), ALL,
    plans=at("update", 4, moments.pause, 3),
  ),
  Fault(
    "the process exits by itself (a library's abort)", (7,), (), LAST_SAVE,
    plans=at("grading", STEP_4, moments.leave, 7),
  ),
  # Disks and streams
  Fault(
    "the disk fills", (1,), ("No space left on device",), LAST_SAVE,
    once="there is room", mend=harm.make_room, disk="4m",
    plans=at("update", 5, moments.fill, "DISK"),
  ),
  Fault(
    "the disk is read-only", (2,), ("cannot be written: Read-only file",),
    AS_BEFORE, once="it is writable", mend=harm.make_writable,
    harm=harm.make_read_only, disk="4m", **HALF,
  ),
  Fault(
    "metrics.jsonl comes to a full disk", (1,),
    ("No space left on device", "metrics.jsonl"), LAST_SAVE,
    plans=at("update", 5, moments.lose, "metrics.jsonl"),
  ),
  Fault(
    "TensorBoard's file comes to a full disk", (0,),
    ("TensorBoard's file cannot be written", "Done."), ALL,
    plans=at("update", 2, moments.lose, "events.out"),
  ),
  Fault("nobody reads what it prints", (0,), (), ALL, streams="gone"),
  Fault("what it prints goes to a full disk", (0,), (), ALL, streams="full"),
  Fault("its three streams are closed", (0,), (), ALL, streams="closed"),
  # What is in the folder
  Fault(
    "one bit of the newest checkpoint flips", (1,), (DAMAGED, "/5"), AS_BEFORE,
    once="it is deleted", mend=harm.delete_newest, harm=harm.flip, **HALF,
  ),
  Fault(
    "a file of the newest checkpoint is cut off", (1,), (DAMAGED, "/5"),
    AS_BEFORE, once="it is deleted", mend=harm.delete_newest, harm=harm.cut,
    **HALF,
  ),
  Fault(
    "a checkpoint is copied under a later number", (1,),
    ("/6 holds step 5: it was copied or renamed. Delete it",), AS_BEFORE,
    once="it is deleted", mend=harm.delete_newest, harm=harm.copy_newest,
    **HALF,
  ),
  Fault(
    "a killed save has left its remains", (0,), ("Resumed",), ALL,
    harm=harm.leave_remains, **HALF,
  ),
  Fault(
    "an old checkpoint cannot be deleted", (0,), ("cannot be deleted", "Done."),
    ALL, once="nothing is mounted in it", mend=harm.unmount_old,
    harm=harm.mount_in_old, **HALF,
  ),
  Fault(
    "the last line of metrics.jsonl is cut off", (0,), ("Resumed",), ALL,
    harm=harm.cut_metrics, **HALF,
  ),
  Fault(
    "the folder gets another name", (0,), ("Resumed",), ALL,
    harm=harm.rename, **HALF,
  ),
  Fault(
    "the folder is one of a newer format", (2,),
    ("was written by a newer version of pkpo_jax (format 99",), AS_BEFORE,
    once="there is that version", mend=harm.set_format(workdir.FORMAT),
    harm=harm.set_format(99), **HALF,
  ),
  Fault(
    "another run starts in the folder", (0,),
    ("Another run is at work in", "Done."), ALL,
    plans=at("update", 2, moments.start_rival),
  ),
  # What the run depends on
  Fault(
    "the config is another", (2,),
    ("holds a run with another config", "config.b1: 0.9 -> 0.8"), AS_BEFORE,
    once="it is undone", options=("--config.b1=0.8",), **HALF,
  ),
  Fault(
    "fewer steps are asked for than are done", (2,),
    ("config.num_steps=3 is less than the 5 steps",), AS_BEFORE,
    once="it is undone", options=("--config.num_steps=3",), **HALF,
  ),
  Fault(
    "the same config finds other problems", (1,),
    ("train problems, test problems changed since",), AS_BEFORE,
    once="they are back", environment=(("FEWER_PROBLEMS", "1"),), **HALF,
  ),
  Fault(
    "the user's shell sets jax to 64 bits", (0,),
    ("JAX_ENABLE_X64 is not used", "Done."), ALL, start=harm.with_64_bits,
    **HALF,
  ),
  # Graders and numbers
  Fault(
    "a grader raises an error", (1,), ("RuntimeError: the grader broke",),
    LAST_SAVE, plans=at("grading", STEP_4, moments.fail),
  ),
  Fault(
    "a grader gives NaN as a reward", (1,), ("reward", "not finite"), LAST_SAVE,
    once="it does so no more",
    plans=at("grading", STEP_4, moments.give, float("nan")),
  ),
  Fault(
    "a grader hangs, and goes on", (0,),
    (
      "Process 0 of 1", f"{SLOW} 20 s: sampling and grading of step",
      "faulty_task.py", "goes on after", "Done.",
    ),
    ALL, plans=at("grading", STEP_4, moments.hang, HANG),
  ),
  Fault(
    "a reward of 3e38 overflows the gradient", (0,),
    ("not finite at step", "it changed nothing, and is bad step 1", "Done."),
    BAD_STEP, plans=at("grading", STEP_4, moments.give, 3e38),
  ),
  Fault(
    "the same, and no bad step is allowed", (1,),
    ("which makes 1 bad steps, above config.max_bad_steps=0",), LAST_SAVE,
    once="the reward is right", options=("--config.max_bad_steps=0",),
    plans=at("grading", STEP_4, moments.give, 3e38),
  ),
]  # fmt: skip

TWO = [
  Fault(
    "SIGKILL to the second", (FAILED, -9), ("another process of this run",),
    LAST_SAVE, plans=second("update", 5, moments.die),
  ),
  Fault(
    "SIGKILL to the first", (-9, FAILED), (), LAST_SAVE,
    plans=first("update", 5, moments.die),
  ),
  Fault(
    "SIGTERM to the second", (143, 143), (f"SIGTERM: {SAVED}",), LAST_STEP,
    plans=second("update", 4, moments.send, signal.SIGTERM),
  ),
  Fault(
    "Ctrl-C to the first, in an evaluation", (130, 130),
    (f"SIGINT: {SAVED} 3",), LAST_STEP,
    plans=first("batch of an evaluation", 3, moments.send, signal.SIGINT),
  ),
  Fault(
    "Ctrl-C to the first while it waits for the second", (130,),
    ("SIGINT: nothing is unsaved",), NOTHING, plans=((), ()),
    start=harm.interrupt_who_waits,
  ),
  Fault(
    "SIGSTOP to the second, for ever", (FAILED, -9),
    ("Process 0 of 2", f"{SLOW} 20 s: ", "multihost"), LAST_SAVE,
    plans=second(SAMPLING, 4, moments.pause, None),
  ),
  Fault(
    "the second's grader hangs, and goes on", (0, 0),
    (
      "Process 1 of 2", f"{SLOW} 20 s: sampling and grading of step",
      "faulty_task.py", "Process 0 of 2", "Done.",
    ),
    ALL, plans=second("grading", STEP_4, moments.hang, HANG),
  ),
  Fault(
    "the second's grader raises an error", (FAILED, 1),
    ("the grader broke", "Process 1 of 2 ends with this error"), LAST_SAVE,
    plans=second("grading", STEP_4, moments.fail),
  ),
  Fault(
    "the second has another config", (FAILED, FAILED),
    ("have different configs", "config.b1: 0.9 -> 0.8"), NOTHING,
    once="it has the same", second=("--config.b1=0.8",), plans=((), ()),
  ),
  Fault(
    "one bit of the newest checkpoint flips", (FAILED, FAILED), (DAMAGED, "/5"),
    AS_BEFORE, once="it is deleted", mend=harm.delete_newest, harm=harm.flip,
    plans=((), ()), **HALF,
  ),
  Fault(
    "metrics.jsonl comes to a full disk", (1, FAILED),
    ("No space left on device", "metrics.jsonl"), LAST_SAVE,
    plans=first("update", 5, moments.lose, "metrics.jsonl"),
  ),
]  # fmt: skip


def table(faults: list[Fault]) -> str:
  """The rows in Markdown."""
  head = ("what is done", "exit code", "it says", "is left", "the same command")
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for fault in faults:
    said, then = (
      " ... ".join(f"`{x}`" for x in some) for some in (fault.says, fault.then)
    )
    goes_on = "does nothing more" if "whole" in fault.left else "goes on"
    once = f"once {fault.once}: {goes_on}" if fault.once else goes_on
    codes = ", ".join(
      " or ".join(map(str, sorted(x))) if isinstance(x, set) else str(x)
      for x in fault.code
    )
    next_start = f"{once}; says {then}" if then else once
    cells = [fault.what, codes, said, fault.left, next_start]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


if __name__ == "__main__":
  print(table(FAULTS), "\n\n", table(TWO), sep="")
