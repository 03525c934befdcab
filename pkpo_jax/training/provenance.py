"""What a run is made of beside its config: code, devices, data, weights."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from pkpo_jax import multihost
from pkpo_jax.lm import tokenizer_config, tokenizers
from pkpo_jax.tasks import base
from pkpo_jax.training import build_run
from pkpo_jax.training import workdir as workdir_lib

_PACKAGES = ("jax", "jaxlib", "flax", "gemma", "optax", "orbax-checkpoint")
# What tokenizers are read from, in a folder that may hold weights too.
_TOKENIZER_FILES = (".json", ".jinja", ".model", ".spm")
_WORDS = "the words of the task"
_STOPS = "the tokens that end a completion (config.base.path names some)"


def record_start(
  workdir: pathlib.Path, step: int, dropped: dict[str, int]
) -> None:
  """Adds a line to `starts.jsonl`: who goes on from a step, and with what.

  Says so if the code or a version has changed since the last start: from there
  on, results may differ in rounding.
  """
  if not multihost.is_first():
    return
  start = {"step": step, **code(), **surroundings(), "dropped": dropped}
  before = _starts(workdir)
  if before and step:
    last = before[-1]
    changed = [
      f"{name}: {last.get(name)} -> {start[name]}"
      for name in code()
      if last.get(name) != start[name]
    ]
    if changed:
      print(
        "Continues with other code than before, so bits may differ from here"
        f" on: {'; '.join(changed)}"
      )
  path = workdir / "starts.jsonl"
  text = path.read_text() if path.exists() else ""
  cut = bool(text) and not text.endswith("\n")
  with path.open("a") as file:
    file.write("\n" * cut + json.dumps(start) + "\n")


def commits(workdir: pathlib.Path) -> str:
  """Commits of the code that a run's steps were made with, in order.

  Seven digits each, with "+" if a tracked file differed; a start that was
  followed by another one from no later step has left nothing.
  """
  kept: list[dict[str, Any]] = []
  for start in _starts(workdir):
    kept = [x for x in kept if x["step"] < start["step"]] + [start]
  names = [x["commit"] or "unknown" for x in kept]
  return ", ".join(dict.fromkeys(x[:7] + "+" * x.endswith("+") for x in names))


def _starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of `starts.jsonl`, but for one that a full disk cut off."""
  path = workdir / "starts.jsonl"
  if not path.exists():
    return []
  starts = []
  for line in path.read_text().splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      starts.append(json.loads(line))
  return starts


def check_contents(
  workdir: pathlib.Path, found: dict[str, str], *, begun: bool
) -> None:
  """Checks that what a config names by path is what it was at the start.

  All processes call this, and the first one writes `contents.json`.

  Args:
    workdir: the run's.
    found: name -> fingerprint.
    begun: whether the run has a checkpoint; before that, all may change.

  Raises:
    ValueError: something has changed, or is not the same in all processes; in
      all of them.
  """
  if begun:
    require_contents(workdir, found)
  _check_same_everywhere(found)
  path = workdir / "contents.json"
  saved = saved_contents(workdir)
  if multihost.is_first() and saved | found != saved:
    new = path.with_suffix(".tmp")
    new.write_text(json.dumps(saved | found, indent=2, sort_keys=True) + "\n")
    new.replace(path)


def require_contents(workdir: pathlib.Path, found: dict[str, str]) -> None:
  """Checks contents against those of a run, without writing any.

  Raises:
    ValueError: something has changed; in all processes.
  """
  saved = saved_contents(workdir)
  changed = [name for name, x in found.items() if saved.get(name, x) != x]
  if multihost.max_over_hosts(bool(changed)):
    raise ValueError(
      f"{', '.join(changed) or 'Something'} changed since {workdir} was begun,"
      " under the same config: bring back what was there, or take a new"
      f" --workdir. (Fingerprints are in {workdir / 'contents.json'}.)"
    )


def _check_same_everywhere(found: dict[str, str]) -> None:
  """Raises in all processes if one has found something else than the first."""
  first = json.loads(multihost.broadcast_text(json.dumps(found)))
  other = [name for name in found if found[name] != first.get(name)]
  if multihost.max_over_hosts(bool(other)):
    raise ValueError(
      f"{', '.join(other) or 'Something'}: not the same in all processes of"
      " this run. Files must be the same everywhere, and tasks must not depend"
      " on the order of a set."
    )


def saved_contents(workdir: pathlib.Path) -> dict[str, str]:
  """What a run was begun with, from its `contents.json`; {} without one.

  Raises:
    ValueError: the file is damaged.
  """
  return workdir_lib.read_json(workdir / "contents.json")


