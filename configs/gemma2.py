"""What the paper's runs of Gemma 2 share; the runs are gemma2_*_*.py.

An argument after the config's name chooses an arm of the comparison, and
`laptop` the same run in miniature, to see it work before a slice is paid for:

  --config=configs/gemma2_2b_math.py:annealed
  --config=configs/gemma2_2b_math.py:k8,laptop

From the paper are n, the transform, the arms, k_opt, the 16 problems a step
(12,000 problems in 750 steps) and the boundary of the annealed arm. It gives no
optimiser, learning rate, temperature, limits on tokens, prompts or number of
steps: those are ours, and marked so.
"""

import ml_collections

# arm: changes to the config.
ARMS = {
  "k1": {"k_opt": (1,)},
  "k2": {"k_opt": (2,)},
  "k4": {"k_opt": (4,)},
  "k8": {"k_opt": (8,)},
  "annealed": {"k_opt": (8, 1), "k_boundaries": (1500,)},  # a hard step, Fig 3
  "tzsm25": {"k_opt": (16,)},  # k = n: Tang et al., arXiv:2503.19595
  # The paper tried .001, .005, .01, .05, .1 and reports the best, unnamed.
  "entropyreg": {"k_opt": (1,), "loss.entropy_coef": 0.01},
}

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
  """What is the same for all domains; `size` is "2b" or "9b"."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # the paper's 3 seeds: 0, 1, 2
  config.num_steps = 2250  # ours; beyond the 1500 of the annealed arm
  config.prompts_per_step = 16  # B
  config.n = 16  # completions per prompt
  config.temperature = 1.0  # ours: the policy itself is sampled
  config.max_prompt_tokens = 512  # ours
  config.max_new_tokens = 1024  # ours

  config.transform = "sloo_minus_one"
  config.k_opt = (8,)
  config.k_boundaries = ()
  config.k_schedule = "piecewise"

  config.learning_rate = 1e-6  # ours: usual for RL on all parameters
  config.warmup_steps = 20  # ours
  config.b1, config.b2 = 0.9, 0.95  # ours
  config.weight_decay = 0.0  # ours
  config.max_grad_norm = 1.0  # ours
  config.epochs = 1  # ours: on-policy, so that clipping never acts
  config.minibatches = 1
  config.microbatch = ml_collections.ConfigDict()  # ours: same gradient
  config.microbatch.prompts = 16
  config.microbatch.samples = 16  # fewer on fewer chips, for memory; and where
  # few answers are right: a microbatch of weights of 0 alone is skipped
  config.logits_chunk = 64  # ours, for memory: same gradient

  config.loss = ml_collections.ConfigDict()
  config.loss.clip_low = 0.2
  config.loss.clip_high = 0.2
  config.loss.entropy_coef = 0.0
  config.loss.kl_coef = 0.0  # ours

  config.mesh = ml_collections.ConfigDict()  # for slices of 16 chips and more
  config.mesh.data = -1
  config.mesh.fsdp = 16 if size == "2b" else 4
  config.mesh.tensor = 1 if size == "2b" else 4

  config.task = ml_collections.ConfigDict()
  config.long_prompts = "drop"  # ours
  config.tokenizer = ml_collections.ConfigDict()
  config.tokenizer.name = "huggingface"  # tokenizer.json, beside the weights
  config.tokenizer.path = f"weights/gemma-2-{size}-it"
  config.tokenizer.turns = True

  config.model = ml_collections.ConfigDict()
  config.model.name = f"gemma2_{size}"
  config.model.num_embed = 256_000  # as Hugging Face's checkpoints have it
  config.model.dtype = "bfloat16"  # to compute in; parameters are float32
  config.model.remat = "full"

  config.base = ml_collections.ConfigDict()
  config.base.source = "huggingface"
  config.base.path = f"weights/gemma-2-{size}-it"  # ours: the tuned models

  config.eval = ml_collections.ConfigDict()
  config.eval.every = 250  # ours
  config.eval.n = 16
  config.eval.num_problems = 500
  config.eval.seed = 1

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 50
  config.checkpoint.keep = 2
  return config


def finish(
  config: ml_collections.ConfigDict, options: str
) -> ml_collections.ConfigDict:
  """Applies an arm, `laptop`, or both, separated by a comma.

  Raises:
    ValueError: neither.
  """
  chosen = list(filter(None, options.split(",")))
  for option in chosen:
    if option in ARMS:
      config.update_from_flattened_dict(ARMS[option])
    elif option != "laptop":
      raise ValueError(
        f"Unknown option {option!r} of the config; known: laptop,"
        f" {', '.join(ARMS)}."
      )
  if "laptop" in chosen:
    _to_laptop(config)
  return config


def _to_laptop(config: ml_collections.ConfigDict) -> None:
  """Tiny widths, random parameters, few and short samples; else the same."""
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  with config.unlocked():
    config.model.update(_LAPTOP_MODEL)
  config.update(prompts_per_step=2, max_new_tokens=16, logits_chunk=8)
  config.microbatch.update(prompts=2, samples=4)
  config.update(learning_rate=1e-3, warmup_steps=0)
  config.num_steps, config.k_boundaries = 2, (1,) * len(config.k_boundaries)
  config.mesh.update(data=1, fsdp=-1, tensor=1)
  config.eval.update(every=2, num_problems=4)
