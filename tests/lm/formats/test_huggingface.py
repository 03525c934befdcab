"""pkpo_jax.lm.formats.huggingface against what transformers computes."""

import dataclasses
import itertools
import json
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from gemma import gm
from helpers import gemma_fixtures, plain
from helpers.gemma_fixtures import (
  assert_same,
  error_of,
  expected,
  loaded,
  read_tensors,
  rewrite,
)

from pkpo_jax.lm import formats, models, sampler
from pkpo_jax.lm.formats import huggingface

NAMES = gemma_fixtures.NAMES
QUERY = gm.nn.config.QueryPreAttentionNormalisation


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name):
  """In float32 and at every position, far beyond the sliding window."""
  model, params = loaded(name)
  tokens = expected(name)["tokens"]
  assert tokens.shape[1] >= 3 * model.config.sliding_window_size
  assert error_of(model, params, name) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits_through_the_cache_are_too(name):
  model, params = loaded(name)
  tokens, logits = expected(name)["tokens"], expected(name)["logits"]
  R, L = tokens.shape
  lengths, P = np.array([3, 9, 12]), 12
  rows = [np.arange(length, length + L - P) for length in lengths]
  completions = np.take_along_axis(tokens, np.stack(rows), axis=1)
  prompt = np.where(np.arange(P) < lengths[:, None], tokens[:, :P], 77)

  @jax.jit
  def decoded(params):
    prefix = models.prefill(
      model, params, models.Prompts(prompt, lengths), training=False
    )
    cache = models.grow_cache(models.empty_cache(model, R), L - P)
    more, _ = models.decode(model, params, prefix, completions, cache, start=0)
    hidden = jnp.concatenate([prefix.hidden[:, None], more], axis=1)
    return models.unembed(model, params, hidden)

  theirs = np.stack(
    [logits[r, n - 1 : n + L - P] for r, n in zip(range(R), lengths)]
  )
  np.testing.assert_allclose(decoded(params), theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_greedy_generations_are_those_of_transformers(name):
  model, params = loaded(name)
  known = expected(name)
  ours = sampler.sample(
    model,
    params,
    known["prompts"],
    known["lengths"],
    jax.random.key(0),
    n=1,
    max_new_tokens=known["generations"].shape[1],
    temperature=1e-3,
    stop_tokens=(),
  )
  np.testing.assert_array_equal(ours.tokens[:, 0], known["generations"])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "change"),
  [
    ("gemma2_tiny", {"sliding_window_size": 9}),
    ("gemma2_tiny", {"attn_logits_soft_cap": None}),
    ("gemma2_tiny", {"final_logit_softcap": None}),
    (
      "gemma2_tiny",
      {"query_pre_attn_norm": QUERY.BY_ONE_OVER_SQRT_HEAD_DIM},
    ),
    ("gemma3_tiny", {"sliding_window_size": 9}),
    ("gemma3_tiny", {"local_base_frequency": 20_000}),
    ("gemma3_tiny", {"global_base_frequency": 10_000}),
  ],
)
def test_a_config_read_wrongly_would_be_seen(name, change):
  model, params = loaded(name)
  model = model.clone(config=dataclasses.replace(model.config, **change))
  assert error_of(model, params, name) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_hugging_face_round_trip_keeps_every_bit(name, tmp_path):
  model, params = loaded(name)
  formats.save_huggingface(
    model, params, tmp_path / "new" / "saved", max_shard_bytes=30_000
  )
  again, read = formats.load_huggingface(tmp_path / "new" / "saved")
  assert again == model
  assert_same(read, params)
  assert error_of(again, read, name) < 1e-4
  assert [p.name for p in (tmp_path / "new").iterdir()] == ["saved"]


@pytest.mark.parametrize("name", NAMES)
def test_the_saved_tensors_are_those_of_transformers(name, tmp_path):
  model, params = loaded(name)
  formats.save_huggingface(model, params, tmp_path / "saved")
  ours, theirs = (
    read_tensors(tmp_path / "saved"),
    read_tensors(gemma_fixtures.FOLDER / name),
  )
  assert ours.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(ours[key], value, err_msg=key)


