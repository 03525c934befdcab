"""More processes than prompts, evaluations on any mesh, copies of a folder."""

import json
import shutil

import pytest
from helpers import process_group, process_pair, runs, saved_run

from pkpo_jax.training import evaluation_record

VERIFY = pytest.mark.verify(
  "pkpo_jax/multihost.py", "pkpo_jax/lm", "pkpo_jax/rl", "pkpo_jax/training"
)
QUICK = ("--config=tests/helpers/quick_config.py", "--config.num_steps=2")


def assert_ended_well(codes, outputs):
  assert set(codes) == {0}, [output[-2000:] for output in outputs]


@VERIFY
@pytest.mark.parametrize(("count", "prompts", "n"), [(2, 1, 4), (3, 2, 3)])
def test_more_processes_than_prompts_do_what_one_does(
  count, prompts, n, tmp_path
):
  """Each grades a part of the answers, in steps and in evaluations."""
  options = [
    *QUICK,
    f"--config.prompts_per_step={prompts}",
    f"--config.n={n}",
    f"--config.microbatch.rows={prompts * n}",
    "--config.eval.every=1",
    "--config.loss.entropy_coef=0.1",  # nothing is right: this has a gradient
    f"--config.mesh.data={count}",
    "--config.mesh.fsdp=1",
    f"--base_dir={tmp_path}",
  ]
  many, one = (f"--workdir={tmp_path / name}" for name in ("many", "one"))
  command = ["-m", "experiments.train"]
  assert_ended_well(
    *process_group.run(count, *command, "--distributed", *options, many)
  )
  process_pair.run_single(*command, *options, one, devices=count)
  ours, expected = (runs.records(tmp_path / x) for x in ("many", "one"))
  assert len(ours) == len(expected) == 2 + 3
  for mine, theirs in zip(ours, expected):
    assert mine.pop("stage") == theirs.pop("stage")
    assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5, nan_ok=True)


def evaluate(run, *options, count=1, devices=1):
  """The rewards of an evaluation, whose file goes."""
  arguments = ["-m", "experiments.evaluate", f"--workdir={run}", *options]
  if count == 1:
    process_pair.run_single(*arguments, devices=devices)
    others = [""]
  else:
    codes, outputs = process_group.run(
      count, *arguments, "--distributed", devices=devices
    )
    assert_ended_well(codes, outputs)
    assert "pass@4" in outputs[0]
    others = outputs[1:]
  assert not any(process_pair.own_lines(output) for output in others)
  (path,) = (run / "evaluations").iterdir()
  found = evaluation_record.read(path)
  path.unlink()
  assert found["processes"] == count
  assert sum(found["devices"].values()) == count * devices
  return [problem["rewards"] for problem in found["problems"]]


@VERIFY
def test_an_evaluation_is_the_same_on_any_mesh_and_processes(tmp_path):
  """1 device, 8 as 2 x 4, 2 processes x 4, 3 processes; in parts of n = 6."""
  run = saved_run.copy(tmp_path / "run")
  options = "--step=3", "--n=6"
  expected = evaluate(run, *options)
  assert 0 < sum(map(sum, expected)) < 4 * 6
  mesh = "--config.mesh.data=2", "--config.mesh.fsdp=4"
  assert evaluate(run, *options, *mesh, devices=8) == expected
  assert evaluate(run, *options, *mesh, devices=4, count=2) == expected
  three = "--config.mesh.data=3", "--config.mesh.fsdp=1"
  three = (*three, "--config.prompts_per_step=3")
  assert evaluate(run, *options, *three, count=3) == expected


@VERIFY
def test_a_copy_of_the_folder_is_refused_by_all(tmp_path, monkeypatch):
  """Both have the config and the checkpoint; only one has the first's lock."""
  run = tmp_path / "run"
  options = [QUICK[0], f"--base_dir={tmp_path}", "--config.mesh.fsdp=2"]
  single = ["-m", "experiments.train", *options, *QUICK[1:], f"--workdir={run}"]
  process_pair.run_single(*single, devices=2)
  shutil.copytree(run, tmp_path / "copy")
  command = [
    "-c",
    "import sys, runpy; from pkpo_jax.training import workdir;"
    " workdir.PATIENCE = 1; sys.argv[0] = 'train';"
    " runpy.run_module('experiments.train', run_name='__main__')",
  ]
  more = ["--distributed", "--config.num_steps=3"]
  codes, outputs = process_group.run(
    2, *command, *options, *more, f"--workdir={run}",
    only_last=[f"--workdir={tmp_path / 'copy'}"],
  )  # fmt: skip
  assert 0 not in codes, outputs
  assert all("share, and no copy of it" in output for output in outputs)
  (record,) = (run / "starts.jsonl").read_text().splitlines()
  assert json.loads(record)["step"] == 0
