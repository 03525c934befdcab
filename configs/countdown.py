"""PKPO on Countdown: a tiny Gemma 2 learns to hit targets, on 2 CPU cores.

Cost: 7 minutes on 2 cores, base policy included.
Expect: on the 128 held-out problems pass@1/8/16 from .04/.25/.40 to
  .09/.36/.48, 70 % of the training problems solved at least once.
Command:

  python -m experiments.train --config=configs/countdown.py --workdir=runs/k8

Compare with k = 1 by adding --config.k_opt=1 and another --workdir. All values
are ours: the paper has no such task.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The config; override any value on the command line, --config.name=value."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # of sampling and of the order of the problems
  config.num_steps = 200  # one rollout and its update each
  config.prompts_per_step = 32  # B
  config.n = 16  # completions per prompt
  config.temperature = 1.0  # of sampling; enters the training log-probs too
  config.max_prompt_tokens = 8  # BOS, 5 numbers, "=", the target
  config.max_new_tokens = 10  # 2 * 5 - 1 words and EOS

  # The estimator: any name of pkpo_jax.get_transform, at any k <= n.
  config.transform = "sloo_minus_one"
  config.k_opt = (8,)  # the k of pass@k; several with k_boundaries
  config.k_boundaries = ()  # steps: k_opt=8,1 k_boundaries=100, switches there
  config.k_schedule = "piecewise"  # or "linear", from one k to another

  config.learning_rate = 4e-4  # after the warm-up
  config.warmup_steps = 10  # updates, linear
  config.b1, config.b2 = 0.9, 0.95  # of AdamW
  config.weight_decay = 0.0
  config.max_grad_norm = 1.0  # global norm
  config.epochs = 1  # over each rollout
  config.minibatches = 1  # updates per epoch; divides prompts_per_step

  # What passes through the model at once in an update: less memory, and more of
  # what has weight 0 is left out. The gradient is the same.
  config.microbatch = ml_collections.ConfigDict()
  config.microbatch.prompts = 8  # divides prompts_per_step / minibatches
  config.microbatch.samples = 4  # of each prompt; divides n
  config.logits_chunk = 10  # tokens of a completion with logits at once

  config.loss = ml_collections.ConfigDict()
  config.loss.clip_low = 0.2  # a ratio is clipped to [1 - low, 1 + high]
  config.loss.clip_high = 0.2
  config.loss.entropy_coef = 0.0  # bonus for entropy per token, nats
  config.loss.kl_coef = 0.0  # penalty on KL(policy || base policy) per token

  config.task = ml_collections.ConfigDict()
  config.task.name = "countdown"
  config.task.numbers = (4, 5)  # how many numbers a problem has
  config.task.num_train = 1024
  config.task.num_test = 128
  config.task.seed = 0  # another seed, other problems

  config.mesh = ml_collections.ConfigDict()  # see pkpo_jax/lm/sharding.py
  config.mesh.data = 1  # copies of the parameters
  config.mesh.fsdp = -1  # shards of the parameters; -1: all other devices
  config.mesh.tensor = 1  # parts of each layer

  config.tokenizer = ml_collections.ConfigDict()
  config.tokenizer.name = "words"  # those of the task
  config.long_prompts = "error"  # or "drop": leave out what does not fit

  config.model = ml_collections.ConfigDict()
  config.model.name = "gemma2_tiny"  # 0.4 M parameters, float32

  # The base policy: supervised on random expressions and their values.
  config.base = ml_collections.ConfigDict()
  config.base.source = "demonstrations"
  config.base.seed = 0
  config.base.num_steps = 300
  config.base.batch_size = 256
  config.base.learning_rate = 3e-3
  config.base.warmup_steps = 30
  config.base.wrong = 0.3  # fraction of pairs with a random target instead

  config.eval = ml_collections.ConfigDict()  # on the held-out problems
  config.eval.every = 50  # steps
  config.eval.n = 64  # completions per problem
  config.eval.num_problems = 128  # the first of them; all if there are fewer
  config.eval.seed = 1

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 25  # steps
  config.checkpoint.keep = 2
  return config