def test_an_export_says_what_its_source_said(tmp_path):
  """And holds the files about text, through links too, and no others."""
  source = tmp_path / "source"
  source.mkdir()
  rewrite(
    "gemma2_tiny", source, eos_token_id=[1, 9], max_position_embeddings=48
  )
  (tmp_path / "blob").write_text("{}")
  (source / "tokenizer_config.json").symlink_to("../blob")
  (source / "generation_config.json").write_text('{"eos_token_id": [1, 8]}')
  (source / "additional_chat_templates").mkdir()
  (source / "additional_chat_templates/default.jinja").write_text("x")
  (source / "optimizer.pt").touch()
  formats.save_huggingface(
    *formats.load_huggingface(source), tmp_path / "saved", source=source
  )
  (tmp_path / "blob").unlink()
  assert sorted(x.name for x in (tmp_path / "saved").iterdir()) == [
    "additional_chat_templates",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer_config.json",
  ]
  assert (tmp_path / "saved/tokenizer_config.json").read_text() == "{}"
  config = json.loads((tmp_path / "saved/config.json").read_text())
  assert config["eos_token_id"] == [1, 9]
  assert config["max_position_embeddings"] == 48
  assert config["hidden_act"] == "gelu_pytorch_tanh"
  assert_same(
    formats.load_huggingface(tmp_path / "saved")[1], loaded("gemma2_tiny")[1]
  )


def test_an_export_of_another_source_is_refused(tmp_path):
  theirs = gemma_fixtures.FOLDER / "gemma3_tiny"
  with pytest.raises(ValueError, match="source= is another model"):
    formats.save_huggingface(
      *loaded("gemma2_tiny"), tmp_path / "saved", source=theirs
    )
  assert not list(tmp_path.iterdir())


def test_bfloat16_is_rounded_once(tmp_path):
  model, params = loaded("gemma2_tiny")
  model = model.clone(dtype=jnp.dtype("bfloat16"))
  formats.save_huggingface(model, params, tmp_path / "saved")
  again, masters = formats.load_huggingface(tmp_path / "saved")
  assert again == model
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  assert_same(masters, jax.tree.map(lambda x: x.astype(jnp.float32), rounded))
  _, kept = formats.load_huggingface(tmp_path / "saved", param_dtype="bfloat16")
  assert_same(kept, rounded)
  formats.save_huggingface(again, kept, tmp_path / "more")
  assert_same(formats.load_huggingface(tmp_path / "more")[1], masters)


def test_the_dtype_of_the_computation_can_be_chosen():
  model, params = formats.load_huggingface(
    gemma_fixtures.FOLDER / "gemma2_tiny", dtype="bfloat16"
  )
  assert model == loaded("gemma2_tiny")[0].clone(dtype=jnp.dtype("bfloat16"))
  assert_same(params, loaded("gemma2_tiny")[1])


def test_as_many_key_value_heads_as_heads(tmp_path):
  """Keys and values said twice are the same model, with one qkv matrix."""

  def repeat(tensors):
    for name, x in tensors.items():
      if "k_proj" in name or "v_proj" in name:
        heads = x.reshape(2, 16, 32)
        tensors[name] = np.repeat(heads, 2, axis=0).reshape(64, 32)

  rewrite("gemma2_tiny", tmp_path, repeat, num_key_value_heads=4)
  model, params = formats.load_huggingface(tmp_path)
  assert params["layer_0"]["attn"]["qkv_einsum"]["w"].shape == (3, 4, 32, 16)
  assert error_of(model, params, "gemma2_tiny") < 1e-4
  formats.save_huggingface(model, params, tmp_path / "saved")
  assert_same(formats.load_huggingface(tmp_path / "saved")[1], params)


@pytest.mark.slow
def test_host_memory_never_holds_the_whole_checkpoint(tmp_path):
  """Kept in half of its bytes, so the parameters alone are half of them."""
  model = models.get_model(
    "gemma2_tiny", num_layers=12, embed_dim=256, hidden_dim=512, head_dim=64
  )
  params = plain.random_params(model)
  formats.save_huggingface(model, params, tmp_path / "saved")
  stored = 4 * models.num_params(params)
  del params
  tracemalloc.start()
  _, read = formats.load_huggingface(tmp_path / "saved", param_dtype="bfloat16")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert stored == 4 * models.num_params(read) > 20e6
  assert peak < 0.75 * stored


def drop(tensors):
  del tensors["model.norm.weight"]
  del tensors["model.layers.3.mlp.up_proj.weight"]


def transpose(tensors):
  name = "model.layers.1.mlp.gate_proj.weight"
  tensors[name] = np.ascontiguousarray(tensors[name].T)


def add(tensors):
  tensors["score.weight"] = tensors["model.embed_tokens.weight"]


def quantise(tensors):
  name = "model.layers.1.mlp.gate_proj.weight"
  tensors[name] = tensors[name].astype(np.int8)


