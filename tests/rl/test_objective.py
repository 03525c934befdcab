"""rl.objective: the options; the loss itself is tested in test_gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain
from helpers.rollouts import KL, LENGTHS, PROMPTS, T

from pkpo_jax.lm import models
from pkpo_jax.rl import microbatches, objective


@pytest.mark.slow
@pytest.mark.parametrize("kl_coef", [0.0, KL])
def test_a_completion_without_tokens_or_weight_adds_nothing(kl_coef):
  """Such as those that fill up the last microbatch."""
  model, params = plain.tiny()
  options = objective.UpdateOptions(2, T, kl_coef=kl_coef)
  prompts = models.Prompts(jnp.asarray(PROMPTS), jnp.asarray(LENGTHS))
  prefix = models.prefill(model, params, prompts, training=True)
  read = objective.ReadPrompts(prefix.hidden, prefix.kv)
  rows = microbatches.Rows(
    jnp.array([3, 0]),
    jnp.zeros((2, T), jnp.int32),
    jnp.full((2, T), -jnp.inf),
    jnp.zeros((2, T), bool),
    jnp.zeros(2),
  )
  others = (params, read) if kl_coef else ()
  totals = objective.Totals(4, 16)
  loss, part = objective.loss_of(
    model, options, totals, params, read, rows, {}, prefix.lengths, *others
  )
  nothing = objective.nothing_measured(options)
  assert loss == 0
  assert part.sums.pop("fraction_updated") == 2
  assert nothing.sums.pop("fraction_updated") == 0
  jax.tree.map(np.testing.assert_array_equal, part, nothing)
