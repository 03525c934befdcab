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
    ("model_type", "llama", "='llama'; what can be read is gemma2 and gemma3_"),
    ("model_type", "gemma3n_text", "='gemma3n_text'"),
    ("model_type", None, "=None"),
    ("query_pre_attn_scalar", 144, "=144.* possible: 16, 8"),
    ("attention_bias", True, "attention_bias=True"),
    ("hidden_activation", "silu", "'silu'.*possible: 'gelu_pytorch_tanh'"),
    ("rms_norm_eps", 1e-5, "1e-05"),
    ("use_bidirectional_attention", True, "use_bidirectional"),
    ("attention_dropout", 0.1, "attention_dropout=0.1"),
    ("quantization_config", {"bits": 4}, "quantization_config"),
    ("layer_types", ["full_attention"], "1 layer_types for .*=4"),
    ("layer_types", ["full_attention"] * 3 + ["chunked"], "'chunked'"),
    ("rope_parameters", {"rope_type": "yarn"}, "'yarn'.*'linear'"),
    ("rope_parameters", {"full_attention": {}}, "rope='full_attention'"),
    ("rope_parameters", {"rope_type": "linear"}, "factor=None"),
    ("rope_parameters", {"rope_type": "linear", "factor": "8"}, "factor='8'"),
    ("rope_parameters", {"rope_theta": None}, "rope_theta=None"),
    ("rope_scaling", {"type": "linear", "factor": 2}, "and rope_scaling"),
    ("partial_rotary_factor", 0.5, "partial_rotary_factor=0.5"),
    ("transformers_weights", "other.safetensors", "'other.safetensors'"),
    ("head_dim", None, "head_dim=None must be an integer of at"),
    ("hidden_size", "32", "hidden_size='32'"),
    ("vocab_size", 128.0, "vocab_size=128.0"),
    ("sliding_window", None, "sliding_window=None"),
    ("num_hidden_layers", True, "num_hidden_layers=True"),
    ("num_hidden_layers", 10**10, "num_hidden_layers=10000000000 must be at m"),
    ("num_key_value_heads", 3, "num_key_value_heads=3 must divide num_atten"),
    ("head_dim", 7, "head_dim=7 must be even"),
    ("final_logit_softcapping", 0.0, "final_logit_softcapping=0.0"),
    ("dtype", "float8_e4m3fn", "dtype='float8_e4m3fn'"),
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


# As published since; what equals the defaults of `transformers` is left out.
SPARSE = {
  "gemma2_2b": {"model_type": "gemma2", "torch_dtype": "bfloat16"},
  "gemma3_4b": {
    "hidden_size": 2560,
    "intermediate_size": 10_240,
    "num_hidden_layers": 34,
  },
  "gemma3_12b": {
    "hidden_size": 3840,
    "intermediate_size": 15_360,
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
  },
  "gemma3_27b": {
    "head_dim": 128,
    "hidden_size": 5376,
    "intermediate_size": 21_504,
    "num_attention_heads": 32,
    "num_hidden_layers": 62,
    "num_key_value_heads": 16,
    "query_pre_attn_scalar": 168,
  },
}


def multimodal(text):
  """The config.json around a text tower's."""
  scaling = {"factor": 8.0, "rope_type": "linear"}
  shared = {"model_type": "gemma3_text", "sliding_window": 1024}
  return {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "eos_token_id": [1, 106],
    "text_config": {"rope_scaling": scaling, **shared, **text},
    "torch_dtype": "bfloat16",
    "vision_config": {"model_type": "siglip_vision_model"},
  }


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_configs_are_the_presets_of_gemma(name):
  config = SPARSE[name]
  if name.startswith("gemma3"):
    config = multimodal(config)
  model = huggingface_config.read_config(config)
  rows = 262_208 if name.startswith("gemma3") else 256_000
  assert model == models.get_model(name, num_embed=rows)


def test_an_export_of_a_text_tower_says_what_the_whole_said():
  config = multimodal(SPARSE["gemma3_4b"])
  model = huggingface_config.read_config(config)
  written = huggingface_config.write_config(model, config)
  assert huggingface_config.read_config(written) == model
  assert written["model_type"] == "gemma3_text"
  assert written["eos_token_id"] == [1, 106]
  assert written["max_position_embeddings"] == 131_072
  assert "vision_config" not in written


@pytest.mark.parametrize(
  ("rope", "factor"),
  [
    ({"rope_type": "default", "factor": 8.0}, 1),
    ({"factor": 8.0}, 1),
    ({"rope_type": "linear", "factor": 8}, 8),
    ({"type": "linear", "rope_type": "default", "factor": 8}, 1),
  ],
)
def test_a_factor_counts_where_positions_are_linear(rope, factor):
  """As `transformers` has it, whichever key names the type."""
  config = dict(PUBLISHED["gemma3_1b"], rope_scaling=rope)
  model = huggingface_config.read_config(config)
  assert model.config.global_scale_factor == factor


def test_the_older_key_of_a_type_is_gemma_2s():
  """In Gemma 3 `transformers` 5.24 overlooks it, which older ones did not."""
  rope = {"type": "linear", "factor": 8}
  config = PUBLISHED["gemma2_2b"] | {"rope_scaling": rope}
  model = huggingface_config.read_config(config)
  assert model.config.global_scale_factor == 8
  with pytest.raises(ValueError, match="write `rope_type`"):
    huggingface_config.read_config(
      PUBLISHED["gemma3_1b"] | {"rope_scaling": rope}
    )


def test_gemma_2_has_a_pattern_of_its_own():
  """`transformers` does not listen to the key there."""
  config = PUBLISHED["gemma2_2b"]
  model = huggingface_config.read_config(config | {"sliding_window_pattern": 6})
  assert model == huggingface_config.read_config(config)


@pytest.mark.parametrize(
  ("said", "dtype"),
  [
    ("torch.bfloat16", "bfloat16"),
    ("float16", "float32"),
    ("torch.float16", "float32"),
    (None, "float32"),
  ],
)
def test_dtypes_as_they_are_written(said, dtype):
  config = PUBLISHED["gemma2_2b"] | {"torch_dtype": said}
  assert huggingface_config.read_config(config).dtype == jnp.dtype(dtype)


def test_float16_is_not_computed_in():
  with pytest.raises(ValueError, match=r"float16.*takes 'bfloat16' or"):
    huggingface_config.read_config(PUBLISHED["gemma2_2b"], "float16")


@pytest.mark.parametrize(
  ("key", "value"),
  [("eos_token_id", [1, 107]), ("max_position_embeddings", 4096), ("mine", 3)],
)
def test_what_a_model_does_not_determine_is_taken_from_its_source(key, value):
  source = fixture("gemma3_tiny", **{key: value})
  model = huggingface_config.read_config(source)
  assert huggingface_config.write_config(model).get(key) != value
  written = huggingface_config.write_config(model, source)
  assert written[key] == value
  assert huggingface_config.read_config(written) == model


def test_a_context_that_a_source_leaves_out_is_that_of_transformers():
  source = fixture("gemma3_tiny")
  del source["max_position_embeddings"]
  model = huggingface_config.read_config(source)
  written = huggingface_config.write_config(model, source)
  assert written["max_position_embeddings"] == 131_072
  fresh = huggingface_config.write_config(model)
  assert fresh["max_position_embeddings"] == 32_768


def test_a_source_of_another_model_is_refused():
  model = models.get_model("gemma2_tiny")
  with pytest.raises(ValueError, match="source= is another model: "):
    huggingface_config.write_config(model, fixture("gemma3_tiny"))


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
