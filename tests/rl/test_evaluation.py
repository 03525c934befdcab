"""pkpo_jax.rl.evaluation against closed forms and numpy."""

import math
import types

import jax
import numpy as np
import pytest
from helpers import plain

from pkpo_jax import tasks
from pkpo_jax.lm import models, sampler, tokenizers
from pkpo_jax.rl import evaluation, rollout


def pass_at_k(n, c, k):
  return 1 - math.comb(n - c, k) / math.comb(n, k)


def group(n, c):
  """c right answers of n, the last ones."""
  return np.arange(n) >= n - c


def assert_is_curve_of(curve, estimates):
  """Mean and standard error over the problems, per k, by numpy."""
  for i, values in enumerate(estimates):
    assert curve.mean[i] == pytest.approx(np.mean(values), abs=1e-6)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert curve.standard_error[i] == pytest.approx(error, abs=1e-6)
    assert curve.num_problems[i] == len(values)


def test_the_curve_is_pass_at_k_in_closed_form():
  n, counts, ks = 8, (0, 1, 3, 3, 8), (1, 2, 5, 8)
  rewards = np.array([group(n, c) for c in counts], np.float32)
  curve = evaluation.pass_at_k_curve(rewards, np.ones_like(rewards, bool), ks)
  assert curve.ks == ks
  expected = [[pass_at_k(n, c, k) for c in counts] for k in ks]
  assert_is_curve_of(curve, expected)


def test_ungraded_samples_are_left_out():
  """As if never drawn, also if NaN: right, graded = (1, 3), (2, 4), (0, 2)."""
  nan = np.nan
  rewards = np.array([[1, 0, nan, 0], [1, 0, 1, 0], [1, nan, 0, 0]])
  valid = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]], bool)
  curve = evaluation.pass_at_k_curve(rewards, valid, (1, 2, 3))
  graded = [(3, 1), (4, 2), (2, 0)]
  expected = [
    [pass_at_k(n, c, k) for n, c in graded if n >= k] for k in (1, 2, 3)
  ]
  assert_is_curve_of(curve, expected)
  assert curve.num_problems.tolist() == [3, 3, 2]


def test_what_does_not_exist_is_nan_without_warnings():
  rewards, valid = np.ones((2, 3)), np.array([[1, 1, 0], [0, 0, 0]], bool)
  with np.errstate(all="raise"):
    curve = evaluation.pass_at_k_curve(rewards, valid, (1, 3))
  np.testing.assert_array_equal(curve.num_problems, [1, 0])
  np.testing.assert_array_equal(curve.mean, [1, np.nan])
  np.testing.assert_array_equal(curve.standard_error, [np.nan, np.nan])


def test_continuous_rewards_give_the_expected_best():
  rewards, valid = np.array([[0.0, 1.0, 4.0]]), np.ones((1, 3), bool)
  curve = evaluation.pass_at_k_curve(rewards, valid, (1, 2, 3))
  np.testing.assert_allclose(curve.mean, [5 / 3, 3, 4], rtol=1e-6)


def test_a_k_above_n_is_an_error():
  with pytest.raises(ValueError, match=r"pass@4 .* n=3"):
    evaluation.pass_at_k_curve(np.ones((2, 3)), np.ones((2, 3), bool), (1, 4))


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


def make_rollout(rewards, valid, lengths, T=4):
  """A rollout whose entropies are 100 outside of the mask."""
  rewards, valid = np.array(rewards, np.float32), np.array(valid, bool)
  B, n = rewards.shape
  mask = np.arange(T) < np.array(lengths)[..., None]
  entropy = np.where(mask, np.arange(B * n).reshape(B, n, 1), 100.0)
  completions = sampler.Completions(
    np.zeros((B, n, T), np.int32), np.zeros((B, n, T)), entropy, mask
  )
  prompts = np.zeros((B, 2), np.int32)
  return rollout.Rollout(prompts, np.full(B, 2), completions, rewards, valid)


def test_rollout_metrics():
  metrics = evaluation.rollout_metrics(
    make_rollout(
      rewards=[[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0.5]],
      valid=[[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]],
      lengths=[[1, 2, 3], [4, 4, 4], [1, 1, 1], [2, 2, 2]],
    )
  )
  lengths = np.array([1, 2, 3, 4, 4, 4, 1, 1, 1, 2, 2, 2])
  assert metrics["entropy"] == pytest.approx(
    np.average(np.arange(12), weights=lengths)
  )
  assert metrics["completion_length"] == pytest.approx(lengths.mean())
  assert metrics["groups_all_right"] == 0.5
  assert metrics["groups_all_wrong"] == 0.25
  assert metrics["invalid"] == pytest.approx(2 / 12)
  assert metrics["pass@1"] == pytest.approx(np.mean([1, 1, 0, 0.25]))
  assert metrics["pass@2"] == pytest.approx(np.mean([1, 1, 0, 0.5]))
  assert "pass@4" not in metrics
  assert all(isinstance(value, float) for value in metrics.values())


def test_solved_by_one_valid_right_sample():
  some = make_rollout(
    rewards=[[0, 1], [1, 0], [0.5, 0.9], [0, 0]],
    valid=[[1, 1], [0, 1], [1, 1], [1, 1]],
    lengths=np.ones((4, 2)),
  )
  np.testing.assert_array_equal(evaluation.solved(some), [1, 0, 0, 0])


def test_named_and_powers_of_two():
  curve = evaluation.Curve((1, 8), np.array([0.5, 1]), np.array([0.1, 0]), None)
  assert evaluation.named(curve) == {
    "pass@1": 0.5,
    "pass@8": 1.0,
    "pass@1_stderr": 0.1,
    "pass@8_stderr": 0.0,
  }
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
