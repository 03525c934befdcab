"""Runs code that nobody has read where it can harm nothing and learn nothing.

Each run is one fresh process in a bubblewrap container: an unprivileged user,
no network, no file but Python's own standard library, nothing to write to, a
process table of its own, no child processes, and limits on time, memory,
threads and output. Only calls go in and only literals come out. Whatever is
expected of them stays outside, so that no run can forge a verdict.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

from pkpo_jax.tasks.grading.sandbox import container, self_test, syscalls

# Open files of a run while it starts, and of one that runs.
STARTING_FILES = 8
RUNNING_FILES = 3

_LARGEST_VALUE = 1 << 15  # bytes of one line; the harness keeps to half
_START_SECONDS = 30.0  # until the harness runs, on a busy machine
_KILL_SECONDS = 5.0
_LOOK_SECONDS = 0.05  # how often a run is looked at, whether it sleeps
_AWAKE = "RD"  # what computes, and what waits for a disk
_FAILURES = ("raised", "no literal", "too large", "syntax error")


class SandboxError(RuntimeError):
  """The sandbox itself failed, not what ran in it."""


class Answer(NamedTuple):
  """A source out of an answer, run with indulgence.

  It ends before its first top-level statement that is no Python, such as prose
  behind the code. What it raises is forgiven once it has defined `name`, as
  is a demonstration at its end that fails; with an empty name, all is.
  """

  text: str
  name: str = ""


class Value(NamedTuple):
  """What a call returned, made of builtin types alone."""

  value: Any


class Failure(NamedTuple):
  """Why there is no value, in words out of a fixed few."""

  reason: str


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one run may use. It is one process: it cannot start others.

  Attributes:
    cpu_seconds: processor time, whole seconds.
    wall_seconds: from the start of the code to its last result.
    sleep_seconds: of those, how many it may spend neither computing nor
      waiting for a processor or a disk.
    memory_mb: address space, MiB.
    threads: at a time.
    output_bytes: all that it may write.
  """

  cpu_seconds: int = 2
  wall_seconds: float = 20.0
  sleep_seconds: float = 1.0
  memory_mb: int = 512
  threads: int = 8
  output_bytes: int = 1 << 20

  def __post_init__(self):
    """Raises ValueError for a limit that is not positive."""
    for name, value in dataclasses.asdict(self).items():
      if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value} must be positive and finite.")
    if not isinstance(self.cpu_seconds, int):
      raise ValueError(f"cpu_seconds={self.cpu_seconds} must be whole.")

  def resources(self) -> dict[str, tuple[int, int]]:
    """The same for setrlimit, by name: soft and hard limits."""
    memory = self.memory_mb << 20
    return {
      "RLIMIT_CPU": (self.cpu_seconds, self.cpu_seconds),
      "RLIMIT_AS": (memory, memory),
      "RLIMIT_NPROC": (self.threads, self.threads),
      "RLIMIT_FSIZE": (0, 0),  # memory files too are not to be filled
      "RLIMIT_NOFILE": (64, 64),
      "RLIMIT_CORE": (0, 0),
    }


class Sandbox:
  """A place to run code in. Threads may share one."""

  def __init__(self, limits: Limits | None = None):
    """Finds what it needs and tries once that it really isolates.

    Raises:
      RuntimeError: bubblewrap, setpriv or a Python is missing, or the kernel
        doesn't allow what is needed; the message names the remedy.
    """
    self._limits = limits or Limits()
    self._commands = container.commands()
    self._filter = syscalls.seccomp_filter()
    self._test_isolation()

  def run(
    self,
    sources: Sequence[str | Answer],
    calls: Sequence[str],
    on_sleep: Callable[[], object] = lambda: None,
  ) -> tuple[Value | Failure, ...]:
    """Runs sources in one namespace, then evaluates the calls in it.

    A call that raises doesn't keep the next from its turn. One that hangs or
    kills the process does: what came before it counts, the rest fails.

    Args:
      sources: programs, run one after another as one module.
      calls: Python expressions.
      on_sleep: is called each time that the code is found asleep.

    Returns:
      what each call gave.

    Raises:
      SandboxError: the sandbox did not start, whatever the code.
    """
    plain = [s if isinstance(s, str) else tuple(s) for s in sources]
    job = ascii((self._limits.resources(), plain, tuple(calls)))
    try:
      lines, ending = self._start(job.encode(), len(calls), on_sleep)
    except OSError as error:
      raise SandboxError(f"The sandbox did not start: {error}.") from error
    results = [_decode(line) for line in lines[: len(calls)]]
    missing = len(calls) - len(results)
    return (*results, *[Failure(ending)] * missing)

  def _start(
    self, job: bytes, num_lines: int, on_sleep: Callable[[], object]
  ) -> tuple[list[bytes], str]:
    """The lines of a run, and why there are no more of them."""
    with _memory_file() as stderr, _memory_file() as info:
      process = self._popen(job, stderr, info)
      run = _Run(process, info, self._limits, on_sleep)
      try:
        output, ending = run.read(1 + num_lines)
      finally:
        _kill(process, info)
      ready, *lines = output.split(b"\n")[:-1] or [b""]
      if ready != b"ready":
        stderr.seek(0)
        said = stderr.read(2000).decode(errors="replace").strip()
        raise SandboxError(f"The sandbox did not start ({ending}): {said!r}.")
    return lines, ending

  def _popen(
    self, job: bytes, stderr: IO[bytes], info: IO[bytes]
  ) -> subprocess.Popen:
    bwrap, python = self._commands
    with _memory_file(job) as stdin, _memory_file(self._filter) as seccomp:
      options = ["--info-fd", info.fileno(), "--seccomp", seccomp.fileno()]
      return subprocess.Popen(
        [*bwrap, *map(str, options), *python],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={},
        cwd="/",
        pass_fds=[info.fileno(), seccomp.fileno()],
        start_new_session=True,  # Ctrl-C is not for the answers
      )

  def _test_isolation(self) -> None:
    """Raises RuntimeError unless a run is refused what it must not have."""

    def evaluate(source: str, call: str) -> Value | Failure:
      return self.run((source,), (call,))[0]

    try:
      leaks = self_test.find_leaks(evaluate, self._limits.memory_mb << 20)
    except SandboxError as error:
      raise RuntimeError(
        f"bubblewrap cannot isolate code here: {error} It needs user"
        " namespaces: on Ubuntu 24.04 `sysctl -w"
        " kernel.apparmor_restrict_unprivileged_userns=0`, in Docker"
        " `--security-opt seccomp=unconfined --security-opt"
        " apparmor=unconfined`."
      ) from error
    if leaks != Value([]):
      raise RuntimeError(f"The sandbox leaks, so no code is run: {leaks}.")


