"""What the runs on one GPU share; the runs are *_gsm8k_lora.py.

GSM8K with adapters: the frozen weights are kept in bfloat16, and only adapters
have gradients and optimiser state, for models of 1B and 2B on one card or on
eight chips of v5e. All values are ours and not tuned. Their programs were timed
on one H100 (docs/pods.md); nobody has trained with them yet.
"""

import ml_collections

from configs import arms, default

ARMS = arms.of_the_paper(boundary=200)


def get_config(model: str, folder: str, arm: str) -> ml_collections.ConfigDict:
  """The config of a model, by its name and its folder in weights/."""
  config = default.get_config()
  config.num_steps = 400
  config.prompts_per_step = 16
  config.max_prompt_tokens = 256
  config.max_new_tokens = 512
  config.long_prompts = "drop"

  config.learning_rate = 2e-5  # of adapters: more than of all parameters
  config.warmup_steps = 20
  config.max_grad_norm = 50.0  # see configs/gemma2.py

  config.mesh.update(data=1, fsdp=-1, tensor=1)

  config.task = ml_collections.ConfigDict()
  config.task.name = "gsm8k"
  config.task.path = "data/gsm8k"  # your own copy, see docs/tasks.md

  config.tokenizer.name = "huggingface"
  config.tokenizer.path = f"weights/{folder}"
  config.tokenizer.turns = True

  config.model.name = model
  config.model.dtype = "bfloat16"
  config.model.remat = "full"
  config.model.lora_rank = 32

  config.base = ml_collections.ConfigDict()
  config.base.source = "huggingface"
  config.base.path = f"weights/{folder}"

  config.eval.update(every=50, n=16, num_problems=256)
  return arms.apply(config, ARMS, arm)
