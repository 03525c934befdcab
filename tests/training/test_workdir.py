"""training.workdir: a folder belongs to one config, whatever its format."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from configs import countdown
from pkpo_jax import multihost
from pkpo_jax.training import config as config_lib
from pkpo_jax.training import loop, metrics_writer, workdir

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
# A run before formats had numbers, which is refused now.
OLD = FIXTURES / "format0"
# A run of make_fixture.py: stopped after 3 of 6 steps, with the metrics of all
# 6. Two minibatches a step, k = 3 and then 1.
FIXTURE = FIXTURES / "format2"
TIMES = ("seconds", "tokens_per_second")


def make_config(**changes):
  config = countdown.get_config()
  config.update_from_flattened_dict(changes)
  return config


def make_checkpoint(folder):
  (folder / "checkpoints" / "25").mkdir(parents=True)


def test_a_new_folder_gets_the_config(tmp_path):
  folder = tmp_path / "runs" / "new"
  workdir.claim(folder, make_config())
  saved = json.loads((folder / "config.json").read_text())
  assert saved.pop("format") == workdir.FORMAT
  assert saved == json.loads(config_lib.to_json(make_config()))
  read = workdir.read_config(folder)
  assert config_lib.to_json(read) == config_lib.to_json(make_config())


def test_the_folder_of_the_same_config_is_accepted(tmp_path):
  workdir.claim(tmp_path, make_config())
  make_checkpoint(tmp_path)
  workdir.claim(tmp_path, make_config())


def test_the_folder_of_another_config_is_refused(tmp_path):
  workdir.claim(tmp_path, make_config())
  make_checkpoint(tmp_path)
  before = (tmp_path / "config.json").read_text()
  with pytest.raises(ValueError, match=r"config\.k_opt: \[8\] -> \[4\]"):
    workdir.claim(tmp_path, make_config(k_opt=(4,)))
  assert (tmp_path / "config.json").read_text() == before


def test_a_run_that_saved_nothing_can_be_replaced(tmp_path):
  workdir.claim(tmp_path, make_config())
  workdir.claim(tmp_path, make_config(k_opt=(4,)))
  assert json.loads((tmp_path / "config.json").read_text())["k_opt"] == [4]


def test_metrics_are_not_erased_by_another_config(tmp_path):
  """Where they are all that is left: the same config would write the same."""
  workdir.claim(tmp_path, make_config(**{"checkpoint.every": 2}))
  line = '{"step": %d, "stage": "train", "pass@1": 0.5}\n'
  metrics = tmp_path / "metrics.jsonl"
  metrics.write_text(line % 0)
  workdir.claim(tmp_path, make_config(**{"checkpoint.every": 2}, k_opt=(4,)))
  metrics.write_text(line % 0 + line % 1)
  workdir.claim(tmp_path, make_config(k_opt=(4,), num_steps=90))
  metrics.write_text("".join(line % i for i in range(50)))
  before = (tmp_path / "config.json").read_text()
  with pytest.raises(ValueError, match=r"50 steps of .* another config, whose"):
    workdir.claim(tmp_path, make_config())
  assert (tmp_path / "config.json").read_text() == before
  saved = json.loads(before)
  assert saved.pop("patience") == 0  # as a run had it before there was one
  (tmp_path / "config.json").write_text(json.dumps(saved))
  workdir.claim(tmp_path, make_config(k_opt=(4,), num_steps=90))
  (tmp_path / "config.json").unlink()
  with pytest.raises(ValueError, match="would be erased"):
    workdir.claim(tmp_path, make_config())
  metrics.unlink()
  workdir.claim(tmp_path, make_config())


@pytest.mark.parametrize("text", ["", "[]", '{"n": '])
def test_a_damaged_config_is_named(text, tmp_path):
  make_checkpoint(tmp_path)
  (tmp_path / "config.json").write_text(text)
  for read in (workdir.read_config, lambda x: workdir.claim(x, make_config())):
    with pytest.raises(ValueError, match=r"config\.json is damaged .*a copy"):
      read(tmp_path)


@pytest.mark.parametrize("copied", [False, True])
def test_a_folder_that_is_not_shared_is_an_error(copied, monkeypatch, tmp_path):
  """A copy has the same config, and the lock of an earlier time, if any."""
  first, other = tmp_path / "first", tmp_path / "other"
  workdir.claim(first, make_config())
  mark = (first / "lock").read_text()
  if copied:
    shutil.copytree(first, other)
    (other / "lock").write_text(mark.replace("since", "before"))
  monkeypatch.setattr(workdir, "PATIENCE", 0)
  monkeypatch.setattr(multihost, "is_first", lambda: False)
  said = iter([config_lib.to_json(make_config()), mark] * 2)
  monkeypatch.setattr(multihost, "broadcast_text", lambda text: next(said))
  with pytest.raises(ValueError, match=r"other/lock .*share, and no copy"):
    workdir.claim(other, make_config())
  workdir.claim(first, make_config())


def test_complete_steps_are_those_that_all_see(tmp_path, monkeypatch):
  assert workdir.complete_steps(tmp_path / "none") == []
  for name in ("2", "10", "4.orbax-checkpoint-tmp", "1.deleted"):
    (tmp_path / name).mkdir()
  assert workdir.complete_steps(tmp_path) == [2, 10]
  # Another process sees a newer one, which this one never will; and it may.
  monkeypatch.setattr(multihost, "max_over_hosts", lambda x: max(int(x), 12))
  monkeypatch.setattr(workdir, "PATIENCE", 0)
  with pytest.raises(ValueError, match=r"Not all .*/12: it must be one"):
    workdir.complete_steps(tmp_path)


@pytest.mark.parametrize("scheme", ["gs", "s3", "hdfs", "https"])
def test_a_bucket_is_not_taken_for_a_folder(scheme, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match="mount the bucket"):
    workdir.claim(pathlib.Path(f"{scheme}://bucket/run"), make_config())
  assert not list(tmp_path.iterdir())


FREE = {
  "num_steps": 300,
  "eval.n": 8,
  "eval.every": 7,
  "checkpoint.keep": 9,
  "mesh.data": 2,
  "microbatch.rows": 16,
  "logits_chunk": 5,
}


def test_what_is_no_mathematics_may_change_and_is_recorded(tmp_path):
  workdir.claim(tmp_path, make_config())
  make_checkpoint(tmp_path)
  workdir.claim(tmp_path, make_config(**FREE))
  workdir.claim(tmp_path, make_config(**FREE))
  (line,) = (tmp_path / "changes.jsonl").read_text().splitlines()
  record = json.loads(line)
  assert record["step"] == 25
  names = {change.partition(":")[0] for change in record["changes"]}
  assert names == {f"config.{name}" for name in FREE}
  assert "config.eval.n: 64 -> 8" in record["changes"]
  saved = workdir.read_config(tmp_path)
  assert config_lib.to_json(saved) == config_lib.to_json(make_config(**FREE))


def test_the_learning_rate_may_change_on_request_alone(tmp_path):
  workdir.claim(tmp_path, make_config())
  make_checkpoint(tmp_path)
  change = make_config(learning_rate=1e-5)
  with pytest.raises(
    ValueError, match=r"--change_learning_rate lets.*\n.*1e-05"
  ):
    workdir.claim(tmp_path, change)
  both = make_config(learning_rate=1e-5, b1=0.5)
  with pytest.raises(ValueError, match=r"config\.b1") as error:
    workdir.claim(tmp_path, both, allowed=["learning_rate"])
  assert "learning_rate: " not in str(error.value)
  workdir.claim(tmp_path, change, allowed=["learning_rate"])
  workdir.claim(tmp_path, change)


def test_a_run_cannot_end_before_where_it_is(tmp_path):
  workdir.claim(tmp_path, make_config())
  make_checkpoint(tmp_path)
  with pytest.raises(ValueError, match=r"num_steps=24 is less than the 25"):
    workdir.claim(tmp_path, make_config(num_steps=24))


def test_an_evaluation_of_another_kind_is_done_anew(tmp_path):
  workdir.claim(tmp_path, make_config())
  make_checkpoint(tmp_path)
  line = '{"step": %d, "stage": "%s", "pass@1": 0.5}\n'
  kept = line % (0, "eval") + line % (24, "train")
  path = tmp_path / "metrics.jsonl"
  path.write_text(kept + line % (25, "eval"))
  workdir.claim(tmp_path, make_config(**{"eval.every": 5}))
  assert path.read_text() == kept + line % (25, "eval")
  workdir.claim(tmp_path, make_config(**{"eval.every": 5, "eval.n": 8}))
  assert path.read_text() == kept


def test_a_folder_of_no_run_has_no_config(tmp_path):
  with pytest.raises(ValueError, match=r"json is missing: --workdir must be"):
    workdir.read_config(tmp_path)


@pytest.fixture(params=[FIXTURE], ids=["format 2"])
def run(request, tmp_path):
  shutil.copytree(request.param, tmp_path / "run")
  return tmp_path / "run"


old = pytest.mark.parametrize("run", [OLD], ids=["format 0"], indirect=True)


def records(folder):
  return [
    {name: x for name, x in record.items() if not name.startswith(TIMES)}
    for record in metrics_writer.read(folder / "metrics.jsonl")
  ]


@pytest.mark.slow
def test_a_run_of_an_older_format_with_the_same_mathematics_continues(run):
  """The same samples; and the same numbers, up to another processor's."""
  config = workdir.read_config(run)
  state = loop.train(config, run, run / "no base policy is needed")
  assert int(state.step) == 6
  ours, expected = records(run), records(FIXTURE)
  assert [r["step"] for r in ours] == [r["step"] for r in expected]
  for mine, theirs in zip(ours, expected):
    # Metrics may be added without another format.
    assert set(mine) >= set(theirs)
    for name, value in theirs.items():
      if isinstance(value, str):
        assert mine[name] == value
      else:
        np.testing.assert_allclose(
          mine[name], value, rtol=1e-4, atol=5e-6, err_msg=name
        )