class _Run:
  """One process while it writes."""

  def __init__(
    self,
    process: subprocess.Popen,
    info: IO[bytes],
    limits: Limits,
    on_sleep: Callable[[], object],
  ):
    self._process, self._info, self._limits = process, info, limits
    self._on_sleep = on_sleep
    self._deadline = time.monotonic() + _START_SECONDS
    self._looked, self._slept = math.inf, 0.0

  def read(self, num_lines: int) -> tuple[bytes, str]:
    """What it writes, up to so many lines, and why it ended there."""
    assert self._process.stdout is not None
    output, lines = bytearray(), 0
    with self._process.stdout as stdout:
      poll = select.poll()  # select() has room for 1024 descriptors
      poll.register(stdout, select.POLLIN)
      while lines < num_lines:
        if self._is_late():
          return bytes(output), "timeout"
        if not poll.poll(1000 * _LOOK_SECONDS):
          continue
        chunk = os.read(stdout.fileno(), 1 << 16)
        if not chunk:
          return bytes(output), _cause_of_death(self._process)
        if not lines and b"\n" in chunk:  # it runs: its own time starts now
          self._looked = time.monotonic()
          self._deadline = self._looked + self._limits.wall_seconds
        output += chunk
        lines += chunk.count(b"\n")
        if len(output) > self._limits.output_bytes:
          return bytes(output), "too much output"
    return bytes(output), "finished"

  def _is_late(self) -> bool:
    """Whether it is out of time; looks now and then whether it sleeps."""
    now = time.monotonic()
    if now - self._looked >= _LOOK_SECONDS:
      if _is_asleep(_child(self._info)):
        # Whoever looks may be late himself, and is no witness for so long.
        self._slept += min(now - self._looked, 2 * _LOOK_SECONDS)
        self._on_sleep()
      self._looked = now
    return now > self._deadline or self._slept > self._limits.sleep_seconds


def _is_asleep(pid: int | None) -> bool:
  """Whether a process does nothing, in any of its threads."""
  try:
    for task in os.scandir(f"/proc/{pid}/task"):
      stat = pathlib.Path(task.path, "stat").read_text()
      if stat[stat.rindex(")") + 2] in _AWAKE:
        return False
  except OSError:  # It ended; what it wrote tells.
    return False
  return True


def _child(info: IO[bytes]) -> int | None:
  """The process in the container, once bubblewrap has said it."""
  info.seek(0)
  said = info.read()
  return json.loads(said)["child-pid"] if said else None


def _cause_of_death(process: subprocess.Popen) -> str:
  try:
    status = process.wait(1.0)
  except subprocess.TimeoutExpired:  # alive, but it closed its output
    return "crashed"
  # The limit on processor time kills; an answer cannot: in its container it is
  # process 1, which the kernel shields from its own signals.
  return "timeout" if status == 128 + signal.SIGKILL else "crashed"


def _kill(process: subprocess.Popen, info: IO[bytes]) -> None:
  """Ends a container and so all that is in it; there is nothing to save.

  Python dies first, then bubblewrap by itself. The other way round each run
  would leave a zombie to process 1, which in many containers reaps none.
  """
  if process.poll() is None and (pid := _child(info)):
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(_KILL_SECONDS)
  process.kill()
  process.wait()


def _decode(line: bytes) -> Value | Failure:
  """One line of the harness, or of a sample that plays the harness."""
  if len(line) > _LARGEST_VALUE:
    return Failure("too large")
  try:
    message = json.loads(line, object_hook=_build)
    if isinstance(message, list):
      kind, value = message
      return Value(value) if kind == "value" else Failure("unreadable")
  except (ArithmeticError, RecursionError, TypeError, ValueError):
    return Failure("unreadable")
  return Failure(message if message in _FAILURES else "unreadable")


def _build(tagged: dict[str, list]) -> Any:
  """The value of a JSON object such as {"tuple": [1, 2]}."""
  ((kind, items),) = tagged.items()
  if kind == "dict":
    return dict(items)
  if kind == "complex":
    return complex(*items)
  if kind not in ("tuple", "set"):
    raise ValueError(f"Unknown kind of value {kind!r}.")
  return tuple(items) if kind == "tuple" else set(items)


def _memory_file(content: bytes = b"") -> IO[bytes]:
  file = os.fdopen(os.memfd_create("pkpo"), "w+b")
  file.write(content)
  file.seek(0)
  return file
