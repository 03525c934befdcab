"""pkpo_jax.rl.evaluation against closed forms and numpy."""

import math
import types

import jax
import numpy as np
import pytest
from helpers import plain
from helpers.graded import group, make_rollout, pass_at_k

from pkpo_jax import tasks
from pkpo_jax.lm import models, tokenizers
from pkpo_jax.rl import evaluation, rollout


def test_compare_has_the_error_of_paired_differences():
  """Problems differ a lot, the policies little: pairing is much sharper."""
  n, ks = 20, (1, 4)
  before, after = (0, 5, 10, 15, 18), (1, 7, 11, 17, 19)
  rows = evaluation.compare(
    *(
      (np.array([group(n, c) for c in counts]), np.ones((5, n), bool))
      for counts in (before, after)
    ),
    ks,
  )
  for k, row in zip(ks, rows, strict=True):
    base, trained = (
      np.array([pass_at_k(n, c, k) for c in counts])
      for counts in (before, after)
    )
    assert row["k"] == k
    for name, values in (
      ("base", base),
      ("trained", trained),
      ("gain", trained - base),
    ):
      error = np.std(values, ddof=1) / math.sqrt(5)
      assert row[name] == pytest.approx((np.mean(values), error), abs=1e-6)
  assert rows[0]["gain"][1] < rows[0]["base"][1] / 5


def test_compare_needs_both_estimates_for_a_gain():
  rewards = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
  valid = np.array([[1, 1], [1, 0], [1, 1]], bool)
  (row,) = evaluation.compare((rewards, valid), (rewards, valid | True), (2,))
  assert row["base"][0] == pytest.approx(1 / 2)
  assert row["trained"][0] == pytest.approx(2 / 3)
  assert row["gain"] == (0, 0)


def test_powers_of_two():
  assert evaluation.powers_of_two(1) == (1,)
  assert evaluation.powers_of_two(12) == (1, 2, 4, 8)
  assert evaluation.powers_of_two(64)[-1] == 64


def fake_roller(calls):
  """Rewards that tell the problem, and then the draw of its key."""

  def start(params, problems, keys, *, n):
    calls.append(("start", len(problems)))
    draws = jax.vmap(lambda key: jax.random.uniform(key, (n,)))(keys)
    rewards = np.asarray(draws) + np.array(problems)[:, None] * params

    def finish():
      calls.append(("finish", len(problems)))
      return make_rollout(rewards, rewards < 15, np.ones_like(rewards)), {}

    return finish

  return types.SimpleNamespace(start=start)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_evaluate_does_not_depend_on_the_batch_size(batch_size):
  """7 problems of values 0..6; all batches have the same size."""
  calls, key = [], jax.random.key(5)
  rewards, valid = evaluation.evaluate(
    fake_roller(calls), 3, range(7), key, n=4, batch_size=batch_size
  )
  expected = [
    np.asarray(jax.random.uniform(jax.random.fold_in(key, i), (4,))) + 3 * i
    for i in range(7)
  ]
  np.testing.assert_array_equal(rewards, np.float32(expected))
  np.testing.assert_array_equal(valid, np.array(expected) < 15)
  # Each batch is graded when the next one has been started.
  batches = -(-7 // batch_size)
  order = ["start", *["start", "finish"] * (batches - 1), "finish"]
  assert calls == [(what, batch_size) for what in order]


@pytest.mark.slow
def test_evaluate_with_a_model_does_not_depend_on_the_batch_size():
  task = tasks.get_task("countdown", numbers=(2,), num_train=1, num_test=4)
  tokenizer = tokenizers.WordTokenizer(task.words)
  model = plain.tiny_model(num_layers=1, num_embed=tokenizer.vocab_size)
  seen = []

  class Spy(rollout.RolloutWorker):
    def start(self, *args, **kwargs):
      finish = super().start(*args, **kwargs)

      def spying():
        result = finish()
        seen.append(result[0].completions.tokens)
        return result

      return spying

  roll = Spy(
    model, tokenizer, task, max_prompt_tokens=5, max_new_tokens=3,
    temperature=1.0,
  )  # fmt: skip
  params, problems = plain.random_params(model), task.problems("test")
  tokens = []
  for batch_size in (4, 1, 3):
    rewards, valid = evaluation.evaluate(
      roll, params, problems, jax.random.key(0), n=2, batch_size=batch_size
    )
    assert rewards.shape == valid.shape == (4, 2)
    tokens.append(np.concatenate(seen)[:4])
    seen.clear()
  np.testing.assert_array_equal(tokens[0], tokens[1])
  np.testing.assert_array_equal(tokens[0], tokens[2])
  assert len(np.unique(tokens[0].reshape(8, 3), axis=0)) > 4
  assert np.all(tokens[0][..., 0] != models.PAD)