@old
def test_a_run_of_an_older_format_is_refused_with_the_reason(run):
  """By whoever continues it; and its folder stays as it was."""
  text = (run / "config.json").read_text()
  config = make_config()
  for read in (workdir.read_config, lambda run: workdir.claim(run, config)):
    with pytest.raises(
      ValueError, match=r"format 0\).*new --workdir.*\n  "
    ) as e:
      read(run)
    assert workdir.MATHEMATICS_CHANGED[2] in str(e.value)
  with pytest.raises(ValueError, match="format 0"):
    workdir.check_format(0, run / "checkpoints")
  workdir.check_format(2, run / "checkpoints")
  assert (run / "config.json").read_text() == text


def test_a_newer_format_is_refused(run):
  path = run / "config.json"
  path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
  with pytest.raises(ValueError, match=r"newer version .* \(format 99"):
    workdir.read_config(run)


def test_the_microbatch_of_an_older_format_is_converted(run):
  """2 prompts and 2 completions of each; and it may change as ever."""
  config = workdir.read_config(run)
  assert config.microbatch.to_dict() == {"rows": 4}
  workdir.claim(run, config)
  assert not (run / "changes.jsonl").exists()
  saved = json.loads((run / "config.json").read_text())
  assert (saved["format"], saved["microbatch"]) == (3, {"rows": 4})


def test_a_value_other_than_the_default_of_a_lacking_key_is_a_change(run):
  config = workdir.read_config(run)
  config.k_weights = (0.5, 0.5)
  with pytest.raises(ValueError, match=r"k_weights: \[\] -> \[0.5, 0.5\]"):
    workdir.claim(run, config)
