"""Runs code that nobody has read where it can harm nothing and learn nothing.

Each run is one fresh process in a bubblewrap container: an unprivileged user,
no network, no file but Python's own standard library, nothing to write to, a
process table of its own, and limits on time, memory, processes and output.
Only calls go in and only literals come out. Whatever is expected of them stays
outside, so that no run can forge a verdict.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

_HARNESS = pathlib.Path(__file__).with_name("inside.py").read_text("utf-8")
_LARGEST_VALUE = 1 << 15  # bytes of one line; the harness keeps to half
_START_SECONDS = 30.0  # until the harness runs, on a busy machine
_KILL_SECONDS = 5.0
_NOBODY = "65534"
_PYTHONS = "/usr/local/bin:/usr/bin"
_FAILURES = ("raised", "no literal", "too large", "syntax error")

# The C modules of the standard library that may need shared libraries of their
# own. ctypes is left out on purpose: it is the short way to native code.
_MODULES = ("_bz2", "_decimal", "_hashlib", "_lzma", "_socket", "zlib")

_QUERY = f"""
import importlib.util, json, os, sys, sysconfig
specs = map(importlib.util.find_spec, {_MODULES})
json.dump({{
  "version": sys.version_info[:2],
  "python": os.path.realpath(sys.executable),
  "libraries": sorted({{
    os.path.realpath(sysconfig.get_path(name))
    for name in ("stdlib", "platstdlib")
  }}),
  "modules": [
    s.origin for s in specs if s and os.path.exists(s.origin or "")
  ],
}}, sys.stdout)
"""

_PROBE = """
import os, socket

def leaks(path, port):
  found = []
  def attempt(name, action):
    try:
      action()
    except OSError:
      return
    found.append(name)
  attempt("the network", lambda: socket.create_connection(
    ("127.0.0.1", port), 1).close())
  attempt("files", lambda: open(path).close())
  attempt("writing", lambda: open("/probe", "w").close())
  attempt("becoming root", lambda: os.setuid(0))
  if os.getpid() != 1:
    found.append("processes")
  if set(os.environ) - {"LC_CTYPE", "PWD"}:
    found.append("the environment")
  return found
"""


class SandboxError(RuntimeError):
  """The sandbox itself failed, not what ran in it."""


class Value(NamedTuple):
  """What a call returned, made of builtin types alone."""

  value: Any


class Failure(NamedTuple):
  """Why there is no value, in words out of a fixed few."""

  reason: str


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one run may use.

  Attributes:
    cpu_seconds: processor time of each process, whole seconds.
    wall_seconds: from the start of the code to its last result.
    memory_mb: address space of each process, MiB.
    processes: processes and threads at a time.
    output_bytes: all that it may write.
  """

  cpu_seconds: int = 2
  wall_seconds: float = 6.0
  memory_mb: int = 512
  processes: int = 8
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
      "RLIMIT_NPROC": (self.processes, self.processes),
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
    self._commands = _commands()
    self._test_isolation()

  def run(
    self, sources: Sequence[str], calls: Sequence[str]
  ) -> tuple[Value | Failure, ...]:
    """Runs sources in one namespace, then evaluates the calls in it.

    A call that raises doesn't keep the next from its turn. One that hangs or
    kills the process does: what came before it counts, the rest fails.

    Args:
      sources: programs, run one after another as one module.
      calls: Python expressions.

    Returns:
      what each call gave.

    Raises:
      SandboxError: the sandbox did not start, whatever the code.
    """
    job = ascii((self._limits.resources(), tuple(sources), tuple(calls)))
    try:
      lines, ending = self._start(job.encode(), len(calls))
    except OSError as error:
      raise SandboxError(f"The sandbox did not start: {error}.") from error
    results = [_decode(line) for line in lines[: len(calls)]]
    missing = len(calls) - len(results)
    return (*results, *[Failure(ending)] * missing)

  def _start(self, job: bytes, num_lines: int) -> tuple[list[bytes], str]:
    """The lines of a run, and why there are no more of them."""
    with (
      _memory_file(job) as stdin,
      _memory_file() as stderr,
      _memory_file() as info,
    ):
      bwrap, python = self._commands
      process = subprocess.Popen(
        [*bwrap, "--info-fd", str(info.fileno()), *python],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={},
        cwd="/",
        pass_fds=[info.fileno()],
        start_new_session=True,  # Ctrl-C is not for the answers
      )
      try:
        output, ending = _read(process, 1 + num_lines, self._limits)
      finally:
        _kill(process, info)
      ready, *lines = output.split(b"\n")[:-1] or [b""]
      if ready != b"ready":
        stderr.seek(0)
        said = stderr.read(2000).decode(errors="replace").strip()
        raise SandboxError(f"The sandbox did not start ({ending}): {said!r}.")
    return lines, ending

  def _test_isolation(self) -> None:
    """Raises RuntimeError unless a run is refused what it must not have."""
    with (
      tempfile.NamedTemporaryFile() as file,
      socket.create_server(("127.0.0.1", 0)) as server,
    ):
      os.chmod(file.name, 0o644)
      call = f"leaks({file.name!r}, {server.getsockname()[1]})"
      try:
        (result,) = self.run((_PROBE,), (call,))
      except SandboxError as error:
        raise RuntimeError(
          f"bubblewrap cannot isolate code here: {error} It needs user"
          " namespaces: on Ubuntu 24.04 `sysctl -w"
          " kernel.apparmor_restrict_unprivileged_userns=0`, in Docker"
          " `--security-opt seccomp=unconfined --security-opt"
          " apparmor=unconfined`."
        ) from error
    if result != Value([]):
      raise RuntimeError(f"The sandbox leaks, so no code is run: {result}.")


