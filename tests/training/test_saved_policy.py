"""training.saved_policy: what a run has saved, and where it came from."""

import json
import pathlib

import jax
import ml_collections
import numpy as np
import pytest
from helpers import quick_config, saved_run

from pkpo_jax.training import (
  build_run,
  checkpointing,
  initial_policy,
  saved_policy,
  workdir,
)


@pytest.mark.slow
def test_the_base_policy_of_adapters_has_both_parts(tmp_path):
  config = quick_config.get_config()
  with config.unlocked():
    config.model.lora_rank = 2
  parts = build_run.build(config)
  found = saved_policy.load(tmp_path, 0, config, parts, tmp_path)
  expected = initial_policy.initial_params(config, parts, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, found, tuple(expected))


@pytest.mark.slow
def test_a_later_policy_needs_no_base(tmp_path, monkeypatch):
  run = saved_run.copy(tmp_path / "run")
  monkeypatch.setattr(initial_policy, "initial_params", lambda *_: 1 / 0)
  config = workdir.read_config(run)
  parts = build_run.build(config)
  frozen, trained = saved_policy.load(run, 3, config, parts, tmp_path)
  assert frozen == {} and checkpointing.checksums(trained).any()


def test_another_base_policy_than_the_runs_is_an_error(tmp_path, monkeypatch):
  run = saved_run.copy(tmp_path / "run")
  contents = run / "contents.json"
  saved = json.loads(contents.read_text()) if contents.exists() else {}
  contents.write_text(json.dumps(saved | {"the base policy": "1"}))
  other = {"the base policy": "2"}
  monkeypatch.setattr(initial_policy, "initial_params", lambda *_: ({}, {}))
  monkeypatch.setattr(initial_policy, "contents_of", lambda _: other)
  config = workdir.read_config(run)
  with pytest.raises(ValueError, match="the base policy changed"):
    saved_policy.load(run, 0, config, None, tmp_path)


def test_the_source_is_found_through_earlier_runs(tmp_path):
  run = saved_run.copy(tmp_path / "run")
  config = workdir.read_config(run)
  assert saved_policy.source(config) is None
  base = {"source": "huggingface", "path": "~/gemma"}
  config.base = ml_collections.ConfigDict(base)
  assert saved_policy.source(config) == pathlib.Path.home() / "gemma"
  path = run / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"base": base}))
  config.base = ml_collections.ConfigDict({"source": "run", "path": str(run)})
  assert saved_policy.source(config) == pathlib.Path.home() / "gemma"
