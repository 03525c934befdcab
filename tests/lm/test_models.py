"""pkpo_jax.lm.models against gemma alone and the published sizes."""

import dataclasses
import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from gemma import gm
from helpers import plain

from pkpo_jax.lm import models

LOCAL = gm.nn.config.AttentionType.LOCAL_SLIDING
GLOBAL = gm.nn.config.AttentionType.GLOBAL
SIZES = {
  "num_embed",
  "embed_dim",
  "hidden_dim",
  "num_heads",
  "head_dim",
  "num_kv_heads",
  "attention_types",
  "sliding_window_size",
}

BATCH = models.Prompts(plain.PROMPTS, plain.LENGTHS)

init_params = jax.jit(models.init_params, static_argnums=0)


def shapes(model):
  """The parameters as shapes: nothing is allocated."""
  return jax.eval_shape(lambda: models.init_params(model, jax.random.key(0)))


def num_params(model):
  return models.num_params(shapes(model))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "on_hugging_face", "width"),
  [("gemma2_2b", 2_614_341_888, 2304), ("gemma2_9b", 9_241_705_984, 3584)],
)
def test_gemma_2_has_its_published_size(name, on_hugging_face, width):
  """The checkpoints of the gemma package have 128 more rows of embedding."""
  model = models.get_model(name)
  assert num_params(model) == on_hugging_face + 128 * width
  assert model.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  "dtype", ["float16", "float8_e4m3fn", "int8", "bf16", "float64", None]
)
def test_a_type_that_gemma_exceeds_is_refused(dtype):
  """In float16 a policy would be uniform, and nothing would say so."""
  with pytest.raises(ValueError, match=f"dtype='{dtype}'.*takes 'bfloat16' or"):
    models.get_model("gemma2_tiny", dtype=dtype)
  with pytest.raises(ValueError, match=dtype):
    models.get_model("gemma2_tiny").clone(dtype=dtype)


def test_tiny_has_every_mechanism_of_the_2b():
  tiny = models.get_model("gemma2_tiny")
  large = models.get_model("gemma2_2b")
  for field in dataclasses.fields(large.config):
    if field.name not in SIZES:
      value = getattr(tiny.config, field.name)
      assert value == getattr(large.config, field.name), field.name
  assert tiny.config.attention_types == large.config.attention_types[:4]
  assert 1 < tiny.config.num_kv_heads < tiny.config.num_heads
  assert tiny.dtype == jnp.float32
  assert 300_000 < num_params(tiny) < 1_000_000


def test_tiny_has_the_parameters_of_the_2b_by_name():
  tiny = shapes(models.get_model("gemma2_tiny", num_layers=2))
  large = shapes(models.get_model("gemma2_2b", num_layers=2))
  assert jax.tree.structure(tiny) == jax.tree.structure(large)


def test_options_replace_those_of_the_preset():
  spec = ml_collections.ConfigDict({"name": "gemma2_tiny", "embed_dim": 64})
  model = models.get_model(spec, hidden_dim=48, dtype="bfloat16")
  assert (model.config.embed_dim, model.config.hidden_dim) == (64, 48)
  assert model.config.head_dim == 24
  assert model.dtype == jnp.bfloat16
  assert models.get_model(spec, embed_dim=72).config.embed_dim == 72
  assert dict(spec) == {"name": "gemma2_tiny", "embed_dim": 64}


def test_num_layers_repeats_or_cuts_the_pattern():
  def types(**options):
    return models.get_model("gemma2_tiny", **options).config.attention_types

  assert types(num_layers=1) == (LOCAL,)
  assert types(num_layers=3) == (LOCAL, GLOBAL, LOCAL)
  assert types(num_layers=6) == (LOCAL, GLOBAL) * 3
  assert types(num_layers=3, attention_types=(GLOBAL,)) == (GLOBAL,) * 3
  assert len(models.get_model("gemma2_2b", num_layers=2).config.attention_types)


def test_equal_specs_give_equal_models():
  """So that a function jitted with the model as static compiles once."""
  spec = ml_collections.ConfigDict({"name": "gemma2_tiny", "num_layers": 2})
  one, other = models.get_model(spec), models.get_model(spec)
  assert one == other
  assert hash(one) == hash(other)
  assert one != models.get_model(spec, embed_dim=48)


