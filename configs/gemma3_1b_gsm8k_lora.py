"""Gemma 3 1B with LoRA on GSM8K, for one GPU or eight chips of TPU v5e.

Cost: 3.8 s a step on one H100 where a fourth of the answers is right, with
random parameters (docs/pods.md): half an hour, evaluations included.
Expect: not run yet. Watch reward/pass@1 and pass@8 in metrics.jsonl.
Command, after the weights (their licence asks for an account) and the data:

  pip install -U huggingface_hub
  hf download google/gemma-3-1b-it --local-dir weights/gemma-3-1b-it
  python -m experiments.train --config=configs/gemma3_1b_gsm8k_lora.py:k8 \
    --workdir=runs/gemma3_1b_gsm8k_k8

Whether it fits: python -m experiments.hardware --topology=h100:1x1, without a
card. What a step takes on yours, without weights or data:

  python -m experiments.hardware.measure \
    --config=configs/gemma3_1b_gsm8k_lora.py
"""

import ml_collections

from configs import one_card


def get_config(arm: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = one_card.get_config("gemma3_1b", "gemma-3-1b-it", arm)
  config.model.num_embed = 262_144  # as Hugging Face's checkpoint has it
  return config
