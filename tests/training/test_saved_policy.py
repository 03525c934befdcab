"""training.saved_policy: what a run has saved, and where it came from."""

import json
import types

import jax
import numpy as np
import pytest
from helpers import quick_config, saved_run, vocabulary

from pkpo_jax.lm import tokenizers
from pkpo_jax.training import (
  build_run,
  checkpointing,
  initial_policy,
  provenance,
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


@pytest.mark.slow
def test_a_policy_that_the_run_has_deleted_is_not_called_damaged(tmp_path):
  run = saved_run.copy(tmp_path / "run")
  config = workdir.read_config(run)
  parts = build_run.build(config)
  with pytest.raises(ValueError, match="/2 is gone: the run that wrote it is"):
    saved_policy.load(run, 2, config, parts, tmp_path)


def test_another_base_policy_than_the_runs_is_an_error(tmp_path, monkeypatch):
  run = saved_run.copy(tmp_path / "run")
  contents = run / "contents.json"
  saved = json.loads(contents.read_text()) if contents.exists() else {}
  contents.write_text(json.dumps(saved | {"the base policy": "1"}))
  other = {"the base policy": "2"}
  monkeypatch.setattr(initial_policy, "initial_params", lambda *_: ({}, {}))
  monkeypatch.setattr(initial_policy, "contents_of", lambda *_: other)
  config = workdir.read_config(run)
  parts = build_run.load_data(config)
  with pytest.raises(ValueError, match="the base policy changed"):
    saved_policy.load(run, 0, config, parts, tmp_path)


def test_a_completion_must_end_where_the_run_learned_to_end_it(tmp_path):
  """The model's folder, which names stop tokens too, may be gone by then."""
  run = saved_run.copy(tmp_path / "run")
  config = workdir.read_config(run)
  tokenizer = tokenizers.get_tokenizer(
    "huggingface", path=vocabulary.make_huggingface(tmp_path)
  )
  parts = types.SimpleNamespace(tokenizer=tokenizer)
  provenance.check_contents(run, provenance.of_stops(parts), begun=False)
  tokenizer.stop_tokens = (1, 9)
  with pytest.raises(
    ValueError, match=r"tokens that end a completion .* changed"
  ):
    saved_policy.load(run, 3, config, parts, tmp_path)
