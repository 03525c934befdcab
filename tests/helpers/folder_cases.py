"""FORMS: what has to become of each form that a model folder has."""

import ml_dtypes
import numpy as np
from helpers import folder_forms as forms
from helpers import templates
from helpers.folder_forms import HEAD, NORM, TABLE, TAGS, Form, config

UP = "model.layers.0.mlp.up_proj.weight"
LINEAR = {"rope_type": "linear", "factor": 8.0}
GLOBAL, LOCAL = "full_attention", "sliding_attention"
BFLOAT16 = ml_dtypes.bfloat16

# Right weights under other names, and what is beside them.
NAMES = {
  "gemma2": Form(config(), "gemma2"),
  "gemma3": Form(config()),
  "no_prefix": Form(forms.renamed(lambda x: x.removeprefix("model."))),
  "compiled": Form(forms.renamed("_orig_mod.{}".format), like="gemma3"),
  "parallel": Form(forms.renamed("module.{}".format), like="gemma3"),
  "merged": Form(forms.renamed("base_model.model.{}".format), like="gemma3"),
  "whole": Form(forms.whole),
  "newer_whole": Form(forms.newer_whole),
  "buffer": Form(forms.added("model.rotary_emb.inv_freq", np.ones(4))),
  "head": Form(forms.copied(TABLE, HEAD)),
  "head_alone": Form(forms.renamed(lambda x: HEAD if x == TABLE else x)),
  "untied_equal_head": Form(
    forms.both(forms.copied(TABLE, HEAD), config(tie_word_embeddings=False))
  ),
  "other_head": Form(
    forms.copied(TABLE, HEAD, 1.0), refusal="lm_head.weight differs"
  ),
  "other_untied_head": Form(
    forms.both(
      forms.copied(TABLE, HEAD, 1.0), config(tie_word_embeddings=False)
    ),
    refusal="lm_head.weight differs",
  ),
  "no_head": Form(
    config(tie_word_embeddings=False),
    refusal="there is no lm_head",
    silent=True,
  ),
  "two_names": Form(
    forms.copied(NORM, f"module.{NORM}", 1.0), refusal="same tensor"
  ),
  "classifier": Form(
    forms.added("score.weight", np.ones((2, 16))),
    refusal="score.weight is left",
  ),
  "missing": Form(forms.without(UP), refusal="up_proj.weight is missing"),
  "transposed": Form(forms.changed(UP, np.transpose), refusal="has shape"),
}
# Files.
FILES = {
  "shards": Form(lambda box: box.split()),
  "shards_without_index": Form(
    lambda box: box.split(index=False), like="gemma3"
  ),
  "twice_equal": Form(forms.twice(0)),
  "two_equal_sets": Form(forms.two_sets(0)),
  "twice": Form(forms.twice(1), refusal="two sets of weights", silent=True),
  "two_sets": Form(
    forms.two_sets(1), refusal="two sets of weights", silent=True
  ),
  "part_of_a_set": Form(
    forms.old_part, refusal="two sets of weights", silent=True
  ),
  "shard_missing": Form(forms.one_shard_less, refusal="has no model-00002-of"),
  "cut": Form(forms.cut, refusal="can't be read.*copy it again"),
  "pointer": Form(
    forms.instead("model.safetensors", b"version https://git-lfs.github.com\n"),
    refusal="git lfs pull",
  ),
  "config_pointer": Form(
    forms.beside(**{"config.json": b"version https://git-lfs.github.com\n"}),
    refusal="config.json can't be read .*git lfs pull",
  ),
  "flax": Form(
    forms.instead("flax_model.msgpack", b"\x80"), refusal="Weights of Flax"
  ),
  "pickled": Form(
    forms.instead("pytorch_model.bin", b"\x80"), refusal="save_pretrained"
  ),
  "gguf": Form(forms.instead("model.gguf", b"GGUF"), refusal="GGUF is not"),
  "adapter_beside": Form(
    forms.beside(**{"adapter_config.json": {"peft_type": "LORA"}}),
    refusal="holds an adapter.*merge_and_unload",
    silent=True,
  ),
  "adapter": Form(
    forms.instead("adapter_model.safetensors", b""), refusal="holds an adapter"
  ),
  "unmerged": Form(
    forms.renamed(lambda x: x.replace("up_proj.", "up_proj.base_layer.")),
    refusal="is part of an adapter",
  ),
  "other_weights_named": Form(
    config(transformers_weights="other.safetensors"),
    refusal="transformers_weights='other.safetensors'",
    silent=True,
  ),
  "damaged_config": Form(
    forms.beside(**{"config.json": b"{"}), refusal="config.json is no JSON"
  ),
}
# Types.
TYPES = {
  "bfloat16": Form(forms.as_type(BFLOAT16, "bfloat16")),
  "head_of_another_type": Form(
    forms.both(
      forms.as_type(BFLOAT16, "bfloat16"),
      forms.copied(TABLE, HEAD),
      forms.changed(HEAD, lambda x: x.astype(np.float32)),
    )
  ),
  "float16": Form(forms.as_type(np.float16, "float16")),
  "float64": Form(forms.as_type(np.float64, "float32")),
  "dtype_of_torch": Form(
    config("dtype", torch_dtype="torch.float32"), like="gemma3"
  ),
  "int8": Form(
    forms.changed(UP, lambda x: x.astype(np.int8)), refusal="type I8.*dequant"
  ),
  "quantised": Form(
    config(quantization_config={"quant_method": "gptq", "bits": 4}),
    refusal="quantization_config",
  ),
}
# What config.json says.
CONFIGS = {
  "default_caps": Form(
    config("final_logit_softcapping", "attn_logit_softcapping"), "gemma2"
  ),
  "no_caps": Form(
    config(final_logit_softcapping=None, attn_logit_softcapping=None), "gemma2"
  ),
  "default_window": Form(config("sliding_window"), "gemma2"),
  "default_positions": Form(config("rope_parameters")),
  "pattern": Form(config("layer_types", sliding_window_pattern=2), silent=True),
  "pattern_of_gemma2": Form(
    config("layer_types", sliding_window_pattern=3), "gemma2"
  ),
  "all_global": Form(config(layer_types=[GLOBAL] * 7)),
  "factor_of_no_type": Form(
    forms.old_rope(rope_scaling={"rope_type": "default", "factor": 8.0}),
  ),
  "factor_without_a_type": Form(forms.old_rope(rope_scaling={"factor": 8.0})),
  "linear": Form(forms.old_rope(rope_scaling=LINEAR)),
  "linear_by_old_key": Form(
    config("rope_parameters", rope_scaling={"type": "linear", "factor": 8.0}),
    "gemma2",
  ),
  "linear_by_old_key_of_gemma3": Form(
    forms.old_rope(rope_scaling={"type": "linear", "factor": 8.0}),
    refusal="write `rope_type`",
    silent=True,
  ),
  "linear_nested": Form(
    config(rope_parameters={GLOBAL: LINEAR | {"rope_theta": 1e5}, LOCAL: None})
  ),
  "linear_of_gemma2": Form(
    config("rope_parameters", rope_scaling=LINEAR, rope_theta=500.0), "gemma2"
  ),
  "base_of_local": Form(forms.old_rope(rope_local_base_freq=300.0)),
  "linear_without_factor": Form(
    forms.old_rope(rope_scaling={"rope_type": "linear"}),
    refusal="factor=None",
    silent=True,
  ),
  "yarn": Form(
    forms.old_rope(rope_scaling={"rope_type": "yarn", "factor": 8.0}),
    refusal="'yarn'",
  ),
  "two_ropes": Form(
    config(rope_scaling=LINEAR),
    refusal="rope_parameters and rope_scaling",
    silent=True,
  ),
  "partial": Form(
    config(partial_rotary_factor=0.5),
    "gemma2",
    refusal="partial_rotary_factor=0.5",
    silent=True,
  ),
  "null": Form(config(head_dim=None), refusal="head_dim=None must be"),
  "text_for_a_number": Form(
    config(hidden_size="16"), refusal="hidden_size='16'"
  ),
  "epsilon": Form(
    config(rms_norm_eps=1e-3), refusal="rms_norm_eps=0.001", silent=True
  ),
  "activation": Form(
    config(hidden_activation="silu"), refusal="'silu'", silent=True
  ),
  "bidirectional": Form(
    config(use_bidirectional_attention=True),
    refusal="use_bidirect",
    silent=True,
  ),
  "llama": Form(
    config(model_type="llama"),
    refusal="='llama'; what can be read is gemma2 and gemma3_text",
  ),
}
# What is said about text.
TEXTS = {
  "text": Form(forms.said(), turns=True),
  "plain_text": Form(forms.said(), turns=False),
  "no_beginning_in_the_file": Form(
    forms.both(forms.said(), lambda box: box.tokens.update(begins=False)),
    refusal="post_processor",
    turns=False,
    silent=True,
  ),
  "stops_of_config": Form(
    forms.both(forms.said(), config(eos_token_id=[1, 9])),
    turns=True,
    silent=True,
  ),
  "stops_of_generation": Form(
    forms.both(
      forms.said(),
      forms.beside(**{"generation_config.json": {"eos_token_id": [1, 8]}}),
    ),
    turns=True,
    silent=True,
  ),
  "chatml": Form(forms.chat(templates.CHATML), turns=True, silent=True),
  "chatml_not_special": Form(
    forms.chat(templates.CHATML, special=False), turns=True, silent=True
  ),
  "template_in_a_file": Form(
    forms.both(
      forms.said(chat_template="old"),
      forms.beside(**{"chat_template.jinja": templates.SYSTEM}),
    ),
    turns=True,
    silent=True,
  ),
  "several_templates": Form(
    forms.said(
      chat_template=[
        {"name": "tools", "template": "tools"},
        {"name": "default", "template": templates.SYSTEM},
      ]
    ),
    turns=True,
    silent=True,
  ),
  "template_for_training": Form(
    forms.said(chat_template=templates.TRAINING), turns=True, silent=True
  ),
  "unknown_name": Form(
    forms.said(
      chat_template="{{ bos_tokn }}Q: {{ messages[0].content | trim }}\nA:"
    ),
    turns=True,
    silent=True,
  ),
  "day": Form(
    forms.said(
      chat_template="{% if strftime_now is defined %}{{ strftime_now('%d') }}"
      "{% endif %}{{ bos_token }}{{ messages[0].content }}"
    ),
    refusal="shows the day",
    turns=True,
    silent=True,
  ),
  "tags": Form(forms.tags("<think>", "</think>"), turns=True),
  "no_frame": Form(
    forms.said(chat_template="{{ messages[0].content | upper }}"),
    refusal="show the turn once",
    turns=True,
    silent=True,
  ),
  "no_beginning": Form(
    forms.said(add_bos_token=False),
    refusal="add_bos_token",
    turns=False,
    silent=True,
  ),
  "stop_without_a_token": Form(
    forms.said(eos_token=TAGS[1]), refusal="no token to stop at", turns=True
  ),
  "token_beside": Form(
    forms.both(
      forms.said(), forms.beside(**{"added_tokens.json": {"<think>": 264}})
    ),
    refusal="'<think>' with id 264",
    turns=True,
    silent=True,
  ),
}
FORMS = NAMES | FILES | TYPES | CONFIGS | TEXTS
