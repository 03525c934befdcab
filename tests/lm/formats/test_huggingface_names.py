"""pkpo_jax.lm.formats.huggingface_names: right weights in other clothes."""

import logging

import numpy as np
import pytest
import safetensors.numpy
from helpers import gemma_fixtures
from helpers.gemma_fixtures import assert_same, loaded, rewrite

from pkpo_jax.lm import formats
from pkpo_jax.lm.formats import huggingface, huggingface_names

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def renamed(rule):
  """A change of tensors that renames them all."""

  def change(tensors):
    for name in list(tensors):
      tensors[rule(name)] = tensors.pop(name)

  return change


def with_tower(tensors):
  """The text tower in a multimodal folder, as it was published."""
  renamed(lambda name: f"language_model.{name}")(tensors)
  tensors["vision_tower.vision_model.post_layernorm.weight"] = np.ones(3)
  tensors["multi_modal_projector.mm_input_projection_weight"] = np.ones(3)


def with_head(tensors):
  tensors[HEAD] = tensors[TABLE].copy()


CLOTHES = {
  "without model.": renamed(lambda name: name.removeprefix("model.")),
  "compiled": renamed(lambda name: f"_orig_mod.{name}"),
  "data parallel": renamed(lambda name: f"module.{name}"),
  "both": renamed(lambda name: f"module._orig_mod.{name}"),
  "compiled layers": renamed(
    lambda name: name.replace(".mlp.", "._orig_mod.mlp.")
  ),
  "fsdp": renamed(
    lambda name: name.replace("model.", "model._fsdp_wrapped_module.")
  ),
  "merged adapter": renamed(lambda name: f"base_model.model.{name}"),
  "newer tower": renamed(
    lambda name: name.replace("model.", "model.language_model.", 1)
  ),
  "tower": with_tower,
  "head": with_head,
  "head alone": renamed(lambda name: HEAD if name == TABLE else name),
  "rotary": lambda tensors: tensors.update(
    {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4)}
  ),
}


@pytest.mark.parametrize("name", CLOTHES)
def test_weights_are_known_by_what_they_are(name, tmp_path):
  rewrite("gemma3_tiny", tmp_path, CLOTHES[name])
  model, params = formats.load_huggingface(tmp_path)
  assert model == loaded("gemma3_tiny")[0]
  assert_same(params, loaded("gemma3_tiny")[1])


def test_a_multimodal_folder_is_read_as_its_text_model(tmp_path, caplog):
  rewrite("gemma3_tiny", tmp_path, with_tower)
  text = huggingface.tensor_files.read_json(tmp_path / "config.json")
  whole = {"model_type": "gemma3", "text_config": text}
  huggingface.tensor_files.write_json(tmp_path / "config.json", whole)
  with caplog.at_level(logging.WARNING):
    model, params = formats.load_huggingface(tmp_path)
  assert "2 tensors of its vision tower left out" in caplog.text
  assert model == loaded("gemma3_tiny")[0]
  assert_same(params, loaded("gemma3_tiny")[1])


def test_what_is_not_read_is_named_with_the_reason(tmp_path):
  def change(tensors):
    with_head(tensors)
    tensors["model.rotary_emb.inv_freq"] = np.ones(4)

  rewrite("gemma2_tiny", tmp_path, change)
  with huggingface.open_checkpoint(tmp_path) as opened:
    assert opened.ignored == {
      HEAD: f"equal to {TABLE}",
      "model.rotary_emb.inv_freq": "computed from config.json",
    }


def other_head(tensors):
  tensors[HEAD] = tensors[TABLE].copy()
  tensors[HEAD][-1, -1] += 1


def twice(tensors):
  tensors["module.model.norm.weight"] = tensors["model.norm.weight"] + 1


def adapted(tensors):
  tensors["model.layers.0.mlp.up_proj.lora_A.weight"] = np.ones((2, 32))


