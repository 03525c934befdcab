"""lm.formats.huggingface against what transformers makes of the files."""

import dataclasses
import functools
import json
import pathlib
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from gemma import gm, peft
from helpers import plain
from orbax import checkpoint as ocp

from pkpo_jax.lm import models, sampler
from pkpo_jax.lm.formats import huggingface

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
NAMES = ("gemma2_tiny", "gemma3_tiny")
QUERY = gm.nn.config.QueryPreAttentionNormalisation


@functools.cache
def loaded(name):
  return huggingface.load_huggingface(FIXTURES / name)


@functools.cache
def expected(name):
  return dict(np.load(FIXTURES / name / "expected.npz"))


def assert_same(params, others):
  jax.tree.map(np.testing.assert_array_equal, params, others)
  assert jax.tree.map(lambda x: x.dtype, params) == jax.tree.map(
    lambda x: x.dtype, others
  )


def error_of(model, params, name):
  logits, _ = plain.forward(model, params, expected(name)["tokens"])
  return np.abs(logits - expected(name)["logits"]).max()


def read_tensors(folder):
  files = sorted(folder.glob("*.safetensors"))
  return {
    name: x
    for file in files
    for name, x in safetensors.numpy.load_file(file).items()
  }


def rewrite(name, folder, change=lambda tensors: None, **config):
  """A copy of a fixture in one file, with changed tensors and config."""
  tensors = read_tensors(FIXTURES / name)
  change(tensors)
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  old = json.loads((FIXTURES / name / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps(old | config))


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name):
  """In float32 and at every position, far beyond the sliding window."""
  model, params = loaded(name)
  tokens = expected(name)["tokens"]
  assert tokens.shape[1] >= 3 * model.config.sliding_window_size
  assert error_of(model, params, name) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_logits_through_the_cache_are_too(name):
  model, params = loaded(name)
  tokens, logits = expected(name)["tokens"], expected(name)["logits"]
  R, L = tokens.shape
  lengths, P = np.array([3, 9, 12]), 12
  rows = [np.arange(length, length + L - P) for length in lengths]
  completions = np.take_along_axis(tokens, np.stack(rows), axis=1)
  prompt = np.where(np.arange(P) < lengths[:, None], tokens[:, :P], 77)
  hidden, read = models.prefill(model, params, prompt, lengths, training=False)
  cache = models.grow_cache(models.empty_cache(model, R), L - P)
  more, _ = models.decode(
    model, params, read, lengths, completions, cache, start=0
  )
  hidden = jnp.concatenate([hidden[:, None], more], axis=1)
  ours = models.unembed(model, params, hidden)
  theirs = np.stack(
    [logits[r, n - 1 : n + L - P] for r, n in zip(range(R), lengths)]
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


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


@pytest.mark.parametrize("name", NAMES)
def test_hugging_face_round_trip_keeps_every_bit(name, tmp_path):
  model, params = loaded(name)
  huggingface.save_huggingface(
    model, params, tmp_path / "new" / "saved", max_shard_bytes=30_000
  )
  again, read = huggingface.load_huggingface(tmp_path / "new" / "saved")
  assert again == model
  assert_same(read, params)
  assert error_of(again, read, name) < 1e-4
  assert [p.name for p in (tmp_path / "new").iterdir()] == ["saved"]


@pytest.mark.parametrize("name", NAMES)
def test_the_saved_tensors_are_those_of_transformers(name, tmp_path):
  model, params = loaded(name)
  huggingface.save_huggingface(model, params, tmp_path / "saved")
  ours, theirs = read_tensors(tmp_path / "saved"), read_tensors(FIXTURES / name)
  assert ours.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(ours[key], value, err_msg=key)


def test_bfloat16_is_rounded_once(tmp_path):
  model, params = loaded("gemma2_tiny")
  model = model.clone(dtype=jnp.dtype("bfloat16"))
  huggingface.save_huggingface(model, params, tmp_path / "saved")
  again, masters = huggingface.load_huggingface(tmp_path / "saved")
  assert again == model
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  assert_same(masters, jax.tree.map(lambda x: x.astype(jnp.float32), rounded))
  _, kept = huggingface.load_huggingface(
    tmp_path / "saved", param_dtype="bfloat16"
  )
  assert_same(kept, rounded)
  huggingface.save_huggingface(again, kept, tmp_path / "more")
  assert_same(huggingface.load_huggingface(tmp_path / "more")[1], masters)


def test_the_dtype_of_the_computation_can_be_chosen():
  model, params = huggingface.load_huggingface(
    FIXTURES / "gemma2_tiny", dtype="bfloat16"
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
  model, params = huggingface.load_huggingface(tmp_path)
  assert params["layer_0"]["attn"]["qkv_einsum"]["w"].shape == (3, 4, 32, 16)
  assert error_of(model, params, "gemma2_tiny") < 1e-4
  huggingface.save_huggingface(model, params, tmp_path / "saved")
  assert_same(huggingface.load_huggingface(tmp_path / "saved")[1], params)


def test_host_memory_never_holds_the_whole_checkpoint(tmp_path):
  """Kept in half of its bytes, so the parameters alone are half of them."""
  model = models.get_model(
    "gemma2_tiny", num_layers=12, embed_dim=256, hidden_dim=512, head_dim=64
  )
  params = plain.random_params(model)
  huggingface.save_huggingface(model, params, tmp_path / "saved")
  stored = 4 * models.num_params(params)
  del params
  tracemalloc.start()
  _, read = huggingface.load_huggingface(
    tmp_path / "saved", param_dtype="bfloat16"
  )
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
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]


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
    (add, {}, "lm_head.weight is left over"),
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
    huggingface.load_huggingface(tmp_path)


@pytest.mark.parametrize(
  "save", [huggingface.save_huggingface, huggingface.save_gemma]
)
def test_nothing_is_overwritten(save, tmp_path):
  model, params = loaded("gemma2_tiny")
  (tmp_path / "note.txt").write_text("mine")
  with pytest.raises(FileExistsError, match="choose another"):
    save(model, params, tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
  model, params = loaded("gemma2_tiny")

  def full(*_):
    raise OSError("No space left on device")

  monkeypatch.setattr(safetensors.numpy, "save_file", full)
  with pytest.raises(OSError, match="No space"):
    huggingface.save_huggingface(model, params, tmp_path / "saved")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "save", [huggingface.save_huggingface, huggingface.save_gemma]
)
def test_parameters_of_another_model_are_not_saved(save, tmp_path):
  model, params = loaded("gemma2_tiny")
  other = params | {"layer_9": params["layer_0"]}
  del other["final_norm"]
  with pytest.raises(ValueError, match="final_norm/scale is missing; layer_9"):
    save(model, other, tmp_path / "saved")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "save", [huggingface.save_huggingface, huggingface.save_gemma]
)
def test_adapters_are_not_saved_as_a_gemma(save, tmp_path):
  model = models.get_model("gemma2_tiny", lora_rank=2)
  params = jax.tree.map(
    lambda x: jnp.ones(x.shape, x.dtype), models.abstract_params(model)
  )
  with pytest.raises(ValueError, match=r"LoRA.*split_params"):
    save(model, params, tmp_path / "adapted")
  base = peft.split_params(params).original
  save(model.model, base, tmp_path / "base")


