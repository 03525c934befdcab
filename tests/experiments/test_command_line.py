"""experiments.command_line: what options may say, and what jax is set to."""

import argparse
import json
import pathlib
import signal
import subprocess
import sys

import jax
import pytest

from experiments import command_line
from pkpo_jax.training import lock

ROOT = pathlib.Path(__file__).parents[2]


def parse(*argv):
  parser = command_line.parser("Doc.")
  command_line.add_config(parser, str(ROOT / "configs/countdown.py"))
  command_line.add_base_dir(parser)
  return command_line.parse(parser, argv)


def test_home_is_expanded_in_options_and_in_configs(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  args = parse("--base_dir=~/base", "--config.task.name=~/task:My")
  assert args.base_dir == pathlib.Path("/home/me/base")
  assert args.config.task.name == "/home/me/task:My"
  assert parse("--base_dir=a/~b").base_dir == pathlib.Path("a/~b")


@pytest.mark.parametrize(
  ("text", "message"), [("", "it is empty"), ("~nobody-here/x", "home")]
)
def test_paths_that_name_nothing_are_refused(text, message):
  with pytest.raises(argparse.ArgumentTypeError, match=message):
    command_line.path(text)


@pytest.mark.parametrize(
  "scheme", ["s3://", "gs://", "hdfs://", "file:/", "gs:/"]
)
def test_addresses_are_refused(scheme, capsys):
  with pytest.raises(SystemExit):
    parse(f"--base_dir={scheme}bucket/run")
  assert (
    f"--base_dir: {scheme}bucket/run is an address" in capsys.readouterr().err
  )
  with pytest.raises(argparse.ArgumentTypeError):
    command_line.path(f"{scheme}bucket")


def test_a_value_given_twice_is_an_error(capsys):
  with pytest.raises(SystemExit):
    parse("--config.k_opt=8", "--config.n=16", "--config.k_opt=4")
  assert "--config.k_opt is given 2 times" in capsys.readouterr().err


def test_an_empty_tuple_is_one():
  assert tuple(parse("--config.k_boundaries=()").config.k_boundaries) == ()


PROGRAM = """
from experiments import command_line
command_line.parser("Doc.")
raise ERROR
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
def test_ctrl_c_is_one_line_and_an_error_is_not(error):
  result = subprocess.run(
    [sys.executable, "-c", PROGRAM.replace("ERROR", error)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  if error == "KeyboardInterrupt":
    assert result.returncode == -signal.SIGINT
    assert result.stderr == "SIGINT: ended; the same command starts again.\n"
  else:
    assert result.returncode == 1 and "Traceback" in result.stderr


SETTINGS = {
  "jax_default_prng_impl": "rbg",
  "jax_enable_x64": True,
  "jax_numpy_rank_promotion": "raise",
  "jax_default_matmul_precision": "highest",
  "jax_threefry_partitionable": False,
}


@pytest.mark.parametrize(("name", "value"), SETTINGS.items())
def test_a_command_sets_what_its_numbers_depend_on(name, value, capsys):
  """As the user's shell would, by JAX_ENABLE_X64=1, say."""
  default = getattr(jax.config, name)
  jax.config.update(name, value)
  try:
    parse()
    assert getattr(jax.config, name) == default
  finally:
    jax.config.update(name, default)
  assert f"{name.upper()} is not used" in capsys.readouterr().out


def test_a_model_and_a_task_take_more_than_a_config_lists():
  args = parse(
    "--config=configs/countdown.py",
    "--config.model.lora_rank=2",
    "--config.task.partial=0.5",
    "--config.tokenizer.path=weights/mine",
    "--config.n=4",
  )
  config = args.config
  assert (config.model.name, config.model.lora_rank) == ("gemma2_tiny", 2)
  assert (config.task.partial, config.tokenizer.path) == (0.5, "weights/mine")
  assert config.n == 4


def test_another_kind_begins_with_none_of_the_options_of_the_files():
  config = parse(
    "--config=configs/countdown.py",
    "--config.base.path=~/first",
    "--config.base.source=run",
    "--config.task.name=jsonl",
    "--config.task.num_test=3",
  ).config
  home = str(pathlib.Path.home() / "first")
  assert config.base.to_dict() == {"source": "run", "path": home}
  assert config.task.to_dict() == {"name": "jsonl", "num_test": 3}
  same = parse(
    "--config=configs/countdown.py",
    "--config.base.source=demonstrations",
    "--config.base.seed=3",
  ).config
  assert (same.base.seed, same.base.num_steps) == (3, 300)


@pytest.mark.parametrize(
  ("text", "value"),
  [("2026", "2026"), ("'a b'", "a b"), ("None", None), ("a/b", "a/b")],
)
def test_a_path_is_text(text, value):
  config = parse(
    "--config=configs/countdown.py",
    "--config.base.source=run",
    f"--config.base.path={text}",
  ).config
  assert config.base.path == value


def test_the_mistake_is_named_and_not_what_goes_with_another_kind(capsys):
  with pytest.raises(SystemExit):
    parse(
      "--config=configs/countdown.py",
      "--config.base.path=first",
      "--config.base.source=run",
      "--config.n=many",
    )
  assert capsys.readouterr().err.startswith("Error: config.n=many: ")


@pytest.mark.parametrize("part", ["loss.", "base.", ""])
def test_other_parts_do_not(part, capsys):
  with pytest.raises(SystemExit):
    parse("--config=configs/countdown.py", f"--config.{part}lora_rank=2")
  said = capsys.readouterr().err
  assert f"config.{part}lora_rank: there is no such value" in said


@pytest.mark.parametrize(
  ("error", "code"),
  [
    (ValueError("n=0"), 2),
    (lock.HeldError("n=0"), 2),
    (json.JSONDecodeError("n=0", "", 0), 2),
    (jax.errors.JaxRuntimeError("n=0"), None),
  ],
)
def test_errors_that_speak_to_the_user_end_in_two_lines(error, code, capsys):
  parser = command_line.parser("Doc.")
  ending = SystemExit if code else type(error)
  with pytest.raises(ending) as raised, command_line.mistakes(parser):
    raise error
  assert getattr(raised.value, "code", None) == code
  assert capsys.readouterr().err.startswith("Error: n=0") == bool(code)