@pytest.mark.parametrize(
  ("change", "config", "message"),
  [
    (other_head, {}, "lm_head.weight differs from model.embed_tokens.weight"),
    (
      other_head,
      {"tie_word_embeddings": False},
      "lm_head.weight differs from model.embed_tokens.weight",
    ),
    (
      lambda tensors: None,
      {"tie_word_embeddings": False},
      r"tie_word_embeddings=False, but there is no lm_head\.weight: set it",
    ),
    (twice, {}, "are the same tensor with different values; remove"),
    (adapted, {}, "lora_A.weight is part of an adapter.*merge_and_unload"),
  ],
)
def test_what_says_two_things_is_refused(change, config, message, tmp_path):
  rewrite("gemma2_tiny", tmp_path, change, **config)
  with pytest.raises(ValueError, match=message):
    formats.load_huggingface(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_head_of_another_type_is_the_table_if_its_numbers_are(
  tmp_path, dtype
):
  def head(tensors):
    tensors[TABLE] = tensors[TABLE].astype("float16").astype("float32")
    tensors[HEAD] = tensors[TABLE].astype(dtype)

  rewrite("gemma2_tiny", tmp_path, head)
  with huggingface.open_checkpoint(tmp_path) as opened:
    assert opened.ignored == {HEAD: f"equal to {TABLE}"}


def test_an_untied_head_that_is_equal_is_read(tmp_path):
  rewrite("gemma2_tiny", tmp_path, with_head, tie_word_embeddings=False)
  assert_same(formats.load_huggingface(tmp_path)[1], loaded("gemma2_tiny")[1])


@pytest.mark.parametrize(
  "file", ["adapter_config.json", "adapter_model.safetensors"]
)
@pytest.mark.parametrize("base", [True, False])
def test_an_adapter_is_refused(file, base, tmp_path):
  if base:
    rewrite("gemma2_tiny", tmp_path)
  (tmp_path / file).write_text("{}")
  with pytest.raises(ValueError, match=r"adapter.*merge_and_unload.*move the"):
    formats.load_huggingface(tmp_path)


def test_a_hub_cache_is_read_through_its_links(tmp_path):
  """And its outer folder is refused with the name of the right one."""
  blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
  blobs.mkdir()
  snapshot.mkdir(parents=True)
  rewrite("gemma2_tiny", blobs)
  for file in list(blobs.iterdir()):
    file.rename(blobs / file.name[::-1])
    (snapshot / file.name).symlink_to(f"../../blobs/{file.name[::-1]}")
  assert_same(formats.load_huggingface(snapshot)[1], loaded("gemma2_tiny")[1])
  with pytest.raises(FileNotFoundError, match=r"give the one .*0123abcd\."):
    formats.load_huggingface(tmp_path)
  (blobs / "model.safetensors"[::-1]).unlink()
  with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
    formats.load_huggingface(snapshot)


def test_home_is_understood_in_a_path(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  model, params = loaded("gemma2_tiny")
  formats.save_huggingface(model, params, "~/saved")
  assert_same(formats.load_huggingface("~/saved")[1], params)
  formats.save_gemma(model, params, "~/gemma")
  assert_same(formats.load_gemma("~/gemma")[1], params)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_files_of_other_types_are_read(dtype, tmp_path):
  """And computed in float32, since Gemma exceeds the range of float16."""
  rewrite("gemma2_tiny", tmp_path, dtype=dtype)
  tensors = gemma_fixtures.read_tensors(tmp_path)
  tensors = {name: x.astype(dtype) for name, x in tensors.items()}
  safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
  if dtype == "float64":
    with pytest.raises(ValueError, match=r"float64.*'bfloat16'"):
      formats.load_huggingface(tmp_path)
    rewrite_config = huggingface.tensor_files.write_json
    config = huggingface.tensor_files.read_json(tmp_path / "config.json")
    rewrite_config(tmp_path / "config.json", config | {"dtype": "float32"})
  model, params = formats.load_huggingface(tmp_path)
  assert model == loaded("gemma2_tiny")[0]
  table = tensors[TABLE].astype("float32")
  np.testing.assert_array_equal(params["embedder"]["input_embedding"], table)


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
def test_float16_is_refused_to_compute_in_and_to_keep(option):
  folder = gemma_fixtures.FOLDER / "gemma2_tiny"
  with pytest.raises(ValueError, match=r"float16.*exceeds the range"):
    formats.load_huggingface(folder, **{option: "float16"})


@pytest.mark.parametrize(
  ("name", "known"),
  [
    ("language_model.lm_head.weight", HEAD),
    ("model.language_model.embed_tokens.weight", TABLE),
    ("language_model.layers.0.mlp", "model.layers.0.mlp"),
    ("score.weight", "score.weight"),
    ("module_list.weight", "module_list.weight"),
  ],
)
def test_canonical_names(name, known):
  assert huggingface_names.canonical(name) == known
