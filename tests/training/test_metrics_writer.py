"""pkpo_jax.training.metrics_writer: what is written can be read by others."""

import json
import math

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from pkpo_jax.training import metrics_writer


def write(folder, steps, *, start=0, value=1.0):
  writer = metrics_writer.MetricsWriter(folder, start=start, num_steps=10)
  for step in steps:
    writer.write(step, "train", {"loss": value + step})
  writer.close()


def test_json_lines_round_trip(tmp_path):
  writer = metrics_writer.MetricsWriter(tmp_path / "new", start=0, num_steps=2)
  writer.write(0, "eval", {"pass@1": np.float32(0.1), "k": np.int32(8)})
  writer.write(0, "train", {"loss": 1 / 3})
  writer.close()
  path = tmp_path / "new" / "metrics.jsonl"
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines == [
    {"step": 0, "stage": "eval", "pass@1": float(np.float32(0.1)), "k": 8.0},
    {"step": 0, "stage": "train", "loss": 1 / 3},
  ]
  assert metrics_writer.read(path) == lines


def test_lines_are_on_disk_before_the_end(tmp_path):
  """A kill loses nothing that was written."""
  writer = metrics_writer.MetricsWriter(tmp_path, start=0, num_steps=2)
  writer.write(0, "train", {"loss": 1.0})
  assert len(metrics_writer.read(tmp_path / "metrics.jsonl")) == 1
  writer.close()


def test_no_file_has_no_records(tmp_path):
  assert metrics_writer.read(tmp_path / "metrics.jsonl") == []


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path):
  write(tmp_path, range(5))
  write(tmp_path, range(3, 6), start=3, value=100.0)
  records = metrics_writer.read(tmp_path / "metrics.jsonl")
  assert [r["step"] for r in records] == [0, 1, 2, 3, 4, 5]
  assert [r["loss"] for r in records] == [1, 2, 3, 103, 104, 105]


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path):
  write(tmp_path, range(3))
  path = tmp_path / "metrics.jsonl"
  whole = path.read_text()
  for missing in (1, 2, 10):
    path.write_text(whole[:-missing])
    assert [r["step"] for r in metrics_writer.read(path)] == [0, 1]
  write(tmp_path, [2], start=2)
  assert path.read_text() == whole


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_becomes_null(tmp_path, value):
  def refuse(name):
    raise AssertionError(f"{name} is not JSON")

  writer = metrics_writer.MetricsWriter(tmp_path, start=0, num_steps=1)
  writer.write(0, "eval", {"pass@8_stderr": value, "pass@8": 0.5})
  writer.close()
  path = tmp_path / "metrics.jsonl"
  (record,) = [
    json.loads(line, parse_constant=refuse)
    for line in path.read_text().splitlines()
  ]
  assert record["pass@8_stderr"] is None
  assert record["pass@8"] == 0.5
  write(tmp_path, [1], start=1)
  again = metrics_writer.read(path)[0]
  assert math.isnan(again.pop("pass@8_stderr"))
  del record["pass@8_stderr"]
  assert again == record


def test_tensorboard_reads_the_numbers(tmp_path):
  """Also after a resume; tensorboardX writes "_" for "@"."""
  write(tmp_path, range(3))
  writer = metrics_writer.MetricsWriter(tmp_path, start=2, num_steps=4)
  writer.write(2, "train", {"loss": 7.0})
  writer.write(2, "eval", {"pass@4": 0.25})
  writer.close()
  events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
  loss = [(e.step, e.value) for e in events.Scalars("train/loss")]
  assert loss == [(0, 1.0), (1, 2.0), (2, 7.0)]
  assert [e.value for e in events.Scalars("eval/pass_4")] == [0.25]


def test_the_progress_bar_counts_train_steps(tmp_path, capsys):
  writer = metrics_writer.MetricsWriter(tmp_path, start=4, num_steps=10)
  writer.write(4, "eval", {"pass@1": 0.5})
  writer.write(4, "train", {"pass@1": 0.5, "k": 8})
  writer.say("a message")
  writer.close()
  shown = capsys.readouterr()
  assert "5/10" in shown.err
  assert "a message" in shown.out


def test_one_event_file_a_start_with_all_that_was_recorded(tmp_path):
  """Also after a kill, which writes nothing more; older files keep theirs."""
  write(tmp_path, range(3))
  for path in tmp_path.glob("events.*"):
    path.write_bytes(b"")  # nothing of it had reached the disk
    path.rename(path.with_name("events.out.tfevents.0000000001.host"))
  writer = metrics_writer.MetricsWriter(tmp_path, start=2, num_steps=4)
  assert len(list(tmp_path.glob("events.*"))) == 2
  events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
  assert [e.step for e in events.Scalars("train/loss")] == [0, 1]
  writer.close()


@pytest.mark.parametrize(
  "line", ["{", "x}", "[1]}", '{"step": 3}', '{"step": "3", "stage": "x"}']
)
def test_a_line_that_is_no_record_is_named(tmp_path, line):
  good = '{"step": 1, "stage": "train", "loss": 1.0}'
  file = tmp_path / "metrics.jsonl"
  file.write_text(f"{good}\n{line}\n{good}\n")
  with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is no record"):
    metrics_writer.read(file)
