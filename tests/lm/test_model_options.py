"""lm.model_options: what a field of a model may be."""

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
  ],
)
def test_an_option_of_another_type_is_an_error(name, value):
  with pytest.raises(ValueError, match=f"{name}={value!r} must be"):
    models.get_model("gemma2_tiny", **{name: value})


def test_a_soft_cap_may_be_none_or_whole():
  config = models.get_model("gemma2_tiny", final_logit_softcap=None).config
  assert config.final_logit_softcap is None
  config = models.get_model("gemma2_tiny", attn_logits_soft_cap=30).config
  assert config.attn_logits_soft_cap == 30


def test_layers_repeat_or_cut_the_pattern():
  kinds = models.get_model("gemma2_tiny").config.attention_types
  five = models.get_model("gemma2_tiny", num_layers=5).config.attention_types
  assert five == (*kinds, kinds[0])
