"""Trains with tunix and `pkpo_jax.adapters.tunix`, and checks its gradients.

python tunix_program.py FOLDER, in an environment that has tunix, with this
project and its tests/ on the path.
"""

import os
import pathlib
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from orbax import checkpoint as ocp
from tunix.rl import common, rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

import pkpo_jax
from experiments.benchmarks import tunix_worker
from pkpo_jax.adapters import tunix as adapter

B, N, P, T = 8, 16, 6, 8
EOS = 5
RATE = 0.25  # of SGD: a power of two, so that nothing is rounded by it
SPEC = {"num_layers": 2, "embed_dim": 32, "hidden_dim": 64}
SPEC |= {"num_heads": 2, "head_dim": 16, "num_kv_heads": 1}
PROMPTS = [
  " ".join(map(str, row))
  for row in np.random.default_rng(0).integers(6, 16, (B, P - 1))
]


class Tokenizer(tunix_worker.Tokenizer):
  def eos_id(self):
    return EOS


class Trainer:
  """A learner, and by step what it was given and what it changed.

  Attributes:
    rewards: [B * N], as the reward function gave them.
    examples: tunix' `TrainExample`s, one for each microbatch.
    before, after: the parameters.
  """

  def __init__(self, folder=None, *, words=256):
    """One in `words` tokens, at first, ends a completion."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1])[None], ("fsdp", "tp"))
    roles = rl_cluster.Role
    every = ocp.CheckpointManagerOptions(save_interval_steps=1)
    self.cluster = rl_cluster.RLCluster(
      actor=tunix_worker.make_model(SPEC | {"num_embed": words}, 64),
      tokenizer=Tokenizer(),
      cluster_config=rl_cluster.ClusterConfig(
        role_to_mesh=dict.fromkeys(
          (roles.ACTOR, roles.REFERENCE, roles.ROLLOUT), mesh
        ),
        training_config=rl_cluster.RLTrainingConfig(
          actor_optimizer=optax.sgd(RATE),
          eval_every_n_steps=10**6,
          max_steps=10**6,
          mini_batch_size=B,
          train_micro_batch_size=B // 2,
          rollout_micro_batch_size=B,
          checkpoint_root_directory=folder,
          checkpointing_options=every,
        ),
        rollout_config=base_rollout.RolloutConfig(
          max_tokens_to_generate=T,
          max_prompt_length=P,
          kv_cache_size=P + T,
          temperature=1.0,
          eos_tokens=[EOS],
        ),
      ),
    )
    self.rewards, self.examples, self.before, self.after = {}, {}, {}, {}
    update = self.cluster.update_actor

    def noted(train_ds, *rest):
      step, examples = self.cluster.global_steps, list(train_ds)
      self.before.setdefault(step, self.read())
      self.examples.setdefault(step, []).extend(examples)
      update(examples, *rest)
      self.after[step] = self.read()

    self.cluster.update_actor = noted

  def read(self):
    """A copy: buffers are donated."""
    params = nnx.state(self.cluster.actor_trainer.model, nnx.Param)
    return jax.tree.map(np.array, params)

  def grade(self, completions, **_):
    """A fifth or so is right, and a tenth has no grade."""
    rows = [[int(word) for word in text.split()] for text in completions]
    rewards = [
      np.nan if row and row[0] % 11 == 3 else any(x % 29 == 7 for x in row)
      for row in rows
    ]
    self.rewards[self.cluster.global_steps] = np.array(rewards, float)
    return [float(x) for x in rewards]

  def train(self, num_steps, **options):
    config = grpo_learner.GRPOConfig(num_generations=N, **options)
    learner = grpo_learner.GRPOLearner(
      rl_cluster=self.cluster, reward_fns=self.grade, algo_config=config
    )
    batches = [{"prompts": np.array(PROMPTS)} for _ in range(num_steps)]
    learner.train(batches)

  def rows(self, step, name):
    """[B * N, ...] of a step."""
    return np.concatenate([getattr(x, name) for x in self.examples[step]])


def exact_gradient(trainer, step):
  """Gradient of -(1/B) sum of weight * log-prob, over tunix' own rows."""
  prompts, completions, mask = (
    trainer.rows(step, name)
    for name in ("prompt_ids", "completion_ids", "completion_mask")
  )
  weights = trainer.rows(step, "advantages") / N
  graph = nnx.graphdef(trainer.cluster.actor_trainer.model)
  tokens, positions, attention, _ = common.process_ids(
    jnp.array(prompts), jnp.array(completions), 0, EOS
  )

  @jax.jit
  @jax.grad
  def gradient(params):
    model = nnx.merge(graph, params)
    logits, _ = model(tokens, positions, None, attention)
    logits = logits[:, P - 1 : -1].astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, completions[..., None], -1)[..., 0]
    log_probs = chosen - jax.nn.logsumexp(logits, axis=-1)
    return -jnp.sum(weights * jnp.sum(log_probs * mask, axis=-1)) / B

  return gradient(trainer.before[step])


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def change(trainer, step):
  """The gradient by which SGD moved the parameters."""
  return (flat(trainer.before[step]) - flat(trainer.after[step])) / RATE


def check_advantages(trainer, ks):
  """They are n times the weights of the graded samples; 0 for the others."""
  assert trainer.rewards.keys() == ks.keys()
  for step, k in ks.items():
    rewards = trainer.rewards[step]
    found = trainer.rows(step, "advantages").reshape(B, N)
    assert np.any(np.isnan(rewards)) and np.any(found)
    for group, mine in zip(rewards.reshape(B, N), found):
      graded = ~np.isnan(group)
      weights = pkpo_jax.sloo_minus_one(group[graded], k)
      np.testing.assert_allclose(mine[graded], N * weights, atol=1e-5)
      assert not np.any(mine[~graded])


def main(folder):
  schedule = pkpo_jax.piecewise_k([8, 4, 1], [1, 3])

  trainer = Trainer(folder)
  step = lambda: trainer.cluster.global_steps  # noqa: E731
  options = adapter.register(schedule, step=step)
  trainer.train(3, **options)
  check_advantages(trainer, {0: 8, 1: 4, 2: 4})
  lengths = [trainer.rows(i, "completion_mask").sum(axis=1) for i in range(3)]
  whole = [i for i in range(3) if lengths[i].min() > 0]
  assert whole and np.min(lengths) < T
  for i in whole:
    exact = flat(exact_gradient(trainer, i))
    assert np.max(np.abs(exact)) > 1e-2
    np.testing.assert_allclose(change(trainer, i), exact, atol=1e-6)
  print("exact in steps", whole, flush=True)

  resumed = Trainer(folder)
  trainer = resumed  # of which `step` reads
  resumed.train(5, **options)
  check_advantages(resumed, {3: 1, 4: 1})
  assert step() == 5
  print("resumed", flush=True)

  default = Trainer(words=16)  # so that lengths differ
  options = adapter.register(8) | {"loss_agg_mode": "sequence-mean-token-mean"}
  default.train(1, **options)
  exact, moved = flat(exact_gradient(default, 0)), change(default, 0)
  cosine = exact @ moved / np.linalg.norm(exact) / np.linalg.norm(moved)
  assert cosine < 0.9999, cosine
  print("cosine by default", cosine, flush=True)

  try:
    Trainer().train(1, **adapter.register(32))
    message = "no error"
  except ValueError as error:
    message = str(error)
  assert "k=32 is out of range for n=16" in message, message
  print("as it should be")


if __name__ == "__main__":
  main(str(pathlib.Path(sys.argv[1]).absolute()))