def contents(
  config: ml_collections.ConfigDict, data: build_run.Data
) -> dict[str, str]:
  """Fingerprints of the problems of each split, and of the vocabulary."""
  found = {
    f"{split} problems": of_problems(problems)
    for split, problems in data.problems.items()
  }
  found |= of_words(data.task) | of_stops(data)
  if config.tokenizer.get("path"):
    path = pathlib.Path(config.tokenizer.path).expanduser()
    found["the tokenizer"] = _fingerprint(*_files(path))
    if path.is_file():
      names = sorted(tokenizer_config.FILES)
      beside = [path.parent / name for name in names]
      found["what stands beside the tokenizer"] = _fingerprint(
        *_read([file for file in beside if file.exists()])
      )
  return found


def of_words(task: base.Task) -> dict[str, str]:
  """A fingerprint of a task's words in their order, which gives them ids."""
  if not isinstance(task, base.WordTask):
    return {}
  return {_WORDS: _fingerprint(*task.words)}


def of_stops(data: build_run.Data) -> dict[str, str]:
  """The tokens that end a completion, {} where they are those of words.

  They are those of the model's folder too, which a later policy may not have.
  """
  if not isinstance(data.tokenizer, tokenizers.GemmaTokenizer):
    return {}
  return {_STOPS: str(data.tokenizer.stop_tokens)}


def require_words(
  workdir: pathlib.Path, run: ml_collections.ConfigDict, task: base.Task
) -> None:
  """Checks that the policy of a run knows the words of a task, if it has some.

  Args:
    workdir: the run's.
    run: the run's config.
    task: whose words are to be read and written by that policy.

  Raises:
    ValueError: it knows others, or these in another order.
  """
  theirs = None
  if run.tokenizer.name == "words":
    noted = saved_contents(workdir)  # without them in a run of old
    theirs = noted.get(_WORDS) or of_words(build_run.make_task(run))[_WORDS]
  if of_words(task).get(_WORDS) != theirs:
    raise ValueError(
      f"config.task: its words are not those of {dict(run.task)}, the only ones"
      f" that the policy of {workdir} knows, or are in another order. (A tuple"
      " has an order; that of a set is another at each start.)"
    )


def of_problems(
  problems: Sequence[base.Problem], *, prompts: bool = True
) -> str:
  """A fingerprint of what problems ask, and of what their grades need.

  Without their prompts it is the same for every way of asking.
  """
  return _fingerprint(
    *(
      json.dumps(_plain([p.id, *([p.prompt] if prompts else []), p.data]))
      for p in problems
    )
  )


def _files(path: pathlib.Path) -> list[bytes | str]:
  """A vocabulary, or what of its folder tokenizers are read from."""
  if path.is_file():
    return [path.read_bytes()]
  named = (path / name for name in tokenizer_config.FILES)
  files = sorted({*path.glob("*"), *filter(pathlib.Path.exists, named)})
  return _read([file for file in files if file.suffix in _TOKENIZER_FILES])


def _read(files: Sequence[pathlib.Path]) -> list[bytes | str]:
  """Names and bytes."""
  return [part for file in files for part in (file.name, file.read_bytes())]


def _plain(x: Any) -> Any:
  """The data of a problem as JSON has it, the same in every process."""
  if x is None or isinstance(x, bool | int | float | str):
    return x
  if isinstance(x, list | tuple):
    return [_plain(y) for y in x]
  if isinstance(x, set | frozenset):
    return sorted(json.dumps(_plain(y)) for y in x)
  if isinstance(x, dict):
    return sorted(json.dumps([_plain(k), _plain(y)]) for k, y in x.items())
  if dataclasses.is_dataclass(x) and not isinstance(x, type):
    return [_plain(getattr(x, f.name)) for f in dataclasses.fields(x)]
  if hasattr(x, "tolist"):
    return x.tolist()
  return re.sub(r" at 0x[0-9a-f]+", "", repr(x))


def _fingerprint(*parts: bytes | str) -> str:
  digest = hashlib.sha256()
  for part in parts:
    data = part.encode() if isinstance(part, str) else part
    digest.update(len(data).to_bytes(8, "big") + data)
  return digest.hexdigest()[:16]


def surroundings() -> dict[str, Any]:
  """When, where and by which command something is done."""
  return {
    "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    "devices": dict(Counter(d.device_kind for d in jax.devices())),
    "processes": jax.process_count(),
    "host": socket.gethostname(),
    "command": sys.argv,
  }


@functools.cache
def code() -> dict[str, Any]:
  """The commit of this code, if it is in a repository, and versions."""
  return {
    "commit": _commit(),
    "python": platform.python_version(),
    "versions": {name: _version(name) for name in _PACKAGES},
  }


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _commit() -> str | None:
  """The commit, with "+" if a tracked file differs from it."""
  folder = pathlib.Path(__file__).parents[2]
  if not (folder / ".git").exists():
    return None
  command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*"]
  try:
    result = subprocess.run(
      [*command, "--dirty=+"],
      cwd=folder,
      capture_output=True,
      text=True,
      timeout=20,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return result.stdout.strip()