@pytest.mark.parametrize(
  ("change", "config", "message"),
  [
    (
      drop,
      {},
      "model.norm.weight is missing; model.layers.3.mlp.up_proj.weight is"
      r" missing\.|up_proj.weight is missing; model.norm.weight is missing\.",
    ),
    (
      transpose,
      {},
      r"gate_proj.weight has shape \(32, 64\) and not \(64, 32\)",
    ),
    (add, {}, "score.weight is left over"),
    (quantise, {}, "gate_proj.weight is of type I8"),
    (add, {"num_hidden_layers": 2, "layer_types": None}, "and 18 more"),
  ],
)
def test_a_checkpoint_that_does_not_fit(
  change, config, message, tmp_path, monkeypatch
):
  """Is refused before anything of it is read."""
  rewrite("gemma2_tiny", tmp_path, change, **config)
  monkeypatch.delattr(huggingface, "_load")
  with pytest.raises(ValueError, match=message):
    formats.load_huggingface(tmp_path)


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
  model, params = loaded("gemma2_tiny")

  def full(*_):
    raise OSError("No space left on device")

  monkeypatch.setattr(safetensors.numpy, "save_file", full)
  with pytest.raises(OSError, match="No space"):
    formats.save_huggingface(model, params, tmp_path / "saved")
  assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
  (tmp_path / "note.txt").write_text("mine")
  with pytest.raises(FileExistsError, match="choose another"):
    formats.save_huggingface(*loaded("gemma2_tiny"), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_parameters_of_another_model_are_not_saved(tmp_path):
  model, params = loaded("gemma2_tiny")
  other = params | {"layer_9": params["layer_0"]}
  with pytest.raises(ValueError, match="layer_9"):
    formats.save_huggingface(model, other, tmp_path / "saved")
  assert not list(tmp_path.iterdir())


# Layouts


class Counted:
  """An array that says how much of it was read."""

  def __init__(self, array):
    self.array, self.read = array, 0

  def __getitem__(self, index):
    part = self.array[index]
    self.read += part.size
    return part


@pytest.mark.parametrize(
  ("layout", "shape", "stored"),
  [
    (huggingface._VECTOR, (6,), (6,)),
    (huggingface._SAME, (4, 6), (4, 6)),
    (huggingface._TRANSPOSED, (4, 6), (6, 4)),
    (huggingface._HEADS_OUT, (4, 6, 2), (8, 6)),
    (huggingface._HEADS_IN, (4, 2, 6), (6, 8)),
  ],
)
def test_every_part_of_every_layout(layout, shape, stored):
  x = np.arange(np.prod(shape)).reshape(shape)
  theirs = layout.write(x)
  assert theirs.shape == layout.shape(shape) == stored
  halves = [(slice(None), slice(0, n // 2), slice(n // 2, n)) for n in shape]
  for index in itertools.product(*halves):
    counted = Counted(theirs)
    part = layout.read(counted, shape, index)
    np.testing.assert_array_equal(part, x[index])
    inside_a_head = layout.merged is not None and index[
      layout.order[layout.merged + 1]
    ] != slice(None)
    assert counted.read == part.size * (1 + inside_a_head)


def test_matrices_are_applied_as_transformers_applies_them():
  """There x W^T, with the heads side by side in the outputs or inputs."""
  rng = np.random.default_rng(0)
  w, x = rng.normal(size=(4, 6, 2)), rng.normal(size=6)
  heads = np.einsum("d,ndh->nh", x, w)
  ours = x @ huggingface._HEADS_OUT.write(w).T
  np.testing.assert_allclose(ours.reshape(4, 2), heads)
  w = rng.normal(size=(4, 2, 6))
  out = np.einsum("nh,nhd->d", heads, w)
  theirs = heads.reshape(8) @ huggingface._HEADS_IN.write(w).T
  np.testing.assert_allclose(theirs, out)


def test_parameters_are_made_of_these_tensors():
  model = models.get_model("gemma3_1b", num_layers=2)
  names = []
  for param in (
    "embedder/input_embedding",
    "layer_1/attn/kv_einsum/w",
    "layer_0/mlp/gating_einsum",
    "final_norm/scale",
  ):
    names += [t.name for t in huggingface.tensors_of_param(model, param)]
  assert names == [
    "model.embed_tokens.weight",
    "model.layers.1.self_attn.k_proj.weight",
    "model.layers.1.self_attn.v_proj.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.norm.weight",
  ]