def _read(
  process: subprocess.Popen, num_lines: int, limits: Limits
) -> tuple[bytes, str]:
  """What a process writes, up to so many lines, and why it ended there."""
  assert process.stdout is not None
  output, lines = bytearray(), 0
  deadline = time.monotonic() + _START_SECONDS
  with process.stdout as stdout, selectors.DefaultSelector() as selector:
    selector.register(stdout, selectors.EVENT_READ)
    while lines < num_lines:
      left = deadline - time.monotonic()
      if left <= 0 or not selector.select(left):
        return bytes(output), "timeout"
      chunk = os.read(stdout.fileno(), 1 << 16)
      if not chunk:
        return bytes(output), _cause_of_death(process)
      if not lines and b"\n" in chunk:  # it runs: its own time starts now
        deadline = time.monotonic() + limits.wall_seconds
      output += chunk
      lines += chunk.count(b"\n")
      if len(output) > limits.output_bytes:
        return bytes(output), "too much output"
  return bytes(output), "finished"


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
  info.seek(0)
  if process.poll() is None and (said := info.read()):
    with contextlib.suppress(ProcessLookupError):
      os.kill(json.loads(said)["child-pid"], signal.SIGKILL)
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


def _commands() -> tuple[list[str], list[str]]:
  """The commands that make a container, and that run the harness in it."""
  bwrap = _find("bwrap", "bubblewrap")
  python = _find("python3", "python3", _PYTHONS)
  runtime = json.loads(_ask(python, "-I", "-S", "-c", _QUERY))
  if tuple(runtime["version"]) < (3, 10):
    raise RuntimeError(
      f"{python} is {runtime['version']}; code is run with 3.10 or later."
    )
  command = [
    *_unprivileged(),
    *(bwrap, "--unshare-all", "--die-with-parent", "--new-session"),
    *(
      "--as-pid-1",
      "--uid",
      _NOBODY,
      "--gid",
      _NOBODY,
      "--dev-bind",
      *["/dev/null"] * 2,
    ),
  ]
  shared = _shared_libraries([runtime["python"], *runtime["modules"]])
  for path in (runtime["python"], *runtime["libraries"], *shared):
    command += ["--ro-bind", path, path]
  for library in runtime["libraries"]:  # packages may hold what is expected
    for name in ("site-packages", "dist-packages"):
      if os.path.isdir(hidden := os.path.join(library, name)):
        command += ["--tmpfs", hidden, "--remount-ro", hidden]
  command += ["--remount-ro", "/", "--chdir", "/"]
  return command, [runtime["python"], "-I", "-S", "-E", "-c", _HARNESS]


def _unprivileged() -> tuple[str, ...]:
  """The words before a command that make it nobody's, where root runs it."""
  if os.geteuid() != 0:
    return ()
  ids = ("--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups")
  return (_find("setpriv", "util-linux"), *ids)


def _shared_libraries(files: Sequence[str]) -> list[str]:
  """All the shared libraries that these programs and modules load."""
  listing = _ask(_find("ldd", "libc-bin"), *files)
  return sorted(set(re.findall(r"(/\S+) \(0x", listing)))


def _ask(*command: str) -> str:
  return subprocess.run(
    command, env={}, check=True, capture_output=True, text=True
  ).stdout


def _find(tool: str, package: str, path: str | None = None) -> str:
  found = shutil.which(tool, path=path)
  if found is None:
    raise RuntimeError(
      f"`{tool}` is missing{f' in {path}' if path else ''}, and without it no"
      f" code is run. Install it: `apt-get install {package}`."
    )
  return found
