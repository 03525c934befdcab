"""pkpo_jax.lm.formats.huggingface_config against the published configs."""

import json
import pathlib

import jax.numpy as jnp
import pytest
from gemma import gm

from pkpo_jax.lm import models
from pkpo_jax.lm.formats import huggingface_config

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"

# The sizes of the published checkpoints, as their older configs say them.
GEMMA2 = {
  "model_type": "gemma2",
  "vocab_size": 256_000,
  "head_dim": 256,
  "hidden_activation": "gelu_pytorch_tanh",
  "final_logit_softcapping": 30.0,
  "attn_logit_softcapping": 50.0,
  "query_pre_attn_scalar": 256,
  "sliding_window": 4096,
  "rms_norm_eps": 1e-6,
  "rope_theta": 10_000.0,
  "attention_bias": False,
  "attention_dropout": 0.0,
  "torch_dtype": "bfloat16",
}
GEMMA3 = {
  "model_type": "gemma3_text",
  "vocab_size": 262_144,
  "head_dim": 256,
  "num_attention_heads": 4,
  "num_key_value_heads": 1,
  "final_logit_softcapping": None,
  "attn_logit_softcapping": None,
  "query_pre_attn_scalar": 256,
  "sliding_window": 512,
  "rope_theta": 1_000_000,
  "rope_local_base_freq": 10_000,
  "rope_scaling": None,
  "sliding_window_pattern": 6,
  "torch_dtype": "bfloat16",
}


def sized(base, width, hidden, layers, heads=4, kv_heads=1, **others):
  return base | {
    "hidden_size": width,
    "intermediate_size": hidden,
    "num_hidden_layers": layers,
    "num_attention_heads": heads,
    "num_key_value_heads": kv_heads,
    **others,
  }


PUBLISHED = {
  "gemma2_2b": sized(GEMMA2, 2304, 9216, 26, 8, 4),
  "gemma2_9b": sized(GEMMA2, 3584, 14336, 42, 16, 8),
  "gemma2_27b": sized(
    GEMMA2, 4608, 36864, 46, 32, 16, head_dim=128, query_pre_attn_scalar=144
  ),
  "gemma3_270m": sized(GEMMA3, 640, 2048, 18),
  "gemma3_1b": sized(GEMMA3, 1152, 6912, 26),
}


def fixture(name, **changes):
  config = json.loads((FIXTURES / name / "config.json").read_text())
  return config | changes


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_the_presets_of_gemma(name):
  config = PUBLISHED[name]
  model = huggingface_config.read_config(config)
  assert model == models.get_model(name, num_embed=config["vocab_size"])
  in_float32 = huggingface_config.read_config(config, "float32")
  assert in_float32 == model.clone(dtype=jnp.dtype("float32"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_of_a_preset_is_what_is_published(name):
  model = models.get_model(name)
  written = huggingface_config.write_config(model)
  assert json.loads(json.dumps(written)) == written
  assert huggingface_config.read_config(written) == model
  for key in PUBLISHED[name].keys() & written.keys() - {"vocab_size"}:
    assert written[key] == PUBLISHED[name][key], key
  assert written["architectures"] == [f"Gemma{name[5]}ForCausalLM"]


@pytest.mark.parametrize("name", ["gemma2_tiny", "gemma3_tiny"])
def test_newer_configs_say_the_same(name):
  new = fixture(name)
  old = dict(new)
  del old["rope_parameters"], old["layer_types"]
  assert huggingface_config.read_config(old) == huggingface_config.read_config(
    new
  )
  old["torch_dtype"] = old.pop("dtype")
  assert huggingface_config.read_config(old).dtype == jnp.float32


def test_linear_scaling_of_the_rotary_positions():
  scaling = {"rope_type": "linear", "factor": 8.0}
  config = dict(PUBLISHED["gemma3_1b"], rope_scaling=scaling)
  model = huggingface_config.read_config(config)
  assert model.config.global_scale_factor == 8
  assert model.config.local_scale_factor == 1
  assert (
    huggingface_config.read_config(huggingface_config.write_config(model))
    == model
  )
  config = fixture("gemma2_tiny", rope_parameters=scaling | {"rope_theta": 5e5})
  model = huggingface_config.read_config(config)
  assert model.config.global_scale_factor == model.config.local_scale_factor
  assert model.config.local_base_frequency == 5e5


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("model_type", "gemma3", "'gemma3'; known: gemma2, gemma3_text"),
    ("model_type", "llama", "'llama'"),
    ("query_pre_attn_scalar", 144, "=144.* possible: 16, 8"),
    ("attention_bias", True, "attention_bias=True"),
    ("hidden_activation", "silu", "'silu'.*possible: 'gelu_pytorch_tanh'"),
    ("rms_norm_eps", 1e-5, "1e-05"),
    ("tie_word_embeddings", False, "tie_word_embeddings=False"),
    ("use_bidirectional_attention", True, "use_bidirectional"),
    ("attention_dropout", 0.1, "attention_dropout=0.1"),
    ("quantization_config", {"bits": 4}, "quantization_config"),
    ("layer_types", ["full_attention"], "1 layer_types for .*=4"),
    ("layer_types", ["full_attention"] * 3 + ["chunked"], "'chunked'"),
    ("rope_parameters", {"rope_type": "yarn"}, "'yarn'.*'linear'"),
    ("rope_parameters", {"full_attention": {}}, "rope='full_attention'"),
  ],
)
def test_what_gemma_cannot_represent_is_refused(key, value, message):
  with pytest.raises(ValueError, match=message):
    huggingface_config.read_config(fixture("gemma2_tiny", **{key: value}))


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("attn_logit_softcapping", 50.0),
    ("rope_parameters", {"rope_theta": 1e6, "rope_type": "default"}),
  ],
)
def test_what_transformers_leaves_unused_in_gemma_3_is_refused(key, value):
  with pytest.raises(ValueError, match=key):
    huggingface_config.read_config(fixture("gemma3_tiny", **{key: value}))


def test_keys_that_are_missing_are_named():
  config = fixture("gemma2_tiny")
  del config["head_dim"], config["query_pre_attn_scalar"]
  with pytest.raises(ValueError, match="lacks head_dim, query_pre_attn_scalar"):
    huggingface_config.read_config(config)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"use_post_ffw_norm": False}, "use_post_ffw_norm=False"),
    ({"local_base_frequency": 500}, "local_base_frequency=500"),
    ({"local_scale_factor": 2.0}, "local_scale_factor=2.0"),
    ({"use_qk_norm": True}, "attn_logit_softcapping=50.0"),
  ],
)
def test_what_hugging_face_cannot_represent_is_refused(changes, message):
  model = models.get_model("gemma2_tiny", **changes)
  with pytest.raises(ValueError, match=f"Not a Gemma of .*{message}"):
    huggingface_config.write_config(model)


def test_the_query_scalar_is_a_number_there():
  """Two of gemma's ways to say it are one where heads are D / N wide."""
  ways = gm.nn.config.QueryPreAttentionNormalisation
  way = ways.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS
  model = models.get_model("gemma2_tiny", query_pre_attn_norm=way)
  written = huggingface_config.write_config(model)
  assert written["query_pre_attn_scalar"] == 24
  way = ways.BY_EMBED_DIM_DIV_NUM_HEADS
  with pytest.raises(ValueError, match="query_pre_attn_scalar"):
    huggingface_config.write_config(
      models.get_model("gemma2_tiny", query_pre_attn_norm=way)
    )
