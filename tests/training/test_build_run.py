"""training.build_run: the parts fit together, or it says what does not."""

import json
import pathlib
import types

import jax
import ml_collections
import pytest
from helpers import saved_run, tiny_config, vocabulary
from jax.sharding import AbstractMesh, AxisType

from configs import countdown, gemma2_2b_math, list_programs
from pkpo_jax.lm import sharding
from pkpo_jax.rl import train_step
from pkpo_jax.training import build_run, provenance, workdir


def make_config(**changes):
  config = tiny_config.get_config()
  config.update_from_flattened_dict(changes)
  return config


def test_the_model_has_a_row_for_every_word():
  parts = build_run.build(make_config())
  assert parts.tokenizer.vocab_size == 3 + len(parts.task.words)
  assert parts.model.config.num_embed == parts.tokenizer.vocab_size
  assert parts.model.config.embed_dim == 32
  assert len(parts.task.problems("train")) == 8


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"max_prompt_tokens": 5}, r"4 of 8 train .*max_prompt_tokens=5.* has 6"),
    ({"max_prompt_tokens": 4, "long_prompts": "drop"}, "No train prompt fits"),
    ({"tokenizer.name": "gemma2"}, "'gemma2' does not go .* needs 'words'"),
    ({"max_new_tokens": 5}, "max_new_tokens=5 is too small.*5 words"),
    ({"task.name": "sudoku"}, "Unknown task 'sudoku'"),
    ({"model.name": "llama"}, "Unknown model 'llama'"),
    ({"task.numbers": (1,)}, "2..6"),
  ],
)
def test_what_does_not_fit_is_an_error(changes, message):
  with pytest.raises(ValueError, match=message):
    build_run.build(make_config(**changes))


def test_the_models_folder_is_found_through_earlier_runs(tmp_path):
  run = saved_run.copy(tmp_path / "run")
  config = workdir.read_config(run)
  assert build_run.model_folder(config) is None
  base = {"source": "huggingface", "path": "~/gemma"}
  config.base = ml_collections.ConfigDict(base)
  assert build_run.model_folder(config) == pathlib.Path.home() / "gemma"
  path = run / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"base": base}))
  config.base = ml_collections.ConfigDict({"source": "run", "path": str(run)})
  assert build_run.model_folder(config) == pathlib.Path.home() / "gemma"


def test_a_completion_ends_where_the_models_folder_says(tmp_path):
  """And the run notes it: a later policy may come without that folder."""
  config = make_config()
  config.tokenizer = {"name": "huggingface", "turns": False}
  config.tokenizer.path = str(vocabulary.make_huggingface(tmp_path))
  config.base = {"source": "huggingface", "path": str(tmp_path / "model")}
  (tmp_path / "model").mkdir()
  generation = tmp_path / "model/generation_config.json"
  generation.write_text('{"eos_token_id": [1, 9]}')
  task = types.SimpleNamespace()
  found = build_run._tokenizer(config, task)
  assert 9 in found.stop_tokens
  config.base = {"source": "run", "path": str(tmp_path / "gone")}
  without = build_run._tokenizer(config, task)
  assert 9 not in without.stop_tokens
  first, later = (
    provenance.contents(config, build_run.Data(task, one, {}, {}))
    for one in (found, without)
  )
  changed = [name for name in first if first[name] != later[name]]
  assert changed == [provenance._STOPS]


def test_a_vocabulary_of_another_gemma_is_refused():
  """It has fewer ids than the model, which each mean another piece."""
  config = make_config()
  config.model = {"name": "gemma3_270m", "num_layers": 1}
  config.tokenizer.name = "huggingface"
  theirs = types.SimpleNamespace(vocab_size=256_000, family="gemma2")
  with pytest.raises(ValueError, match=r"vocabulary of gemma2, .*is a gemma3:"):
    build_run.build_model(config, theirs)
  theirs.family = "gemma3"
  assert build_run.build_model(config, theirs).config.use_qk_norm


def test_a_missing_file_names_the_task_that_wants_it(tmp_path):
  config = tiny_config.get_config()
  with config.unlocked():
    config.task = {"name": "gsm8k", "path": str(tmp_path / "absent")}
  with pytest.raises(ValueError, match=r"config.task \(name='gsm8k'\).*absent"):
    build_run.build(config)


def mesh_of(*sizes):
  return AbstractMesh(sizes, sharding.AXES, axis_types=(AxisType.Auto,) * 3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"prompts_per_step": 2},
      r"2 prompts .*config.prompts_per_step=2.* fsdp=4",
    ),
    ({"n": 3, "prompts_per_step": 4}, r"config.n=3\) .*computed 2 times"),
    ({"eval.n": 5}, None),
  ],
)
def test_what_is_sampled_at_once_splits_over_the_mesh(
  changes, message, monkeypatch
):
  """2 x 4 devices; before anything is loaded."""
  monkeypatch.setattr(jax.sharding, "get_mesh", lambda: mesh_of(2, 4, 1))
  monkeypatch.setattr(build_run, "load_data", lambda config: 1 / 0)
  expected = ValueError if message else ZeroDivisionError
  with pytest.raises(expected, match=message):
    build_run.build(make_config(**changes))


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_shipped_configs_split_over_one_host(devices, monkeypatch):
  for config in (
    countdown.get_config(),
    list_programs.get_config(),
    gemma2_2b_math.get_config("k8,laptop"),
  ):
    sizes = [devices if x == -1 else x for x in config.mesh.values()]
    mesh = mesh_of(*(sizes[list(config.mesh).index(x)] for x in sharding.AXES))
    monkeypatch.setattr(jax.sharding, "get_mesh", lambda mesh=mesh: mesh)
    build_run.check_mesh(config)
    train_step._check_microbatch(
      mesh, build_run.update_options(config), config.prompts_per_step
    )


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    (
      "model.lora_rnk",
      2,
      r"config.model: Unknown model options \['lora_rnk'\]",
    ),
    ("model.num_embed", 5, "config.model.num_embed=5 has no effect"),
    ("tokenizer.path", "weights", "config.tokenizer.path has no effect: words"),
  ],
)
def test_what_a_model_or_words_do_not_take_is_an_error(name, value, message):
  config = make_config()
  with config.unlocked():
    config.update_from_flattened_dict({name: value})
  with pytest.raises(ValueError, match=message):
    build_run.build(config)
