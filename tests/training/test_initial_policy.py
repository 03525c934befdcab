"""training.initial_policy: what training starts from, and what is frozen."""

import dataclasses
import pathlib
import shutil
import types

import jax
import ml_collections
import numpy as np
import pytest
from helpers import (
  gemma_fixtures,
  plain,
  quick_config,
  saved_run,
  tiny_config,
)

from pkpo_jax import multihost
from pkpo_jax.lm import models
from pkpo_jax.lm.formats import huggingface
from pkpo_jax.training import (
  build_run,
  checkpointing,
  initial_policy,
  workdir,
)
from pkpo_jax.training import config as config_lib

FOLDER = pathlib.Path(__file__).parents[1] / "lm/fixtures/gemma2_tiny"


def of_a_checkpoint(**changes):
  """A config with the fixture as its base, and parts with a model like it."""
  model, params = huggingface.load_huggingface(FOLDER)
  model = model.clone(config=dataclasses.replace(model.config, **changes))
  config = tiny_config.get_config()
  config.base = ml_collections.ConfigDict(
    {"source": "huggingface", "path": str(FOLDER)}
  )
  return config, types.SimpleNamespace(model=model), params


def test_the_base_policy_is_that_of_the_checkpoint(tmp_path):
  config, parts, expected = of_a_checkpoint()
  params = initial_policy.base_params(config, parts, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_model_is_an_error(tmp_path):
  config, parts, _ = of_a_checkpoint(query_pre_attn_norm=None)
  with pytest.raises(ValueError, match="query_pre_attn_norm: None in the conf"):
    initial_policy.base_params(config, parts, tmp_path)


@pytest.mark.slow
def test_adapters_are_new_and_all_else_is_frozen(tmp_path):
  config = tiny_config.get_config()
  with config.unlocked():
    config.model.lora_rank = 2
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 3})
  parts = build_run.build(config)
  params = initial_policy.initial_params(config, parts, tmp_path)
  base = models.init_params(
    models.without_adapters(parts.model), jax.random.key(3)
  )
  jax.tree.map(np.testing.assert_array_equal, params.frozen, base)
  names = jax.tree_util.tree_leaves_with_path(params.trained)
  assert names and all("lora" in str(path) for path, _ in names)


@pytest.mark.slow
def test_a_reference_is_a_copy_of_the_base_policy(tmp_path, monkeypatch):
  """Only where a KL term needs it: the update overwrites the original."""
  config = tiny_config.get_config()
  parts = build_run.build(config)
  base = plain.random_params(parts.model)
  monkeypatch.setattr(initial_policy, "base_params", lambda *_: base)
  checkpointer = checkpointing.Checkpointer(tmp_path / "checkpoints", keep=1)
  new = initial_policy.restore_or_init(
    config, parts, checkpointer, tmp_path, {}
  )
  assert new.reference is None and int(new.progress.state.step) == 0
  assert np.all(new.progress.solved_at == checkpointing.NEVER)
  config.loss.kl_coef = 0.1
  new = initial_policy.restore_or_init(
    config, parts, checkpointer, tmp_path, {}
  )
  for mine, other in zip(
    jax.tree.leaves(new.reference), jax.tree.leaves(new.progress.state.params)
  ):
    np.testing.assert_array_equal(mine, other)
    assert mine is not other
  checkpointer.close()


def test_a_run_of_another_vocabulary_is_no_base(tmp_path):
  run = saved_run.copy(tmp_path / "run")
  config = quick_config.get_config()
  config.base = ml_collections.ConfigDict({"source": "run", "path": str(run)})
  parts = build_run.build(config)
  assert initial_policy.base_step(config, {}) == saved_run.STEP
  parts.task.words = parts.task.words[::-1]
  with pytest.raises(ValueError, match="or are in another order"):
    initial_policy.base_params(config, parts, tmp_path)


def test_processes_of_other_configs_do_not_wait_for_each_other(
  tmp_path, monkeypatch
):
  """Before one looks for checkpoints, with the others, and another does not."""
  config = quick_config.get_config()
  other = config_lib.to_json(tiny_config.get_config())
  monkeypatch.setattr(multihost, "broadcast_text", lambda _: other)
  monkeypatch.setattr(workdir, "complete_steps", lambda _: 1 / 0)
  with pytest.raises(ValueError, match="have different configs"):
    initial_policy.check_base(config, tmp_path)


def test_the_step_of_another_run_is_the_one_noted_while_it_is_there(tmp_path):
  run = saved_run.copy(tmp_path / "run")
  config = quick_config.get_config()
  assert initial_policy.base_step(config, {}) is None
  config.base = ml_collections.ConfigDict({"source": "run", "path": str(run)})
  noted = initial_policy.contents_of(
    initial_policy.InitialParams({}, {"w": np.ones(3)}), saved_run.STEP
  )
  (run / "checkpoints/9").mkdir()
  assert initial_policy.base_step(config, {}) == 9
  assert initial_policy.base_step(config, noted) == saved_run.STEP
  shutil.rmtree(run / "checkpoints" / str(saved_run.STEP))
  with pytest.raises(ValueError, match=r"no longer holds step 3, .* has 9\."):
    initial_policy.base_step(config, noted)
  shutil.rmtree(run / "checkpoints")
  with pytest.raises(ValueError, match="holds no checkpoint yet"):
    initial_policy.base_step(config, {})


@pytest.mark.parametrize(
  ("source", "folder", "message"),
  [
    (
      "huggingface",
      "run",
      "is of a training run: set config.base.source='run'",
    ),
    ("gemma", "run", "is of a training run: set config.base.source='run'"),
    ("gemma", "model", "Hugging Face's: set config.base.source='huggingface'"),
    ("huggingface", "cut", "model.safetensors can't be read .*empty"),
  ],
)
def test_a_base_that_is_something_else_is_refused_at_once(
  tmp_path, source, folder, message
):
  """Before the folder of the run is claimed."""
  run = saved_run.copy(tmp_path / "run")
  (run / "starts.jsonl").touch()
  for name in ("model", "cut"):
    (tmp_path / name).mkdir()
    gemma_fixtures.rewrite("gemma2_tiny", tmp_path / name)
  (tmp_path / "cut/model.safetensors").write_bytes(b"")
  config = quick_config.get_config()
  base = {"source": source, "path": str(tmp_path / folder)}
  config.base = ml_collections.ConfigDict(base)
  with pytest.raises(ValueError, match=message):
    initial_policy.check_base(config, None)