@pytest.mark.parametrize(
  ("spec", "options", "message"),
  [
    ("gemma2_1b", {}, "known: gemma2_tiny, gemma2_2b"),
    ("gemma2_tiny", {"width": 8}, r"\['width'\]"),
    ("gemma2_2b", {"lauers": 8}, "num_layers"),
    (ml_collections.ConfigDict({"embed_dim": 8}), {}, "known: gemma2_tiny"),
    ({"name": "gemma2_tiny", "depth": 3}, {}, "depth"),
  ],
)
def test_unknown_names_and_fields_are_errors(spec, options, message):
  with pytest.raises(ValueError, match=message):
    models.get_model(spec, **options)


@pytest.mark.slow
def test_init_params_are_those_of_gemma_but_for_the_embedding():
  model = models.get_model("gemma2_tiny", num_layers=1, num_embed=400)
  key = jax.random.key(3)

  @jax.jit
  def both(key):
    initialised = model.init(key, jnp.ones((1, 1), jnp.int32))
    return models.init_params(model, key), initialised["params"]

  params, expected = both(key)
  table = params.pop("embedder")["input_embedding"]
  expected.pop("embedder")
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  # 38,400 numbers: the standard error of their deviation is 0.4 %.
  assert np.std(table) == pytest.approx(96**-0.5, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("cap", [5.0, None])
def test_unembed_gives_the_models_own_logits(cap):
  model = plain.tiny_model(final_logit_softcap=cap)
  params = plain.random_params(model)
  logits, hidden = plain.forward(model, params, plain.PROMPTS)
  ours = models.unembed(model, params, hidden)
  np.testing.assert_allclose(ours, logits, atol=1e-5)
  assert np.abs(logits).max() > 2, "too small for the soft-cap to matter"


def test_unembed_is_float32():
  model = plain.tiny_model(dtype="bfloat16")
  params = models.compute_params(model, plain.random_params(model))
  hidden = jnp.ones((2, 3, 32), jnp.bfloat16)
  logits = models.unembed(model, params, hidden)
  assert logits.dtype == jnp.float32
  assert logits.shape == (2, 3, plain.VOCABULARY)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 2])
def test_masters_are_float32_and_compute_params_are_rounded(rank):
  model = models.get_model(
    "gemma2_tiny", dtype="bfloat16", num_layers=1, lora_rank=rank
  )
  masters = init_params(model, jax.random.key(0))
  assert {x.dtype for x in jax.tree.leaves(masters)} == {jnp.dtype("float32")}
  fine = masters["layer_0"]["mlp"]["linear"]
  assert np.any(fine != fine.astype(jnp.bfloat16)), "initialised in bfloat16"
  rounded = models.compute_params(model, masters)
  assert {x.dtype for x in jax.tree.leaves(rounded)} == {jnp.dtype("bfloat16")}
  tokens = jnp.ones((1, 3), jnp.int32)
  out = jax.eval_shape(model.apply, {"params": rounded}, tokens)
  assert out.logits.dtype == jnp.bfloat16


def test_remat_and_lora_rank_are_checked():
  with pytest.raises(ValueError, match="remat='some' must be one of"):
    models.get_model("gemma2_tiny", remat="some")
  with pytest.raises(ValueError, match="lora_rank=0 must be an integer"):
    models.get_model("gemma2_tiny", lora_rank=0)


@pytest.mark.slow
def test_one_process_makes_adapters_of_several_ranks():
  """flax keeps programs by the fields of a module, which must tell them."""
  for rank in (2, 3, 2):
    params = init_params(plain.tiny_model(lora_rank=rank), jax.random.key(0))
    flat = flax.traverse_util.flatten_dict(params)
    ranks = {x.shape[-1] for name, x in flat.items() if name[-1] == "a"}
    assert ranks == {rank}


@pytest.mark.slow
def test_lora_starts_as_the_model_it_wraps():
  model, params = plain.tiny()
  wrapped = plain.tiny_model(lora_rank=2)
  lora = init_params(wrapped, jax.random.key(1))
  base, adapters = models.split(wrapped, lora)
  assert jax.tree.structure(base) == jax.tree.structure(params)
  assert jax.tree.structure(models.merge(base, adapters)) == (
    jax.tree.structure(lora)
  )
  assert models.split(model, params) == ({}, params)
  both = models.merge(params, adapters)
  ours = prefill(wrapped, both, BATCH, training=False)
  theirs = prefill(model, params, BATCH, training=False)
  np.testing.assert_array_equal(ours.hidden, theirs.hidden)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_adapters_count_as_in_a_plain_forward(remat):
  wrapped = plain.tiny_model(lora_rank=2, remat=remat)
  params = plain.random_params(wrapped)
  sequences, starts = plain.join(*BATCH, plain.COMPLETIONS)
  _, hidden = plain.forward(wrapped, params, sequences)
  _, without = plain.forward(
    models.without_adapters(wrapped),
    models.split(wrapped, params)[0],
    sequences,
  )
  assert np.abs(hidden - without).max() > 0.1
  ours = read_whole(wrapped, params)
  np.testing.assert_allclose(ours, plain.gather(hidden, starts, 6), atol=1e-5)


