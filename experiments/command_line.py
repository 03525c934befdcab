"""The command line of all commands: --help teaches, mistakes are short."""

import argparse
import ast
import contextlib
import difflib
import inspect
import logging
import pathlib
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from experiments import streams

if TYPE_CHECKING:
  import ml_collections

_SPEAKING = ("builtins", "json", "pkpo_jax")  # whose errors are for the user
_MISTAKES = (AttributeError, KeyError, TypeError, ValueError)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # s3://, gs://, file:/
# Settings of jax that a run's numbers depend on: as jax has them by default,
# whatever the user's shell says.
_JAX = {
  "jax_default_matmul_precision": None,
  "jax_default_prng_impl": "threefry2x32",
  "jax_enable_x64": False,
  "jax_numpy_dtype_promotion": "standard",
  "jax_numpy_rank_promotion": "allow",
  "jax_threefry_partitionable": True,
}
# Parts that take more than a config lists: whoever makes a model, a task or a
# tokenizer of them names what it does not know.
_OPEN = ("model", "task", "tokenizer")
# Values that say what the options beside them are: another begins with none.
_KINDS = ("task.name", "base.source")
_SETTING = re.compile(r"  config\.([\w.]+) = (.+?)(?:  # (.*))?")


class _Parser(argparse.ArgumentParser):
  """Lists the values of a config in --help, and is brief on mistakes."""

  def format_help(self) -> str:
    """The usual help, and below it what a config can say."""
    text = super().format_help()
    if "--config" not in self._option_string_actions:
      return text
    lines = [
      f"  {f'{name} = {value}':<36}  {comment}".rstrip()
      for name, value, comment in _settings()
    ]
    title = "values of a config (--config.NAME=VALUE):"
    return "\n".join([text, title, *lines, ""])

  def error(self, message: str) -> NoReturn:
    """Ends the program with code 2 and two lines."""
    self.exit(2, f"Error: {message}\nHelp:  {self.prog} --help\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
  """A parser whose --help is the docstring of the command.

  From here on Ctrl-C ends the command with one line.
  """
  sys.excepthook = _be_brief_on_ctrl_c
  module = sys.modules["__main__"].__spec__
  name = module.name.removesuffix(".__main__") if module else sys.argv[0]
  return _Parser(
    prog=f"python -m {name}" if module else name,
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def _be_brief_on_ctrl_c(kind: type[BaseException], *others: Any) -> None:
  """Shows a traceback unless it is of Ctrl-C; Python then dies of SIGINT."""
  if issubclass(kind, KeyboardInterrupt):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while Python ends
    print("SIGINT: ended; the same command starts again.", file=sys.stderr)
  else:
    sys.__excepthook__(kind, *others)


def add_config(parser: argparse.ArgumentParser, default: str) -> None:
  """Adds --config, a file with `get_config`; see `parse`."""
  parser.add_argument(
    "--config",
    default=default,
    metavar="FILE[:ARM]",
    help=f"what to train, changed by --config.NAME=VALUE (default: {default})",
  )


def add_changes(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
  """Adds --config.NAME=VALUE for a run's saved config; see `parse`."""
  parser.add_argument(
    "--config.NAME",
    dest="changes",
    metavar="VALUE",
    help="another value than in the run's config; may be set: "
    + ", ".join(names),
  )


def add_base_dir(parser: argparse.ArgumentParser) -> None:
  """Adds --base_dir, where base policies are kept."""
  parser.add_argument(
    "--base_dir",
    type=path,
    default=pathlib.Path("runs/base"),
    help="where base policies are kept for many runs (default: runs/base)",
  )


def add_distributed(parser: argparse.ArgumentParser) -> None:
  """Adds --distributed, for runs of several processes."""
  parser.add_argument(
    "--distributed",
    action="store_true",
    help="this is one of several processes, see docs/pods.md",
  )


def path(text: str) -> pathlib.Path:
  """The path that an option names; ~ is the home folder.

  Raises:
    argparse.ArgumentTypeError: it is empty, as of a variable that is not set,
      the address of a bucket, say, or in the home of nobody.
  """
  if not text:
    raise argparse.ArgumentTypeError("it is empty; name a path")
  if _ADDRESS.match(text):
    raise argparse.ArgumentTypeError(
      f"{text} is an address, not a path; mount it and name the folder, see"
      " docs/pods.md"
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
  """Parses the command line; `config` becomes the ConfigDict that it names.

  `changes` become a dict: "task.name" -> value, with dots.

  A mistake ends the program with code 2 and a line that names the option.
  """
  streams.make_tolerant()
  for name in (None, "absl", "jax"):  # orbax logs through absl
    logging.getLogger(name).setLevel(logging.WARNING)
  args, others = parser.parse_known_args(argv)
  unknown = [x for x in others if not x.startswith("--config.")]
  if unknown or (others and not {"config", "changes"} & set(vars(args))):
    parser.error(f"unknown arguments: {' '.join(unknown or others)}")
  _check_given_once(parser, others)
  if "config" in args:
    args.config = _load_config(parser, args.config, others)
  elif "changes" in args:
    args.changes = dict(_read_change(text) for text in others)
  _set_jax()
  return args


def _set_jax() -> None:
  """Sets what the numbers of a run depend on; the library leaves it alone."""
  import jax

  for name, value in _JAX.items():
    if getattr(jax.config, name) != value:
      print(f"{name.upper()} is not used: {name}={value} in a run.")
    jax.config.update(name, value)


def _read_change(text: str) -> tuple[str, Any]:
  """`--config.NAME=VALUE` -> its name and value, a literal or text."""
  name, _, value = text.removeprefix("--config.").partition("=")
  read: Any = value
  with contextlib.suppress(ValueError, SyntaxError):
    read = ast.literal_eval(value)
  if name.endswith("path") and not isinstance(read, str | None):
    read = value  # of a folder 2026, say
  if isinstance(read, str) and read.startswith("~"):
    read = str(pathlib.Path(read).expanduser())
  return name, read


def _check_given_once(
  parser: argparse.ArgumentParser, overrides: Sequence[str]
) -> None:
  """Ends the program where a value is given twice: absl joins tuples."""
  names = [x.partition("=")[0] for x in overrides]
  for name in names:
    if names.count(name) > 1:
      parser.error(f"{name} is given {names.count(name)} times.")


def _load_config(
  parser: argparse.ArgumentParser, path: str, overrides: Sequence[str]
) -> "ml_collections.ConfigDict":
  """The config of a file with some values changed."""
  if not pathlib.Path(path.partition(":")[0]).is_file():
    parser.error(f"--config={path}: there is no such file.")
  try:
    return _read_config(path, overrides)
  except _MISTAKES as error:
    kinds = [x for x in overrides if _read_change(x)[0] in _KINDS]
    for override in overrides:
      try:
        _read_config(path, list(dict.fromkeys([*kinds, override])))
      except _MISTAKES as its_error:
        parser.error(_about(override, its_error))
    parser.error(f"--config={path}: {_last(error)}")


def _read_config(
  path: str, overrides: Sequence[str]
) -> "ml_collections.ConfigDict":
  """The config of a file, with options of its model and task added.

  Another task, or source of the base policy, begins with none of the options in
  the file, which are of the one that the file names.
  """
  import ml_collections

  changes = dict(map(_read_change, overrides))
  parts = {name.partition(".")[0] for name in changes}
  if not parts & {*_OPEN, "base"}:
    return _read_listed(path, overrides)
  config = _read_listed(path, [])
  anew = _begun_anew(config, changes)
  added = {
    name: value
    for name, value in changes.items()
    if _is_new(config, name, anew)
  }
  listed = [x for x in overrides if _read_change(x)[0] not in added]
  config = _read_listed(path, listed)
  with config.unlocked():
    for part in anew:
      config[part] = ml_collections.ConfigDict()
    config.update_from_flattened_dict(added)
  return config


def _begun_anew(
  config: "ml_collections.ConfigDict", changes: Mapping[str, Any]
) -> list[str]:
  """The parts of a config of which changes make another kind."""
  kinds = [name.split(".") for name in _KINDS if name in changes]
  return [
    part
    for part, kind in kinds
    if config.get(part, {}).get(kind) != changes[f"{part}.{kind}"]
  ]


def _is_new(
  config: "ml_collections.ConfigDict", name: str, anew: Sequence[str]
) -> bool:
  """Whether a value is of a part that begins anew, or an open one lacks it."""
  part, _, key = name.partition(".")
  return part in anew or (part in _OPEN and key not in config.get(part, ()))


def _read_listed(
  path: str, overrides: Sequence[str]
) -> "ml_collections.ConfigDict":
  from absl import flags
  from ml_collections import config_flags

  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file("config", flag_values=values)
  command = ["train", f"--config={path}", *overrides]
  # The flag of a config looks for its overrides in sys.argv.
  before, sys.argv = sys.argv, command
  try:
    values(command)
    return _expand_home(holder.value)
  except flags.Error as error:
    raise ValueError(error) from error
  finally:
    sys.argv = before


def _expand_home(
  config: "ml_collections.ConfigDict",
) -> "ml_collections.ConfigDict":
  """Replaces the ~ of paths in a config."""
  import ml_collections

  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      _expand_home(value)
    elif isinstance(value, str) and value.startswith("~"):
      config[name] = str(pathlib.Path(value).expanduser())
  return config


@contextlib.contextmanager
def mistakes(parser: argparse.ArgumentParser) -> Iterator[None]:
  """A context in which what the user got wrong ends in two lines.

  It is for what comes before the work: options, files, folders. Later errors
  keep their traceback.
  """
  try:
    yield
  except (ValueError, OSError, ImportError, RuntimeError) as error:
    if type(error).__module__.partition(".")[0] not in _SPEAKING:
      raise
    parser.error(str(error))


def _about(override: str, error: Exception) -> str:
  """What is wrong with `--config.NAME=VALUE`."""
  name = override.lstrip("-").partition("=")[0]
  if not isinstance(error, AttributeError | KeyError):
    return f"{override.lstrip('-')}: {_last(error)}"
  known = [f"config.{known}" for known, *_ in _settings()]
  close = difflib.get_close_matches(name, known, n=1)
  meant = f" did you mean {close[0]}?" if close else ""
  return f"{name}: there is no such value;{meant or ' --help lists all.'}"


def _last(error: Exception) -> str:
  """The message without the traceback that absl puts into it."""
  message = re.split(r"\w+Error: ", str(error).strip())[-1]
  return " ".join(message.split())


def _settings() -> list[tuple[str, str, str]]:
  """(name, value, comment) of each setting in configs/default.py."""
  from configs import default

  source = inspect.getsource(default)
  found = filter(None, map(_SETTING.fullmatch, source.splitlines()))
  settings = [(x[1], x[2], x[3] or "") for x in found]
  return [x for x in settings if "ConfigDict" not in x[1]]
