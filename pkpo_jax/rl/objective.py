"""What an update minimises: the loss of some completions, and its options."""

import dataclasses
from typing import NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp

from pkpo_jax.lm import logprobs, models, transformer
from pkpo_jax.rl import losses, microbatches

Metrics = dict[str, chex.Array]


@dataclasses.dataclass(frozen=True)
class UpdateOptions:
  """What the updates from one rollout do beside the transform.

  The policy term of the loss is a sum over the tokens of a completion: it grows
  with their number, and so does the norm of its gradient. The entropy bonus and
  the KL penalty are sums too, averaged over the B n completions. So the balance
  of the three depends neither on how long completions are nor on how they are
  cut into minibatches.

  Attributes:
    microbatch_rows: M, how many completions pass through the model at once;
      must divide the B n / minibatches completions of a minibatch.
    logits_chunk: tokens of a completion whose logits are in memory at once.
    temperature: of sampling; enters the log-probs of training too.
    epochs: passes over the rollout.
    minibatches: updates in a pass; must divide B.
    clip_low: a ratio of probabilities is clipped at 1 - clip_low from below.
    clip_high: it is clipped at 1 + clip_high from above.
    entropy_coef: bonus for the entropy of completions, in nats per completion:
      the sum of the entropies of the distributions that its tokens are from.
    kl_coef: penalty on KL(policy || reference), in nats per completion too.
    max_grad_norm: gradients of a larger global norm are scaled down to it; 0
      leaves all as they are.
    mask_truncated: whether the transform does not see completions that were cut
      off. They get no weight, like ungraded ones.
  """

  microbatch_rows: int
  logits_chunk: int
  temperature: float = 1.0
  epochs: int = 1
  minibatches: int = 1
  clip_low: float = 0.2
  clip_high: float = 0.2
  entropy_coef: float = 0.0
  kl_coef: float = 0.0
  mask_truncated: bool = False
  max_grad_norm: float = 0.0


class Totals(NamedTuple):
  """Counts over all problems, by which the losses of parts add up to the loss.

  Attributes:
    problems: B.
    completions: B n.
  """

  problems: int
  completions: int


class Part(NamedTuple):
  """Measurements of some completions: `Measured` without its counts."""

  sums: Metrics
  largest: Metrics


class ReadPrompts(NamedTuple):
  """What has a gradient in the `models.Prefix` of B prompts."""

  hidden: chex.Array
  kv: transformer.KVCache


def loss_of(
  model: nn.Module,
  options: UpdateOptions,
  totals: Totals,
  trained: models.Params,
  prompts: ReadPrompts,
  rows: microbatches.Rows,
  frozen: models.Params,
  lengths: chex.Array,
  reference: models.Params | None = None,
  reference_prompts: ReadPrompts | None = None,
) -> tuple[chex.Array, Part]:
  """The share of some completions in the loss, and what is measured of them.

  Args:
    model: the policy.
    options: see `UpdateOptions`.
    totals: counts over all problems.
    trained: the parameters that are trained, rounded.
    prompts: what was read of the B prompts with them.
    rows: one microbatch.
    frozen: the other parameters.
    lengths: [B] int32, of the prompts.
    reference: parameters of the KL term in place of the trained ones.
    reference_prompts: what was read with these.
  """
  tokens, old, mask, weights = (
    x[:, None] for x in (rows.tokens, rows.log_probs, rows.mask, rows.weights)
  )  # one completion of each of M prompts

  def score(params, prompts):
    return logprobs.token_log_probs(
      model,
      models.merge(frozen, params),
      models.take(
        models.Prefix(prompts.hidden, prompts.kv, lengths), rows.prompt
      ),
      tokens,
      mask,
      temperature=options.temperature,
      logits_chunk=options.logits_chunk,
    )

  log_probs, entropies = score(trained, prompts)
  loss, stopped = losses.policy_loss(
    log_probs,
    old,
    mask,
    weights,
    clip_low=options.clip_low,
    clip_high=options.clip_high,
  )
  loss *= len(weights) / totals.problems
  mismatch = jnp.where(mask, jnp.abs(log_probs - old), 0)
  sums = {
    "clip_fraction": jnp.sum(stopped, dtype=jnp.float32),
    "fraction_updated": jnp.float32(len(weights)),
    "log_prob_mismatch": jnp.sum(mismatch),
  }
  if options.entropy_coef:
    loss -= options.entropy_coef * jnp.sum(entropies) / totals.completions
  if options.kl_coef:
    scored = (log_probs, old, score(reference, reference_prompts)[0], mask)
    kl = jnp.sum(losses.kl_loss(*scored)) / totals.completions
    loss += options.kl_coef * kl
    sums["kl_to_reference"] = jnp.sum(losses.kl_estimate(*scored))
  largest = {"log_prob_mismatch": jnp.max(mismatch)}
  return loss, Part(sums | {"loss": loss}, largest)


def nothing_measured(options: UpdateOptions) -> Part:
  """What is measured of no completions."""
  sums = ["loss", "clip_fraction", "fraction_updated", "log_prob_mismatch"]
  sums += ["kl_to_reference"] if options.kl_coef else []
  zero = jnp.float32(0)
  return Part(
    dict.fromkeys(sums, zero), dict.fromkeys(["log_prob_mismatch"], zero)
  )
