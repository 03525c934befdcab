"""The commands as a user runs them; test_kills and test_faults end them."""

import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from pkpo_jax.training import metrics_writer

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=tests/helpers/tiny_config.py"
BASE = "--config.base.num_steps=150"  # so that some answers are right
STEPS = 6


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory):
  """One base policy for all tests here, made by its own command."""
  folder = tmp_path_factory.mktemp("base")
  _run("experiments.pretrain", CONFIG, BASE, f"--base_dir={folder}")
  return folder


@pytest.fixture(scope="module")
def uninterrupted(base_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp("uninterrupted")
  _run("experiments.train", *_options(folder, base_dir))
  return folder


def _options(workdir, base_dir):
  return CONFIG, BASE, f"--workdir={workdir}", f"--base_dir={base_dir}"


def _command(module, *options):
  return [sys.executable, "-m", module, *options]


def _run(module, *options, code=0):
  result = subprocess.run(
    _command(module, *options),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  output = result.stdout + result.stderr
  assert result.returncode == code, output[-3000:]
  return output


def _train_records(workdir):
  records = metrics_writer.read(workdir / "metrics.jsonl")
  return [r for r in records if r["stage"] == "train"]


@pytest.mark.slow
def test_training_leaves_numbers_and_a_picture(uninterrupted):
  records = _train_records(uninterrupted)
  assert [r["step"] for r in records] == list(range(STEPS))
  for name in ("pass@1", "pass@4", "entropy", "solve_rate", "grad_norm"):
    assert all(np.isfinite(r[name]) for r in records), name
  assert any(r["pass@1"] > 0 for r in records), "nothing to learn from"
  for name in ("curves.png", "curves.csv", "config.json"):
    assert (uninterrupted / name).stat().st_size > 100
  assert list(uninterrupted.glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_a_run_that_is_done_without_its_numbers_says_so(
  uninterrupted, base_dir, tmp_path
):
  folder = tmp_path / "run"
  shutil.copytree(uninterrupted, folder)
  (folder / "metrics.jsonl").unlink()
  (folder / "lock").unlink()
  output = _run("experiments.train", *_options(folder, base_dir))
  assert "Done, without a picture: " in output and "holds no step" in output


@pytest.mark.slow
def test_another_config_is_refused(uninterrupted, base_dir):
  options = _options(uninterrupted, base_dir)
  output = _run(
    "experiments.train", *options, "--config.learning_rate=0.5", code=2
  )
  assert "config.learning_rate: 0.0004 -> 0.5" in output


@pytest.mark.slow
def test_evaluate_compares_with_the_base_policy(uninterrupted, base_dir):
  output = _run(
    "experiments.evaluate",
    f"--workdir={uninterrupted}",
    f"--base_dir={base_dir}",
    "--n=4",
  )
  assert "gain" in output
  files = {path.name for path in (uninterrupted / "evaluations").iterdir()}
  assert files == {"step0_test_n4_t1.json", f"step{STEPS}_test_n4_t1.json"}


def test_evaluate_needs_a_run(tmp_path, run_here):
  code, output = run_here("evaluate", f"--workdir={tmp_path}")
  assert code == 2
  assert "config.json is missing" in output


@pytest.mark.slow
def test_a_wrong_option_ends_the_process(tmp_path):
  """At once: before gemma is imported."""
  start = time.monotonic()
  options = (CONFIG, f"--workdir={tmp_path}", "--config.k_optt=8")
  assert "k_optt" in _run("experiments.train", *options, code=2)
  assert time.monotonic() - start < 60
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("source", "message"),
  [
    ("huggingface", "there is nothing by that name; see docs/pretrained"),
    ("run", "there is nothing by that name"),
    ("missing", "config.base.path: missing"),
    ("no_run", "is missing: config.base.path must be a training run's"),
  ],
)
def test_a_base_policy_that_is_not_there_is_an_error_before_anything(
  source, message, tmp_path, run_here, monkeypatch
):
  monkeypatch.chdir(ROOT)
  path = f"--config.base.path={tmp_path / 'no' if source != 'no_run' else ROOT}"
  kind = "run" if source in ("missing", "no_run") else source
  options = [f"--config.base.source={kind}", path][: 1 + (source != "missing")]
  workdir = f"--workdir={tmp_path / 'run'}"
  for trial in ([], ["--dry_run"]):
    code, output = run_here("train", CONFIG, workdir, *options, *trial)
    assert code == 2 and message in output and "Traceback" not in output
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("option", "message"),
  [
    ("--config.k_optt=8", "k_optt"),
    ("--kopt=8", "kopt"),
    ("--config.k_opt=5", "valid k: 1..4"),
    ("--config.transform=grpo", "no effect"),
    ("--config.transform=pkpo", "known: dr_grpo"),
    ("--config.mesh.fsdp=7", "fsdp=7, tensor=1 does not cover"),
  ],
)
def test_wrong_options_are_errors(
  option, message, tmp_path, run_here, monkeypatch
):
  monkeypatch.chdir(ROOT)
  code, output = run_here("train", CONFIG, f"--workdir={tmp_path}", option)
  assert code == 2
  assert message in output and "Traceback" not in output
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "module", ["train", "pretrain", "evaluate", "export", "curves"]
)
def test_help_teaches(module, run_here, monkeypatch):
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv("COLUMNS", "80")
  _, output = run_here(module, "--help")
  assert "Example:" in output
  assert "--workdir" in output or "--base_dir" in output


def test_help_lists_the_values_of_a_config(run_here, monkeypatch):
  monkeypatch.chdir(ROOT)
  code, output = run_here("train", "--help")
  assert code == 0
  for name in ("k_opt", "loss.kl_coef", "task.name", "checkpoint.keep"):
    assert f"\n  {name} = " in output