@pytest.mark.parametrize("name", NAMES)
def test_gemma_round_trip_keeps_every_bit(name, tmp_path, monkeypatch):
  model, params = loaded(name)
  monkeypatch.chdir(tmp_path)
  huggingface.save_gemma(model, params, "saved")
  again, read = huggingface.load_gemma("saved")
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
  huggingface.save_gemma(model, params, tmp_path / "saved")
  again, read = huggingface.load_gemma(
    tmp_path / "saved", param_dtype="bfloat16"
  )
  assert again == model
  assert_same(read, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
  with pytest.raises(ValueError, match="Not a Gemma of Hugging Face"):
    huggingface.save_huggingface(model, params, tmp_path / "other")


def test_addresses_and_paths_become_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  address = gm.ckpts.CheckpointPath.GEMMA2_2B_IT
  assert str(huggingface._absolute(address)) == address
  assert str(huggingface._absolute(tmp_path / "a")) == str(tmp_path / "a")
  assert str(huggingface._absolute("a")) == str(tmp_path / "a")


def flat(params):
  """As gemma's checkpoints are published."""
  out = {}
  for name, x in huggingface._named(params).items():
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
  _, read = huggingface.load_gemma(tmp_path / "saved", model=model)
  assert_same(read, jax.tree.map(lambda x: x.astype(jnp.float32), half))
  with pytest.raises(ValueError, match=r"'embed_dim': 32, .*give its model"):
    huggingface.load_gemma(tmp_path / "saved")
  other = models.get_model("gemma2_tiny")
  with pytest.raises(
    ValueError, match=r"shape \(128, 32\) and not \(128, 96\)"
  ):
    huggingface.load_gemma(tmp_path / "saved", model=other)


@pytest.mark.parametrize("name", models.PRESETS)
def test_the_preset_is_known_by_its_size(name):
  model = models.get_model(name, num_embed=300)
  found = huggingface._shapes(models.abstract_params(model))
  assert huggingface._preset(found) == model


def test_where_there_is_no_checkpoint_of_gemma(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no folder .*nothing"):
    huggingface.load_gemma(tmp_path / "nothing")
  with pytest.raises(FileNotFoundError, match="no checkpoint of gemma"):
    huggingface.load_gemma(FIXTURES / "gemma2_tiny")
