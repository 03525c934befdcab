"""GRPO steps and samples of google-tunix, one for each line of standard input.

Runs in an environment of its own, see rivals.py, and so imports nothing of this
project. The first line is the workload as JSON; then every line is "sample" or
"step RATE", with RATE the fraction of right answers. Answers the first with a
line "ready" and the versions in use, the others with a line "seconds X".
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from tunix.models.gemma import model as gemma
from tunix.rl import rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

NEVER = 10_000  # a token that is not in the vocabulary


class Tokenizer:
  """Numbers, separated by spaces."""

  def encode(self, text: str, **_: Any) -> list[int]:
    return [int(word) for word in text.split()]

  def decode(self, ids: Any, **_: Any) -> str:
    return " ".join(map(str, ids))

  def bos_id(self) -> int:
    return 2

  def eos_id(self) -> int:
    return NEVER

  def pad_id(self) -> int:
    return 0


def make_model(spec: dict[str, Any], window: int) -> gemma.Gemma:
  kinds = gemma.AttentionType
  config = gemma.ModelConfig(
    num_layers=spec["num_layers"],
    num_embed=spec["num_embed"],
    embed_dim=spec["embed_dim"],
    hidden_dim=spec["hidden_dim"],
    num_heads=spec["num_heads"],
    head_dim=spec["head_dim"],
    num_kv_heads=spec["num_kv_heads"],
    final_logit_softcap=30.0,
    attn_logits_soft_cap=50.0,
    use_post_attn_norm=True,
    use_post_ffw_norm=True,
    attention_types=(kinds.LOCAL_SLIDING, kinds.GLOBAL)
    * (spec["num_layers"] // 2),
    sliding_window_size=window,
  )
  return gemma.Gemma(config, rngs=nnx.Rngs(0))


class Worker:
  """A learner whose data set is the lines of standard input."""

  def __init__(self, workload: dict[str, Any]):
    self.workload, self.rate, self.turn = workload, 0.0, 0
    B, n, P, T = (workload[x] for x in ("B", "n", "P", "T"))
    mesh = jax.sharding.Mesh(
      np.array(jax.devices()).reshape(1, 1), ("fsdp", "tp")
    )
    roles = rl_cluster.Role
    self.model = make_model(workload["model"], workload["window"])
    self.rollout_config = base_rollout.RolloutConfig(
      max_tokens_to_generate=T,
      max_prompt_length=P,
      kv_cache_size=P + T,
      temperature=1.0,
      eos_tokens=workload["stop_tokens"] or [NEVER],
      return_logprobs=True,
    )
    optimizer = optax.chain(
      optax.clip_by_global_norm(1.0), optax.adamw(1e-5, b1=0.9, b2=0.95)
    )
    self.cluster = rl_cluster.RLCluster(
      actor=self.model,
      tokenizer=Tokenizer(),
      cluster_config=rl_cluster.ClusterConfig(
        role_to_mesh=dict.fromkeys(
          (roles.ACTOR, roles.REFERENCE, roles.ROLLOUT), mesh
        ),
        training_config=rl_cluster.RLTrainingConfig(
          actor_optimizer=optimizer,
          eval_every_n_steps=10**6,
          max_steps=10**6,
          mini_batch_size=B,
          train_micro_batch_size=workload["micro_batch"],
          rollout_micro_batch_size=B,
          checkpoint_root_directory=None,
        ),
        rollout_config=self.rollout_config,
      ),
    )
    self.learner = grpo_learner.GRPOLearner(
      rl_cluster=self.cluster,
      reward_fns=self.reward,
      algo_config=grpo_learner.GRPOConfig(num_generations=n, beta=0.0),
    )
    rng = np.random.default_rng(0)
    vocabulary = workload["model"]["num_embed"]
    self.prompts = [  # BOS is put before them
      " ".join(map(str, row)) for row in rng.integers(3, vocabulary, (B, P - 1))
    ]
    self.draw = np.random.default_rng(1).random

  def reward(self, prompts, completions, **_):
    return (self.draw(len(completions)) < self.rate).astype(float).tolist()

  def batches(self) -> Iterator[dict[str, Any]]:
    """Serves samples; a step ends when the learner asks for more."""
    versions = [f"{x} {metadata.version(x)}" for x in ("google-tunix", "jax")]
    print("ready", *versions, jax.devices()[0].device_kind, flush=True)
    for line in sys.stdin:
      command, *rate = line.split()
      start = time.perf_counter()
      if command == "sample":
        self.sample()
      else:
        self.rate = float(rate[0])
        yield {"prompts": np.array(self.prompts)}
        trained = nnx.state(self.cluster.actor_trainer.model)
        jax.block_until_ready(jax.tree.leaves(trained))
      print(f"seconds {time.perf_counter() - start}", flush=True)

  def sample(self) -> None:
    self.turn += 1
    config = dataclasses.replace(
      self.rollout_config, seed=jax.random.PRNGKey(self.turn)
    )
    prompts = np.repeat(self.prompts, self.workload["n"]).tolist()
    self.cluster.rollout.generate(prompts, config)


def main() -> None:
  worker = Worker(json.loads(sys.stdin.readline()))
  worker.learner.train(worker.batches())


if __name__ == "__main__":
  main()