# Forward passes


prefill = jax.jit(models.prefill, static_argnames=("model", "training"))


@functools.partial(jax.jit, static_argnums=0)
def read_whole(model, params):
  """[B n, T, D] by `teacher_force`, in one program."""
  prefix = models.prefill(model, params, BATCH, training=True)
  return models.teacher_force(model, params, prefix, plain.COMPLETIONS)


@pytest.fixture(scope="module", params=["plain", "groups", "qk_norm"])
def variant(request):
  """As many key-value heads as heads, fewer, and Gemma 3's norms."""
  changes = {
    "plain": {"num_kv_heads": 4},
    "groups": {},
    "qk_norm": {"use_qk_norm": True, "num_kv_heads": 1},
  }
  model = plain.tiny_model(**changes[request.param])
  return model, plain.random_params(model)


@pytest.fixture(scope="module")
def prefix(variant):
  return prefill(*variant, BATCH, training=False)


@pytest.fixture(scope="module")
def expected(variant):
  """[B, n, T, D]: from the last token of the prompt on, by gemma alone."""
  model, params = variant
  sequences, starts = plain.join(*BATCH, plain.COMPLETIONS)
  _, hidden = plain.forward(model, params, sequences)
  return plain.gather(hidden, starts, 7).reshape(3, 2, 7, -1)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_prompts_that_are_taken_by_index(variant, expected, remat):
  """In any order, any number of times, from layers that are a scan or not."""
  model, params = variant
  model = model.clone(remat=remat)
  rows = np.array([2, 0, 2, 1], np.int32)

  @jax.jit
  def read(params):
    prefix = models.prefill(model, params, BATCH, training=True)
    return models.teacher_force(
      model, params, models.take(prefix, rows), plain.COMPLETIONS[rows]
    )

  ours = read(params).reshape(4, 2, *plain.COMPLETIONS.shape[2:], -1)
  np.testing.assert_allclose(ours, expected[rows, :, :-1], atol=1e-5)


@pytest.mark.slow
def test_the_reference_cannot_see_how_a_sequence_is_filled_up(
  variant, expected
):
  model, params = variant
  length = plain.LENGTHS[0]
  short = [*plain.PROMPTS[0, :length], *plain.COMPLETIONS[0, 1]]
  _, hidden = plain.forward(model, params, np.array([short]))
  alone = hidden[0, length - 1 :]
  np.testing.assert_allclose(alone, expected[0, 1], atol=1e-5)


def test_prompts_give_the_hidden_state_after_them(prefix, expected):
  np.testing.assert_allclose(prefix.hidden, expected[:, 0, 0], atol=1e-5)
  np.testing.assert_allclose(prefix.hidden, expected[:, 1, 0], atol=1e-5)
  np.testing.assert_array_equal(prefix.lengths, plain.LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 1, 2])
def test_decoding_in_pieces_equals_one_plain_forward(
  variant, prefix, expected, step
):
  """The whole completion at once, one token at a time, and in between."""
  model, params = variant
  decode = jax.jit(models.decode, static_argnums=0)
  cache = models.grow_cache(models.empty_cache(model, 6), 6)
  rows, pieces = plain.COMPLETIONS.reshape(6, 6), []
  for start in range(0, 6, step):
    tokens = rows[:, start : start + step]
    hidden, cache = decode(model, params, prefix, tokens, cache, start)
    pieces.append(hidden)
  ours = np.concatenate(pieces, axis=1).reshape(3, 2, 6, -1)
  np.testing.assert_allclose(ours, expected[:, :, 1:], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_whole_completions_equal_one_plain_forward(variant, expected, remat):
  model, params = variant
  ours = read_whole(model.clone(remat=remat), params).reshape(3, 2, 6, -1)
  np.testing.assert_allclose(ours, expected[:, :, :6], atol=1e-5)
