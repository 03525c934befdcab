"""The work that contenders share, and this project as one of them."""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks import timing
from experiments.hardware import flops
from pkpo_jax import transforms
from pkpo_jax.lm import models, sampler
from pkpo_jax.rl import rollout as rollout_lib
from pkpo_jax.rl import train_step

# 1.02 M parameters, float32. Windows are wider than any sequence here.
MODEL = {
  "num_layers": 4,
  "num_embed": 256,
  "embed_dim": 128,
  "hidden_dim": 512,
  "num_heads": 4,
  "head_dim": 32,
  "num_kv_heads": 2,
}
WINDOW = 4096
K = 4  # of pass@k
NEVER = 10_000  # a token that is not in the vocabulary


class Workload(NamedTuple):
  """B prompts of P tokens, n completions each of up to T.

  Completions have exactly T tokens, unless there are stop tokens.
  """

  B: int
  n: int
  P: int
  T: int
  stop_tokens: tuple[int, ...] = ()

  @property
  def name(self) -> str:
    """Such as "16 x 16 x (8 + 24)"."""
    ends = ", uneven" if self.stop_tokens else ""
    return f"{self.B} x {self.n} x ({self.P} + {self.T}){ends}"


STEPS = (
  Workload(16, 16, 8, 24),
  Workload(16, 16, 128, 32),
  Workload(8, 16, 256, 128),
  # About one token in 64 stops: most completions are short, and a few go on for
  # long, in nearly every call to the end.
  Workload(16, 16, 32, 256, stop_tokens=(5, 50, 100, 150)),
)


class Ours:
  """This project: what a training step does, but for grading and logging."""

  def __init__(
    self,
    workload: Workload,
    rows: int = 16,
    transform: str = "sloo_minus_one",
  ):
    """Updates by that many completions at once."""
    self.workload = workload
    B, _, P, T, _ = workload
    self.model = models.get_model(
      "gemma2_tiny", sliding_window_size=WINDOW, **MODEL
    )
    params = models.init_params(self.model, jax.random.key(0))
    options = train_step.UpdateOptions(
      microbatch_rows=rows,
      logits_chunk=T,
    )
    optimizer = train_step.make_optimizer(4e-4, warmup_steps=10)
    self.update = train_step.compile_train_step(
      self.model,
      optimizer,
      transforms.get_transform(transform),
      options,
      num_prompts=B,
    )
    self.state = train_step.init_state(params, optimizer)
    rng = np.random.default_rng(0)
    self.prompts = rng.integers(3, MODEL["num_embed"], (B, P))
    self.lengths = np.full(B, P, np.int32)
    self.draw = np.random.default_rng(1).random
    self.turn = 0

  def completions(self) -> sampler.Completions:
    """Samples, and fetches what was sampled."""
    self.turn += 1
    return jax.device_get(
      sampler.sample(
        self.model,
        self.state.params,
        self.prompts,
        self.lengths,
        jax.random.key(self.turn),
        n=self.workload.n,
        max_new_tokens=self.workload.T,
        stop_tokens=self.workload.stop_tokens or (NEVER,),
      )
    )

  def rollout(self, rate: float | None) -> rollout_lib.Rollout:
    """Samples; right at that rate, or with rewards between 0 and 1."""
    completions = self.completions()
    rewards = self.draw((self.workload.B, self.workload.n))
    if rate is not None:
      rewards = rewards < rate
    return rollout_lib.Rollout(
      self.prompts,
      self.lengths,
      completions,
      rewards.astype(np.float32),
      np.ones(rewards.shape, bool),
      completions.mask[..., -1],
    )

  def sample(self) -> float:
    """Seconds."""
    return timing.timed(self.completions)[0]

  def step(self, rate: float | None) -> dict[str, float]:
    """Seconds of sampling and in all; the fraction that was updated."""
    sampling, rollout = timing.timed(lambda: self.rollout(rate))
    updating, (self.state, metrics) = timing.timed(
      lambda: self.update(self.state, rollout, K, jax.random.key(0), {}, None)
    )
    return {
      "sample": sampling,
      "seconds": sampling + updating,
      "fraction_updated": float(metrics["fraction_updated"]),
    }

  def flops(self) -> dict[str, float]:
    """Floating-point operations of matrix products, by program; dense."""
    B, n, _, T, _ = self.workload
    rollout = self.rollout(None)
    update: Any = self.update
    sampled = sampler.program.trace(
      self.model,
      self.state.params,
      self.prompts,
      self.lengths,
      jax.random.split(jax.random.key(0), (B, n)),
      1.0,
      T=T,
      stop_tokens=(NEVER,),
    )
    key = jax.random.key(0)
    updated = update.trace(self.state, rollout, K, key, {}, None)
    return {
      "sample": flops.count(sampled.jaxpr),
      "update": flops.count(updated.jaxpr),
    }
