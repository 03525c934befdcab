"""Estimates of each held-out problem, kept beside a run's metrics."""

import json

import numpy as np

from pkpo_jax.rl import rollout_metrics
from pkpo_jax.training import held_out


def curves(rewards, valid, binary=False):
  ks = (1, 2)
  return rollout_metrics.curves(
    np.array(rewards), np.array(valid, bool), ks, binary=binary
  )


def test_what_is_written_is_read_and_the_last_evaluation_counts(tmp_path):
  """Two problems; max@2 is the mean best of two of three rewards."""
  every = np.ones((2, 3))
  held_out.write(tmp_path, 0, ["a", "b"], curves(np.zeros((2, 3)), every))
  found = curves([[0.5, 1, 0], [0, 0, 0.3]], every)
  held_out.write(tmp_path, 4, ["a", "b"], found)
  expected = {
    "pass@1": [1 / 3, 0],
    "pass@2": [2 / 3, 0],
    "max@1": [0.5, 0.1],
    "max@2": [(1 + 1 + 0.5) / 3, 0.2],
  }
  read = held_out.read(tmp_path)
  assert read.keys() == expected.keys()
  for name, values in expected.items():
    np.testing.assert_allclose(read[name], values)
  saved = json.loads((tmp_path / "held_out.json").read_text())
  assert (saved["step"], saved["ids"]) == (4, ["a", "b"])


def test_what_does_not_exist_is_null_and_read_as_nan(tmp_path):
  found = curves([[1, 0, 0]], [[True, False, False]], binary=True)
  held_out.write(tmp_path, 1, ["a"], found)
  assert held_out.read(tmp_path)["pass@1"] == [1]
  assert np.isnan(held_out.read(tmp_path)["pass@2"]).all()
  assert "NaN" not in (tmp_path / "held_out.json").read_text()


def test_a_run_without_it_has_none(tmp_path):
  assert held_out.read(tmp_path) == {}
