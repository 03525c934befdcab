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
from pkpo_jax.tasks import base


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
    binary=True,
  )
  assert list(rows) == ["pass@1", "pass@4"]
  for k in ks:
    base_values, trained = (
      np.array([pass_at_k(n, c, k) for c in counts])
      for counts in (before, after)
    )
    for name, values in (
      ("base", base_values),
      ("trained", trained),
      ("gain", trained - base_values),
    ):
      error, mean = np.std(values, ddof=1) / math.sqrt(5), np.mean(values)
      assert rows[f"pass@{k}"][name] == pytest.approx((mean, error, mean, mean))
  assert (
    rows["pass@1"]["gain"].standard_error
    < rows["pass@1"]["base"].standard_error / 5
  )


def test_the_gain_is_trained_minus_base_or_stands_between_bounds():
  """One policy lacks an answer: there is no pass@2 of it, and no gain."""
  rewards = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  valid = np.array([[1, 1], [1, 1], [1, 0]], bool)
  whole = (rewards, valid | True)
  rows = evaluation.compare((rewards, valid), whole, (1, 2), binary=True)
  first, second = rows["pass@1"], rows["pass@2"]
  gain = first["trained"].mean - first["base"].mean
  assert first["gain"].mean == pytest.approx(gain)
  assert math.isnan(second["base"].mean) and math.isnan(second["gain"].mean)
  assert second["base"][2:] == pytest.approx((2 / 3, 1))
  assert second["trained"].mean == pytest.approx(2 / 3)
  assert second["gain"][2:] == pytest.approx((2 / 3 - 1, 0))


def test_fractions_are_compared_as_max_at_k_beside_pass_at_k():
  rewards = np.array([[0.5, 1.0], [0.5, 0.0]])
  whole = (rewards, np.ones((2, 2), bool))
  rows = evaluation.compare(whole, whole, (1, 2), binary=False)
  means = {name: row["base"].mean for name, row in rows.items()}
  assert means == pytest.approx(
    {"pass@1": 0.25, "pass@2": 0.5, "max@1": 0.5, "max@2": 0.75}
  )


@pytest.mark.parametrize(
  ("after", "message"),
  [
    (np.ones((3, 2)), "answers to 2 and 3 problems"),
    (np.array([[1, 1], [np.nan, 0]]), "Sample 0 of problem 1 has reward nan"),
  ],
)
def test_what_cannot_be_compared_is_an_error(after, message):
  before = (np.ones((2, 2)), np.ones((2, 2), bool))
  after = (after, np.ones(after.shape, bool))
  with pytest.raises(ValueError, match=message):
    evaluation.compare(before, after, (1,), binary=True)


def problems_named(*names):
  return [base.Problem(name, "", "", None) for name in names]


def test_a_seed_draws_the_same_problems_in_every_run():
  """In their order; by their ids, so that what was dropped changes no other."""
  problems = problems_named(*(f"test/{i}" for i in range(100)))
  drawn = evaluation.draw(problems, 30, seed=1)
  assert drawn == evaluation.draw(problems, 30, seed=1)
  places = [problems.index(problem) for problem in drawn]
  assert places == sorted(set(places)) and len(places) == 30
  assert places != list(range(30)) and max(places) > 60
  assert drawn != evaluation.draw(problems, 30, seed=2)
  rest = [p for p in problems if p is not drawn[0]]
  assert set(drawn[1:]) < set(evaluation.draw(rest, 30, seed=1))


@pytest.mark.parametrize("count", [3, 4, 100])
def test_fewer_problems_than_asked_for_are_all_drawn(count):
  problems = problems_named("c", "a", "b")
  assert evaluation.draw(problems, count, seed=0) == problems


def fake_roller(calls, valid=None):
  """Rewards that tell the problem, and then the draw of its key."""

  def start(params, problems, keys, *, n):
    calls.append(("start", len(problems)))
    draws = jax.vmap(lambda key: jax.random.uniform(key, (n,)))(keys)
    values = np.array([problem.data for problem in problems])
    rewards = np.asarray(draws) + values[:, None] * params
    reasons = [[f"is {value}"] * n for value in values]

    def finish():
      calls.append(("finish", len(problems)))
      ok = rewards < 15 if valid is None else np.full(rewards.shape, valid)
      some = make_rollout(rewards, ok, np.ones_like(rewards))
      return some, reasons, {}

    return finish

  return types.SimpleNamespace(start=start)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_evaluate_does_not_depend_on_the_batch_size(batch_size):
  """7 problems of values 0..6; all batches have the same size."""
  calls, key = [], jax.random.key(5)
  problems = [base.Problem(str(i), "", f"m={i}", i) for i in range(7)]
  answers = evaluation.evaluate(
    fake_roller(calls), 3, problems, key, n=4, batch_size=batch_size
  )
  expected = [
    np.asarray(jax.random.uniform(jax.random.fold_in(key, i), (4,))) + 3 * i
    for i in range(7)
  ]
  np.testing.assert_array_equal(answers.rewards, np.float32(expected))
  np.testing.assert_array_equal(answers.valid, np.array(expected) < 15)
  assert answers.tiers.tolist() == [f"m={i}" for i in range(7)]
  assert answers.reasons.tolist() == [[f"is {i}"] * 4 for i in range(7)]
  assert answers.lengths.shape == answers.entropy.shape == (7, 4)
  # Each batch is graded when the next one has been started.
  batches = -(-7 // batch_size)
  order = ["start", *["start", "finish"] * (batches - 1), "finish"]
  assert calls == [(what, batch_size) for what in order]


def test_a_valid_reward_that_is_not_finite_ends_an_evaluation():
  problems = [base.Problem(x, "", "", np.nan) for x in ("first", "second")]
  with pytest.raises(ValueError, match="problem 'first' has reward nan"):
    evaluation.evaluate(
      fake_roller([], valid=True), 1, problems, jax.random.key(0), n=2,
      batch_size=2,
    )  # fmt: skip


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
    answers = evaluation.evaluate(
      roll, params, problems, jax.random.key(0), n=2, batch_size=batch_size
    )
    assert answers.rewards.shape == answers.valid.shape == (4, 2)
    tokens.append(np.concatenate(seen)[:4])
    seen.clear()
  np.testing.assert_array_equal(tokens[0], tokens[1])
  np.testing.assert_array_equal(tokens[0], tokens[2])
  assert len(np.unique(tokens[0].reshape(8, 3), axis=0)) > 4
  assert np.all(tokens[0][..., 0] != models.PAD)
