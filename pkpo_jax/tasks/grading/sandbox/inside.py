"""Runs inside the sandbox, as the text of `python -c`; nothing imports it.

Reads (limits, sources, calls) from stdin, writes "ready", runs the sources in
one namespace, then evaluates the calls one by one in it. Each call gives one
line of JSON: ["value", x], or the kind of failure alone. A source is a program
that must run, or (text, name) out of an answer, see `attempt`.

From the first source on this process belongs to the sample, which may print
here whatever it likes. That gives it nothing, for it doesn't know the values
that are expected: nothing in this file guards anything but honest code.
"""

import os
import resource
import sys
from _json import encode_basestring_ascii as quote  # json takes 3 ms to import

TYPE_CHECKING = False  # typing would take longer
if TYPE_CHECKING:
  from collections.abc import Iterable, Iterator
  from typing import Any

LONGEST = 1 << 14  # characters of one value
CONTAINERS = (
  (list, "[", "]"),
  (tuple, '{"tuple":[', "]}"),
  (set, '{"set":[', "]}"),
  (frozenset, '{"set":[', "]}"),
)


class NoLiteralError(Exception):
  """The value, or a part of it, has no literal."""


def pieces(value: "Any") -> "Iterator[str]":
  """The JSON of a value, piece by piece.

  A subclass of a builtin type counts as that type, read by that type's own
  methods, as `==` sees a Counter or a named tuple.
  """
  kind = type(value)
  if value is None:
    yield "null"
  elif kind is bool:
    yield "true" if value else "false"
  elif issubclass(kind, int):
    yield int.__repr__(value)
  elif issubclass(kind, float):
    text = float.__repr__(value)
    yield text.replace("inf", "Infinity").replace("nan", "NaN")
  elif issubclass(kind, complex):
    yield f'{{"complex":[{value.real!r},{value.imag!r}]}}'
  elif issubclass(kind, str):
    yield quote(str.__getitem__(value, slice(LONGEST + 1)))
  elif issubclass(kind, dict):
    yield from joined('{"dict":[', map(list, dict.items(value)), "]}")
  else:
    yield from container_pieces(value, kind)


def container_pieces(value: "Any", kind: type) -> "Iterator[str]":
  """The same for a list, a tuple or a set."""
  for base, opening, closing in CONTAINERS:
    if issubclass(kind, base):
      yield from joined(opening, base.__iter__(value), closing)
      return
  raise NoLiteralError


def joined(
  opening: str, values: "Iterable[Any]", closing: str
) -> "Iterator[str]":
  """The same for several values."""
  yield opening
  for i, value in enumerate(values):
    if i:
      yield ","
    yield from pieces(value)
  yield closing


def encode(value: "Any") -> str:
  """The JSON of a value, which may be endless or too long."""
  parts, length = [], 0
  for piece in pieces(value):
    parts.append(piece)
    length += len(piece)
    if length > LONGEST:
      return '"too large"'
  return f'["value",{"".join(parts)}]'


def evaluate(call: str, namespace: dict[str, object]) -> str:
  """One line for one call."""
  try:
    return encode(eval(call, namespace))
  except NoLiteralError:
    return '"no literal"'
  except BaseException:
    return '"raised"'


def load(
  sources: "list[str | tuple[str, str]]", namespace: dict[str, object]
) -> str | None:
  """Runs the sources; returns the kind of failure, or None."""
  try:
    for source in sources:
      if isinstance(source, str):
        exec(compile(source, "sample", "exec"), namespace)
      else:
        attempt(*source, namespace)
  except SyntaxError:
    return '"syntax error"'
  except BaseException:
    return '"raised"'
  return None


def attempt(text: str, name: str, namespace: dict[str, object]) -> None:
  """Runs the text up to the first top-level statement that is no Python.

  What it raises is forgiven if it has defined the name before, or if there is
  no name.
  """
  namespace.pop(name, None)
  error: BaseException | None = None
  while text:
    try:
      code = compile(text, "sample", "exec")
    except SyntaxError as broken:
      error = error or broken
      text = before(text, broken.lineno or 1)
      continue
    try:
      exec(code, namespace)
    except BaseException as raised:
      error = raised
    break
  if name and name not in namespace:
    raise error or NameError(name)


def before(text: str, number: int) -> str:
  """The lines before the top-level statement that holds the numbered line."""
  lines = text.split("\n")[:number]
  while lines and not lines[-1][:1].strip():
    lines.pop()
  return "\n".join(lines[:-1])


def main() -> None:
  """All of it."""
  limits, sources, calls = eval(sys.stdin.read())
  sys.path[:] = filter(None, sys.path)  # not the folder it starts in
  out = os.dup(1)
  null = os.open("/dev/null", os.O_RDWR)
  for fd in (0, 1, 2):
    os.dup2(null, fd)
  module = type(sys)("sample")
  sys.modules["sample"] = module  # dataclasses look their module up
  write, leave = os.write, os._exit
  for name, limit in limits.items():
    resource.setrlimit(getattr(resource, name), limit)
  write(out, b"ready\n")
  failure = load(sources, module.__dict__)
  for call in calls:
    line = failure or evaluate(call, module.__dict__)
    write(out, line.encode() + b"\n")
  leave(0)  # no atexit hook, no waiting for threads


if __name__ == "__main__":
  main()
