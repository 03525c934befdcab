"""The Countdown config in seconds: same code, a smaller model, fewer steps."""

import ml_collections

from configs import countdown


def get_config() -> ml_collections.ConfigDict:
  config = countdown.get_config()
  with config.unlocked():
    config.model.update(num_layers=2, embed_dim=32, hidden_dim=64, head_dim=8)
    config.task.update(numbers=(2, 3), num_train=8, num_test=6)
  config.update(num_steps=6, prompts_per_step=4, n=4, k_opt=(2,))
  config.microbatch.rows = 4
  config.update(max_prompt_tokens=6, max_new_tokens=6, warmup_steps=2)
  config.base.update(num_steps=20, batch_size=32, warmup_steps=5)
  config.eval.update(every=3, n=4)
  config.checkpoint.every = 2
  return config
