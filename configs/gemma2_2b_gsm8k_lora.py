"""Gemma 2 2B with LoRA on GSM8K, for one GPU or eight chips of TPU v5e.

Cost: 8.3 s a step on one H100 where a fourth of the answers is right, with
random parameters (docs/pods.md): some 1.2 hours, evaluations included.
Expect: not run yet. Watch reward/pass@1 and pass@8 in metrics.jsonl.
Command, after the weights (their licence asks for an account) and the data:

  pip install -U huggingface_hub
  hf download google/gemma-2-2b-it --local-dir weights/gemma-2-2b-it
  python -m experiments.train --config=configs/gemma2_2b_gsm8k_lora.py:k8 \
    --workdir=runs/gemma2_2b_gsm8k_k8

Whether it fits: python -m experiments.hardware --topology=h100:1x1, without a
card. What a step takes on yours, without weights or data:

  python -m experiments.hardware.measure \
    --config=configs/gemma2_2b_gsm8k_lora.py
"""

import ml_collections

from configs import one_card


def get_config(arm: str = "k8") -> ml_collections.ConfigDict:
  """The config of an arm."""
  config = one_card.get_config("gemma2_2b", "gemma-2-2b-it", arm)
  config.model.num_embed = 256_000  # as Hugging Face's checkpoint has it
  return config
