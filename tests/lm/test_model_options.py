"""lm.model_options: what a field of a model may be."""

import re

import pytest

from pkpo_jax.lm import models


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("num_layers", "two"),
    ("num_layers", 2.0),
    ("embed_dim", True),
    ("final_logit_softcap", "30"),
    ("use_qk_norm", 1),
    ("lora_rank", "8"),
    ("lora_rank", True),
    ("attention_types", ("GLOBAL",)),
    ("attention_types", ()),
    ("attention_types", 5),
    ("query_pre_attn_norm", "BY_ONE"),
    ("global_scale_factor", None),
    ("sliding_window_size", None),
  ],
)
def test_an_option_of_another_type_is_an_error(name, value):
  message = re.escape(f"{name}={value!r} must be")
  with pytest.raises(ValueError, match=message):
    models.get_model("gemma2_tiny", **{name: value})


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("num_layers", 0, "must be an integer of at least 1"),
    ("num_layers", 5000, "must be at most 1000"),
    ("sliding_window_size", 0, "must be an integer of at least 1"),
    ("num_embed", -1, "must be an integer of at least 1"),
    ("head_dim", 23, "must be even"),
    ("num_kv_heads", 3, "must divide num_heads=4"),
    ("final_logit_softcap", 0, "must be above 0"),
    ("local_base_frequency", 0, "must be above 0"),
    ("local_scale_factor", -1.0, "must be above 0"),
  ],
)
def test_a_size_that_no_model_has_is_an_error(name, value, message):
  with pytest.raises(ValueError, match=f"^{name}={value!r} {message}"):
    models.get_model("gemma2_tiny", **{name: value})


def test_the_vision_tower_is_no_option():
  with pytest.raises(ValueError, match=r"\['vision_encoder'\]; known: name,"):
    models.get_model("gemma3_4b", vision_encoder=None)


def test_a_soft_cap_may_be_none_or_whole():
  config = models.get_model("gemma2_tiny", final_logit_softcap=None).config
  assert config.final_logit_softcap is None
  config = models.get_model("gemma2_tiny", attn_logits_soft_cap=30).config
  assert config.attn_logits_soft_cap == 30


def test_layers_repeat_or_cut_the_pattern():
  kinds = models.get_model("gemma2_tiny").config.attention_types
  five = models.get_model("gemma2_tiny", num_layers=5).config.attention_types
  assert five == (*kinds, kinds[0])
