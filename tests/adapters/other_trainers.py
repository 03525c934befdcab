"""Runs a recipe of docs/other_trainers.md: TRL with a tiny model, or verl.

python other_trainers.py NAME PAGE, in an environment that has the trainer.
"""

import functools
import os
import pathlib
import re
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
import torch

import pkpo_jax

N, K = 4, 2


def n_times_weights(transform, rewards):
  """Group by group, without the code under test."""
  advantages = []
  for group in np.array(rewards, float).reshape(-1, N):
    graded = ~np.isnan(group)
    weights = np.zeros(N)
    if graded.sum() > K:  # else too few are left, and all get 0
      weights[graded] = transform(np.float32(group[graded]), K)
    advantages.append(N * weights)
  return np.concatenate(advantages)


def run_trl(recipe):
  """Three steps; the advantages inside TRL are n times `scloo`."""
  import datasets
  import tokenizers
  import transformers
  import trl

  words = {word: i for i, word in enumerate(["<pad>", "<eos>", *"0123456789"])}
  model = tokenizers.models.WordLevel(words, unk_token="<pad>")
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
  )
  sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
  config = transformers.LlamaConfig(
    vocab_size=len(words),
    num_attention_heads=2,
    num_key_value_heads=2,
    pad_token_id=0,
    eos_token_id=1,
    bos_token_id=None,
    **sizes,
  )
  options = {"max_steps": 3, "max_completion_length": 6, "use_cpu": True}
  options |= {"per_device_train_batch_size": 4 * N}
  options |= {"report_to": [], "save_strategy": "no", "bf16": False}
  rewards, advantages = [], []

  def grade(text):
    digits = text.split()
    rewards.append(np.nan if "9" in digits else float("7" in digits))
    return None if "9" in digits else rewards[-1]

  torch.manual_seed(0)
  trl.GRPOConfig = functools.partial(trl.GRPOConfig, "out", **options)
  trl.GRPOTrainer = functools.partial(
    trl.GRPOTrainer, processing_class=tokenizer
  )
  problems = datasets.Dataset.from_dict({"prompt": ["1 2", "3 4", "5 6"] * 8})
  names = {"n": N, "k": K, "grade": grade, "problems": problems}
  names["model"] = transformers.LlamaForCausalLM(config)
  exec(recipe, names)
  trainer = names["trainer"]
  generate = trainer._generate_and_score_completions

  def noted(*arguments):
    output = generate(*arguments)
    advantages.extend(output["advantages"].tolist())
    return output

  trainer._generate_and_score_completions = noted
  trainer.train()
  assert np.any(np.isnan(rewards)) and np.any(advantages)
  expected = n_times_weights(pkpo_jax.scloo, rewards)
  np.testing.assert_allclose(advantages, expected, atol=1e-6)


def run_verl(recipe):
  """The registered function, on rows of two problems that alternate."""
  exec(recipe, {"n": N, "k": K, "np": np, "torch": torch})
  from verl.trainer.ppo.core_algos import get_adv_estimator_fn

  index = np.array(["a", "b"] * N, dtype=object)
  scores, mask = torch.zeros(2 * N, 5), torch.ones(2 * N, 5)
  scores[:, -1] = torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 0.5])
  mask[0, 3:] = 0
  advantages, returns = get_adv_estimator_fn("pkpo")(
    token_level_rewards=scores, response_mask=mask, index=index, config={}
  )
  groups = scores[:, -1].numpy().reshape(N, 2).T.ravel()
  expected = n_times_weights(pkpo_jax.sloo_minus_one, groups)
  expected = expected.reshape(2, N).T.ravel()[:, None] * mask.numpy()
  np.testing.assert_allclose(advantages, expected, atol=1e-6)
  assert torch.equal(advantages, returns)


if __name__ == "__main__":
  name, page = sys.argv[1:]
  text = pathlib.Path(page).read_text()
  blocks = re.findall(r"```python\n# (\w+)\n(.*?)```", text, re.DOTALL)
  {"TRL": run_trl, "verl": run_verl}[name](dict(blocks)[name])
  print("as it should be")
