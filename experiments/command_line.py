"""The command line of all commands: --help teaches, mistakes are short."""

import argparse
import contextlib
import logging
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence

_SETTING = re.compile(r"  config\.([\w.]+) = (.+?)(?:  # (.*))?")


class _Parser(argparse.ArgumentParser):
  """Adds the values of a config to --help, if there is an option --config."""

  def format_help(self) -> str:
    """The usual help, and below it what a config can say."""
    text = super().format_help()
    if "--config" not in self._option_string_actions:
      return text
    return f"{text}\nvalues of a config (--config.NAME=VALUE):\n{_settings()}\n"


def parser(doc: str | None) -> argparse.ArgumentParser:
  """A parser whose --help is the docstring of the command."""
  return _Parser(
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def add_config(parser: argparse.ArgumentParser, default: str) -> None:
  """Adds --config, a file with `get_config`; see `parse`."""
  parser.add_argument(
    "--config",
    default=default,
    metavar="FILE[:ARM]",
    help=f"what to train, changed by --config.NAME=VALUE (default: {default})",
  )


def add_base_dir(parser: argparse.ArgumentParser) -> None:
  """Adds --base_dir, where base policies are kept."""
  parser.add_argument(
    "--base_dir",
    type=pathlib.Path,
    default=pathlib.Path("runs/base"),
    help="where base policies are kept for many runs (default: runs/base)",
  )


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
  """Parses the command line; `config` becomes the ConfigDict that it names.

  A mistake ends the program with code 2 and a line that names the option.
  """
  for name in (None, "absl", "jax"):  # orbax logs through absl
    logging.getLogger(name).setLevel(logging.WARNING)
  args, others = parser.parse_known_args(argv)
  unknown = [x for x in others if not x.startswith("--config.")]
  if unknown or (others and "config" not in args):
    parser.error(f"unknown arguments: {' '.join(unknown or others)}")
  if "config" in args:
    args.config = _load_config(parser, args.config, others)
  return args


def _load_config(parser, path: str, overrides: Sequence[str]):
  """The config of a file with some values changed."""
  from absl import flags
  from ml_collections import config_flags

  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file("config", flag_values=values)
  command = [parser.prog, f"--config={path}", *overrides]
  # The flag of a config looks for its overrides in sys.argv.
  before, sys.argv = sys.argv, command
  try:
    values(command)
    return holder.value
  except (flags.Error, AttributeError, TypeError, ValueError, OSError) as error:
    parser.error(f"--config: {_one_line(error)}")
  finally:
    sys.argv = before


@contextlib.contextmanager
def mistakes(parser: argparse.ArgumentParser) -> Iterator[None]:
  """A context in which what the user got wrong ends in two lines.

  It is for what comes before the work: options, files, folders. Later errors
  keep their traceback.
  """
  try:
    yield
  except (ValueError, OSError, ImportError, RuntimeError) as error:
    if type(error).__module__ not in ("builtins", "json.decoder"):
      raise
    parser.exit(2, f"{parser.format_usage()}{parser.prog}: error: {error}\n")


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())


def _settings() -> str:
  """The settings of configs/default.py, a line each, with their comments."""
  import inspect

  from configs import default

  lines = []
  for line in inspect.getsource(default.get_config).splitlines():
    found = _SETTING.fullmatch(line)
    if found and "ConfigDict" not in found[2]:
      name, value, comment = found.groups()
      lines.append(f"  {name} = {value}".ljust(38) + f"  {comment or ''}")
  return "\n".join(line.rstrip() for line in lines)
