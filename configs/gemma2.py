"""What the paper's runs of Gemma 2 share; the runs are gemma2_*_*.py.

An argument after the config's name chooses an arm of the comparison, and
`laptop` the same run in miniature, to see it work before a slice is paid for:

  --config=configs/gemma2_2b_math.py:annealed
  --config=configs/gemma2_2b_math.py:k8,laptop

In a minute, and with neither data nor a vocabulary: a tiny random Gemma 2 takes
two steps through all that a pod's run does. Its task is to copy words, at which
even a random policy is right now and then: so there is a gradient (`grad_norm`
in its metrics) and the parameters move. A random policy never solves a problem
of MATH. Your own data and vocabulary are tried by --dry_run, without laptop.

From the paper are n, the transform, the arms, k_opt, the 16 problems a step
(12,000 problems in 750 steps) and the boundary of the annealed arm. It gives no
optimiser, learning rate, temperature, limits on tokens, prompts or number of
steps: those are ours, and marked so.
"""

import ml_collections

from configs import arms, default

ARMS = arms.of_the_paper(boundary=1500)

_LAPTOP_MODEL = {
  "num_layers": 2,
  "embed_dim": 64,
  "hidden_dim": 128,
  "num_heads": 4,
  "num_kv_heads": 2,
  "head_dim": 16,
  "sliding_window_size": 64,
}


def get_config(size: str) -> ml_collections.ConfigDict:
  """The config that all domains share; `size` is "2b" or "9b"."""
  config = default.get_config()  # its seed 0; the paper's 3 seeds: 0, 1, 2
  config.num_steps = 2250  # ours; beyond the 1500 of the annealed arm
  config.prompts_per_step = 16
  config.n = 16
  config.temperature = 1.0  # ours: the policy itself is sampled
  config.max_prompt_tokens = 512  # ours
  config.max_new_tokens = 1024  # ours
  config.long_prompts = "drop"  # ours

  config.learning_rate = 1e-6  # ours: usual for RL on all parameters
  config.warmup_steps = 20  # ours
  # Ours, and not measured: Countdown's 10, at answers of 9 tokens, times the
  # square root of how much longer an answer of some 250 tokens is. It is right
  # if `grad_clipped` is above 0 in fewer than one step in ten.
  config.max_grad_norm = 50.0
  config.epochs = 1  # ours: on-policy, so that the clip meets rounding alone
  # Ours: one completion for each four chips of 128, 8 of 16. What has weight 0
  # is left out, but for what fills up the last microbatch.
  config.microbatch.rows = 32

  # For slices of 16 chips (9B: 32) and more. Decoding is bound by reading the
  # parameters, which tensor divides: docs/hardware.md.
  config.mesh.data = -1
  config.mesh.fsdp = 4
  config.mesh.tensor = 4 if size == "2b" else 8

  config.task = ml_collections.ConfigDict()
  config.tokenizer.name = "huggingface"  # tokenizer.json, beside the weights
  config.tokenizer.path = f"weights/gemma-2-{size}-it"
  config.tokenizer.turns = True

  config.model.name = f"gemma2_{size}"
  config.model.num_embed = 256_000  # as Hugging Face's checkpoints have it
  config.model.dtype = "bfloat16"  # to compute in; parameters are float32
  config.model.remat = "full"

  config.base = ml_collections.ConfigDict()
  config.base.source = "huggingface"
  config.base.path = f"weights/gemma-2-{size}-it"  # ours: the tuned models

  config.eval.update(every=250, n=16, num_problems=500)  # ours
  config.checkpoint.update(every=50, keep=2)
  return config


def finish(
  config: ml_collections.ConfigDict, options: str
) -> ml_collections.ConfigDict:
  """Applies an arm, `laptop`, or both, separated by a comma.

  Raises:
    ValueError: there is no arm of that name.
  """
  chosen = options.split(",")
  arm = ",".join(option for option in chosen if option != "laptop")
  arms.apply(config, ARMS, arm)
  if "laptop" in chosen:
    _to_laptop(config)
  return config


def _to_laptop(config: ml_collections.ConfigDict) -> None:
  """A task for random policies, tiny widths, few and short samples."""
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  config.task = ml_collections.ConfigDict({"name": "copy_words"})
  config.tokenizer = ml_collections.ConfigDict({"name": "words"})
  del config.model.num_embed  # as many as there are words
  with config.unlocked():
    config.model.update(_LAPTOP_MODEL)
  config.update(prompts_per_step=4, max_prompt_tokens=8, max_new_tokens=6)
  config.logits_chunk = 6
  config.temperature = 4.0  # or random parameters say the same word for ever
  config.microbatch.rows = 8
  config.update(learning_rate=1e-3, warmup_steps=0)
  config.num_steps, config.k_boundaries = 2, (1,) * len(config.k_boundaries)
  config.patience = 0
  config.mesh.update(data=-1, fsdp=1, tensor=1)  # 2 prompts split over no fsdp
  config.eval.update(every=2, num_problems=4)
