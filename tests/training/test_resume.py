"""Runs that go on with other options, from other runs, or with other data."""

import dataclasses
import json

import jax
import ml_collections
import numpy as np
import pytest
from helpers import quick_config, runs

from pkpo_jax.rl import evaluation
from pkpo_jax.training import build_run, loop

pytestmark = pytest.mark.slow


def train(folder, data=None, **changes):
  config = quick_config.get_config()
  config.update_from_flattened_dict({"num_steps": 4, "eval.every": 2} | changes)
  return loop.train(config, folder, folder / "base", data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run at once: its folder and its state."""
  folder = tmp_path_factory.mktemp("whole")
  return folder, train(folder)


def test_a_run_is_extended_with_another_microbatch(whole, tmp_path):
  """To rounding, as if it had been so long from the start."""
  train(tmp_path, num_steps=2)
  state = train(tmp_path, **{"microbatch.rows": 8, "checkpoint.every": 3})
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    state,
    whole[1],
  )
  ours, expected = runs.records(tmp_path), runs.records(whole[0])
  assert [(r["step"], r["stage"]) for r in ours] == [
    (r["step"], r["stage"]) for r in expected
  ]
  for mine, theirs in zip(ours, expected):
    assert mine["pass@1"] == theirs["pass@1"]
  (line,) = (tmp_path / "changes.jsonl").read_text().splitlines()
  assert json.loads(line) == {
    "step": 2,
    "changes": [
      "config.checkpoint.every: 2 -> 3",
      "config.microbatch.rows: 4 -> 8",
      "config.num_steps: 2 -> 4",
    ],
  }


def test_what_is_done_is_not_done_again(whole, monkeypatch):
  before = runs.records(whole[0])
  monkeypatch.setattr(evaluation, "evaluate", None)
  train(whole[0])
  assert runs.records(whole[0]) == before


def test_other_problems_are_refused(whole):
  config = quick_config.get_config()
  data = build_run.load_data(config)
  fewer = {**data.problems, "train": data.problems["train"][:-1]}
  with pytest.raises(ValueError, match=r"^train problems changed since"):
    train(whole[0], dataclasses.replace(data, problems=fewer))


def test_a_run_starts_from_another_run(whole, tmp_path):
  """With its parameters, and with an optimiser that is new."""
  config = quick_config.get_config()
  config.base = ml_collections.ConfigDict(
    {"source": "run", "path": str(whole[0])}
  )
  config.update(num_steps=1, learning_rate=1e-12)
  state = loop.train(config, tmp_path / "run", tmp_path)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-9),
    state.params,
    whole[1].params,
  )
  config.model.embed_dim = 40
  with pytest.raises(ValueError, match="is a run of another model"):
    loop.train(config, tmp_path / "other", tmp_path)
  config.base.path = str(tmp_path)
  with pytest.raises(ValueError, match=r"is missing: config\.base\.path must"):
    loop.train(config, tmp_path / "other", tmp_path)


def test_a_run_goes_on_after_the_run_it_began_from_has(tmp_path):
  """From the policy it began with, as long as that is there."""
  base, ours = tmp_path / "base run", tmp_path / "ours"
  train(base, num_steps=2, **{"checkpoint.keep": 2})

  def go_on(num_steps):
    config = quick_config.get_config()
    config.base = ml_collections.ConfigDict(
      {"source": "run", "path": str(base)}
    )
    config.loss.kl_coef = 0.1
    config.num_steps = num_steps
    loop.train(config, ours, tmp_path)

  go_on(1)
  train(base, num_steps=4, **{"checkpoint.keep": 2})
  go_on(2)
  *_, last = (r for r in runs.records(ours) if r["stage"] == "train")
  assert last["step"] == 1 and last["kl_to_reference"] > 0
  train(base, num_steps=6, **{"checkpoint.keep": 2})
  with pytest.raises(ValueError, match=r"no longer holds step 2, .* has 4, 6"):
    go_on(3)
