"""Tries once whether a sandbox really isolates, before anything is graded."""

import contextlib
import os
import socket
import tempfile
import uuid
from collections.abc import Callable

# Runs inside. Each attempt must fail; the names of those that do not come out.
_PROBE = """
import os, resource, socket, sys, threading

def leaks(path, server, memory):
  found = []
  def attempt(name, action):
    try:
      action()
    except (OSError, MemoryError):
      return
    found.append(name)
  def connect():
    with socket.socket(socket.AF_UNIX) as client:
      client.connect(server)
  def fork():
    if os.fork() == 0:
      os._exit(0)
  attempt("the network", connect)
  for family in (socket.AF_INET, socket.AF_INET6, 16, 17, 38, 40):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
      attempt("sockets", lambda: socket.socket(family, kind).close())
  attempt("files", lambda: open(path).close())
  attempt("writing", lambda: open("/probe", "w").close())
  attempt("becoming root", lambda: os.setuid(0))
  attempt("child processes", fork)
  if hasattr(os, "unshare"):  # from Python 3.12 on
    attempt("namespaces", lambda: os.unshare(os.CLONE_NEWUSER))
  attempt("memory", lambda: bytes(2 * memory))
  if os.getpid() != 1:
    found.append("processes")
  if set(os.environ) - {"LC_CTYPE", "PWD", "PYTHONHASHSEED"}:
    found.append("the environment")
  if sys.flags.hash_randomization:
    found.append("the order of sets")
  return sorted(set(found))
"""


def find_leaks(evaluate: Callable[[str, str], object], memory: int) -> object:
  """What a sandbox does not hold back.

  Args:
    evaluate: runs a source and gives the value of a call in the sandbox.
    memory: bytes that it may have.

  Returns:
    the names of the leaks, or why there are none to be had.
  """
  name = f"\0pkpo-{uuid.uuid4().hex}"
  with contextlib.ExitStack() as stack:
    file = stack.enter_context(tempfile.NamedTemporaryFile())
    os.chmod(file.name, 0o644)
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(name)  # in the network namespace, in no folder
    server.listen()
    return evaluate(_PROBE, f"leaks({file.name!r}, {name!r}, {memory})")
