"""Each leak, made on purpose, keeps the sandbox from starting."""

import pathlib
import struct
import sys

import pytest

from pkpo_jax.tasks.grading.sandbox import (
  container,
  sandbox,
  self_test,
  syscalls,
)

ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
pytestmark = pytest.mark.bwrap


def weaken(monkeypatch, without=(), instead=()):
  """Takes words out of the command, and puts others in their place."""
  bwrap, python = container.commands()
  joined = "\0".join(bwrap)
  assert "\0".join(without) in joined
  weak = joined.replace("\0".join(without), "\0".join(instead), 1)
  monkeypatch.setattr(
    container, "commands", lambda: ([*filter(None, weak.split("\0"))], python)
  )


def assert_leaks(name):
  with pytest.raises(RuntimeError, match=rf"leaks.*'{name}'"):
    sandbox.Sandbox()


@pytest.mark.parametrize(
  ("without", "instead", "leak"),
  [
    (["--unshare-all"], ["--unshare-user", "--unshare-pid"], "the network"),
    (["--as-pid-1"], [], "processes"),
    (["--remount-ro", "/"], [], "writing"),
    (["--setenv", "PYTHONHASHSEED", "0"], [], "the order of sets"),
    (["--chdir", "/"], ["--setenv", "SECRET", "1"], "the environment"),
    (
      ["--remount-ro", "/"],
      ["--ro-bind", "/tmp", "/tmp", "--remount-ro", "/"],
      "files",
    ),
  ],
)
def test_a_leak_is_noticed(monkeypatch, without, instead, leak):
  monkeypatch.setattr(self_test.tempfile, "tempdir", "/tmp")
  weaken(monkeypatch, without, instead)
  assert_leaks(leak)


@pytest.mark.parametrize("leak", ["sockets", "child processes"])
def test_a_missing_filter_is_noticed(monkeypatch, leak):
  monkeypatch.setattr(syscalls, "seccomp_filter", lambda: ALLOW_ALL)
  assert_leaks(leak)


def test_a_missing_limit_of_memory_is_noticed(monkeypatch):
  resources = sandbox.Limits.resources

  def unlimited(limits):
    return resources(limits) | {"RLIMIT_AS": (-1, -1)}

  monkeypatch.setattr(sandbox.Limits, "resources", unlimited)
  assert_leaks("memory")


@pytest.mark.skipif(
  sys.version_info < (3, 12), reason="Python has os.unshare from 3.12 on"
)
def test_nobody_becomes_root_of_a_namespace(monkeypatch):
  """With this Python: the one in /usr may be too old to try it."""
  folder = pathlib.Path(sys.base_prefix, "bin")
  monkeypatch.setattr(container, "_PYTHONS", str(folder))
  monkeypatch.setattr(
    container, "_unprivileged", tuple
  )  # may be in root's home
  try:
    box = sandbox.Sandbox()
  except RuntimeError as error:
    pytest.skip(f"This Python does not run in a container: {error}")
  source = "import os\ndef unshare():\n  os.unshare(os.CLONE_NEWUSER)"
  assert box.run((source,), ("unshare()", "os.getuid()")) == (
    sandbox.Failure("raised"),
    sandbox.Value(65534),
  )
  monkeypatch.setattr(syscalls, "seccomp_filter", lambda: ALLOW_ALL)
  assert_leaks("namespaces")


def test_a_sandbox_that_does_not_start_is_refused_with_its_words(monkeypatch):
  weaken(
    monkeypatch, ["--chdir"], ["--ro-bind", "/nowhere", "/nowhere", "--chdir"]
  )
  with pytest.raises(RuntimeError, match=r"cannot isolate.*/nowhere"):
    sandbox.Sandbox()
