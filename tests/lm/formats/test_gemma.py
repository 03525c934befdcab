"""pkpo_jax.lm.formats.gemma against the gemma package itself."""

import jax
import jax.numpy as jnp
import pytest
from gemma import gm
from helpers import gemma_fixtures, plain
from helpers.gemma_fixtures import assert_same, loaded
from orbax import checkpoint as ocp

from pkpo_jax.lm import formats, models
from pkpo_jax.lm.formats import gemma, param_trees

QUERY = gm.nn.config.QueryPreAttentionNormalisation


@pytest.mark.slow
@pytest.mark.parametrize("name", gemma_fixtures.NAMES)
def test_gemma_round_trip_keeps_every_bit(name, tmp_path, monkeypatch):
  model, params = loaded(name)
  monkeypatch.chdir(tmp_path)
  formats.save_gemma(model, params, "saved")
  again, read = formats.load_gemma("saved")
  assert again == model
  assert_same(read, params)
  assert_same(gm.ckpts.load_params(tmp_path / "saved"), params)


def test_gemma_keeps_what_hugging_face_has_no_form_for(tmp_path):
  model = models.get_model(
    "gemma2_tiny",
    num_layers=1,
    dtype="bfloat16",
    use_post_attn_norm=False,
    transpose_gating_einsum=True,
    query_pre_attn_norm=QUERY.BY_EMBED_DIM_DIV_NUM_HEADS,
    local_base_frequency=500,
  )
  params = plain.random_params(model)
  formats.save_gemma(model, params, tmp_path / "saved")
  again, read = formats.load_gemma(tmp_path / "saved", param_dtype="bfloat16")
  assert again == model
  assert_same(read, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
  with pytest.raises(ValueError, match="Not a Gemma of Hugging Face"):
    formats.save_huggingface(model, params, tmp_path / "other")


def test_addresses_and_paths_become_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  address = gm.ckpts.CheckpointPath.GEMMA2_2B_IT
  assert str(gemma._absolute(address)) == address
  assert str(gemma._absolute(tmp_path / "a")) == str(tmp_path / "a")
  assert str(gemma._absolute("a")) == str(tmp_path / "a")


def flat(params):
  """As gemma's checkpoints are published."""
  out = {}
  for name, x in param_trees.by_name(params).items():
    if "/mlp/" in name:
      name += "/w"
    path, leaf = name.rsplit("/", 1)
    out.setdefault(f"transformer/{path}", {})[leaf] = x
  return out


def test_a_published_checkpoint_is_flat_and_has_no_model_with_it(tmp_path):
  model, params = loaded("gemma2_tiny")
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "saved", flat(half))
  _, read = formats.load_gemma(tmp_path / "saved", model=model)
  assert_same(read, jax.tree.map(lambda x: x.astype(jnp.float32), half))
  with pytest.raises(ValueError, match=r"'embed_dim': 32, .*give its model"):
    formats.load_gemma(tmp_path / "saved")
  other = models.get_model("gemma2_tiny")
  with pytest.raises(
    ValueError, match=r"shape \(128, 32\) and not \(128, 96\)"
  ):
    formats.load_gemma(tmp_path / "saved", model=other)


@pytest.mark.slow
def test_the_vision_tower_of_a_published_checkpoint_is_left_out(tmp_path):
  model, params = loaded("gemma3_tiny")
  whole = flat(params)
  whole["SigLiPFromPatches_0/siglip_encoder/embedding"] = {"bias": jnp.ones(3)}
  whole["transformer/embedder/mm_input_projection"] = {"w": jnp.ones((3, 16))}
  whole["transformer/embedder/mm_soft_embedding_norm"] = {"scale": jnp.ones(3)}
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "saved", whole)
  _, read = formats.load_gemma(tmp_path / "saved", model=model)
  assert_same(read, params)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.PRESETS)
def test_the_preset_is_known_by_its_size(name):
  model = models.get_model(name, num_embed=300)
  found = param_trees.shapes_by_name(models.abstract_params(model))
  assert gemma._preset(found) == model


def test_where_there_is_no_checkpoint_of_gemma(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no folder .*nothing"):
    formats.load_gemma(tmp_path / "nothing")
  with pytest.raises(FileNotFoundError, match="no checkpoint of gemma"):
    formats.load_gemma(tmp_path)
  (tmp_path / "file").touch()
  with pytest.raises(FileNotFoundError, match="file is a file; give its"):
    formats.load_gemma(tmp_path / "file")
  (tmp_path / "2b-it").mkdir()
  (tmp_path / "2b-it/_METADATA").touch()
  with pytest.raises(FileNotFoundError, match=r"the one within it: .*2b-it"):
    formats.load_gemma(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
  folder = tmp_path / "saved"
  formats.save_gemma(*loaded("gemma2_tiny"), folder)
  message = "saved can't be read; .*damaged: download the whole folder anew"
  data = [x for x in folder.rglob("*") if x.is_file() and x.parent.name == "d"]
  largest = max(data, key=lambda x: x.stat().st_size)
  whole = largest.read_bytes()
  largest.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=message):
    formats.load_gemma(folder)
  largest.write_bytes(whole)
  (folder / "_METADATA").write_text("version https://git-lfs")
  with pytest.raises(ValueError, match=message):
    formats.load_gemma(folder)


def test_a_checkpoint_of_something_else_is_named(tmp_path):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "saved", {"head": {"w": jnp.ones(3)}})
  with pytest.raises(ValueError, match=r"no embedder/.* it has head/w\."):
    formats.load_gemma(tmp_path / "saved")


@pytest.mark.parametrize("text", ["{}", '{"config": {"new": 1}}'])
def test_a_description_of_another_version_is_named(tmp_path, text):
  formats.save_gemma(*loaded("gemma2_tiny"), tmp_path / "saved")
  (tmp_path / "saved/model.json").write_text(text)
  with pytest.raises(
    ValueError, match=r"model.json describes no model .*model="
  ):
    formats.load_gemma(tmp_path / "saved")


def test_nothing_is_overwritten(tmp_path):
  (tmp_path / "note.txt").write_text("mine")
  with pytest.raises(FileExistsError, match="choose another"):
    formats.save_gemma(*loaded("gemma2_tiny"), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_parameters_of_another_model_are_not_saved(tmp_path):
  model, params = loaded("gemma2_tiny")
  other = params | {"layer_9": params["layer_0"]}
  with pytest.raises(ValueError, match="layer_9"):
    formats.save_gemma(model, other, tmp_path / "saved")
  assert not list(tmp_path.iterdir())
