"""Every value of a training config, with what it means and in which unit.

A run's file starts from these and lists what it changes, after a header of its
cost, what to expect of it and its command. Any value can also be set on the
command line: --config.learning_rate=1e-4, --config.loss.kl_coef=0.01. They suit
the tiny models that train on two CPU cores, and all of them are ours.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The values that a run starts from."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # of sampling and of the order of the problems
  config.num_steps = 200  # one rollout and its update each
  # The cumulative solve rate has stood still for so long: the run ends earlier.
  config.patience = 0  # steps without a newly solved problem; 0: never ends it
  config.prompts_per_step = 32  # B, the problems of a step
  config.n = 16  # completions of each prompt
  config.temperature = 1.0  # of sampling; enters the training log-probs too
  config.max_prompt_tokens = 24  # P, tokens
  config.max_new_tokens = 16  # T, tokens with the one that ends a completion
  config.stop = ()  # strings that end a completion, beside those of the task
  config.truncated = "as_is"  # at T; "wrong": reward 0; "masked": no weight
  config.long_prompts = "error"  # or "drop": leave out what does not fit

  config.transform = "sloo_minus_one"  # of pkpo_jax, or your own "module:name"
  config.k_opt = (8,)  # the k of pass@k; several with k_boundaries
  config.k_boundaries = ()  # steps: k_opt=8,1 k_boundaries=100 switches there
  # Or "linear", from one k to another; or "by_problem": 1 where a problem was
  # mostly right in its earlier steps, more where it was not, k_opt at most, for
  # which n // 2 is a good choice.
  config.k_schedule = "piecewise"
  # "by_problem" forgets this fraction of what it knows of a problem at each
  # step with that; 0: all steps count alike, 1: the last alone.
  config.k_forgetting = 0.5
  config.k_weights = ()  # of k = 1, 2, ...; for transform="k_mixture" alone

  config.learning_rate = 4e-4  # of AdamW, after the warm-up
  config.warmup_steps = 10  # steps, linear
  config.decay_steps = 0  # steps, then: a cosine to a tenth, which stays; 0: no
  config.b1 = 0.9  # decay of the first moment
  config.b2 = 0.95  # decay of the second moment
  config.weight_decay = 0.0  # a learning rate's fraction of the parameters
  # Gradients are sums over tokens, so that their norm grows with the length of
  # completions. For those of Countdown it is .3 to 3.5 at k = 1, 1.7 to 9.7 at
  # k = 8: 10 is a bound on outliers alone.
  config.max_grad_norm = 10.0  # norm that gradients are clipped to; 0: no limit
  # A step whose loss or gradient is not finite changes nothing and is counted.
  config.max_bad_steps = 3  # steps; one more ends the run
  config.epochs = 1  # passes over each rollout
  config.minibatches = 1  # updates in a pass; divides prompts_per_step

  # Completions that pass through the model at once in an update: fewer take
  # less memory, and less of what has weight 0 fills up the last of them. They
  # divide prompts_per_step * n / minibatches. The gradient is the same.
  config.microbatch = ml_collections.ConfigDict()
  config.microbatch.rows = 32  # a multiple of mesh.data * mesh.fsdp
  config.logits_chunk = 64  # tokens of a completion with logits at once

  config.loss = ml_collections.ConfigDict()
  config.loss.clip_low = 0.2  # a ratio is clipped to [1 - low, 1 + high]
  config.loss.clip_high = 0.2  # as a fraction, too
  # Of sums over the tokens of a completion, like the policy term, and averaged
  # over completions: in nats per completion.
  config.loss.entropy_coef = 0.0  # bonus for entropy, nats per completion
  config.loss.kl_coef = 0.0  # KL(policy || base), nats per completion

  config.mesh = ml_collections.ConfigDict()  # devices, see lm/sharding.py
  config.mesh.data = 1  # copies of the parameters
  config.mesh.fsdp = -1  # shards of the parameters; -1: all other devices
  config.mesh.tensor = 1  # parts of each layer

  config.task = ml_collections.ConfigDict()  # with its options, docs/tasks.md
  config.task.name = "countdown"  # or another, or your own "module:name"

  _add_policy(config)

  config.eval = ml_collections.ConfigDict()  # on the held-out problems
  config.eval.every = 50  # steps, and at the end; 0: no evaluation at all
  config.eval.n = 64  # completions per problem
  config.eval.num_problems = 128  # drawn by the seed; all if there are fewer
  config.eval.seed = 1  # of which problems, and of sampling

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 25  # steps
  config.checkpoint.keep = 2  # the newest so many
  return config


def _add_policy(config: ml_collections.ConfigDict) -> None:
  """Adds the model, its tokenizer, and where its parameters come from."""
  config.tokenizer = ml_collections.ConfigDict()  # docs/pretrained_models.md
  config.tokenizer.name = "words"  # those of the task; or of a Gemma

  config.model = ml_collections.ConfigDict()  # and fields of it to change
  config.model.name = "gemma2_tiny"  # 0.4 M parameters, float32

  # The base policy that training starts from. From "huggingface", "gemma" or
  # "run", the --workdir of another run, it takes a path instead of the rest,
  # "random" a seed alone.
  config.base = ml_collections.ConfigDict()
  config.base.source = "demonstrations"  # of the task: trained on them first
  config.base.seed = 0  # of parameters and demonstrations
  config.base.num_steps = 600  # of supervised training
  config.base.batch_size = 128  # demonstrations a step
  config.base.learning_rate = 3e-3  # peak, then a cosine to a twentieth
  config.base.warmup_steps = 60  # linear
  config.base.wrong = 0.3  # fraction of demonstrations that don't match
