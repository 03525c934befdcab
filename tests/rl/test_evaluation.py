"""pkpo_jax.rl.evaluation against closed forms and numpy."""

import math
import types

import jax
import numpy as np
import pytest
from helpers import plain
from helpers.graded import group, make_rollout, pass_at_k
from jax.sharding import AbstractMesh, AxisType

from pkpo_jax import intervals, tasks
from pkpo_jax.lm import models, sharding, tokenizers
from pkpo_jax.rl import evaluation, rollout
from pkpo_jax.tasks import base


def test_estimates_and_gains_are_those_of_intervals():
  """Problems differ a lot, the policies little: pairing is much sharper."""
  n, ks = 20, (1, 4)
  before, after = (0, 5, 10, 15, 18), (1, 7, 11, 17, 19)
  graded = [
    (np.array([group(n, c) for c in counts]), np.ones((5, n), bool))
    for counts in (before, after)
  ]
  gains = evaluation.compare(*graded, ks, binary=True)
  assert list(gains) == ["pass@1", "pass@4"]
  estimates = [evaluation.estimate(*x, ks, binary=True) for x in graded]
  for k in ks:
    old, new = (
      np.array([pass_at_k(n, c, k) for c in counts])
      for counts in (before, after)
    )
    name = f"pass@{k}"
    for found, expected in (
      (estimates[0][name], intervals.over_problems(old)),
      (estimates[1][name], intervals.over_problems(new)),
      (gains[name], intervals.paired(new, old)),
    ):
      assert found == pytest.approx(expected)
  error = estimates[0]["pass@1"].standard_error
  assert gains["pass@1"].standard_error < error / 5


def test_policies_with_another_n_are_compared():
  before = np.array([group(4, 1), group(4, 3)]), np.ones((2, 4), bool)
  after = np.array([group(8, 4), group(8, 6)]), np.ones((2, 8), bool)
  gains = evaluation.compare(before, after, (1,), binary=True)
  assert gains["pass@1"].mean == pytest.approx((0.25 + 0) / 2)


def test_the_gain_is_after_minus_before_or_stands_between_bounds():
  """One policy lacks an answer: there is no pass@2 of it, and no gain."""
  rewards = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  valid = np.array([[1, 1], [1, 1], [1, 0]], bool)
  some, whole = (rewards, valid), (rewards, valid | True)
  old = evaluation.estimate(*some, (1, 2), binary=True)
  new = evaluation.estimate(*whole, (1, 2), binary=True)
  gains = evaluation.compare(some, whole, (1, 2), binary=True)
  gain = new["pass@1"].mean - old["pass@1"].mean
  assert gains["pass@1"].mean == pytest.approx(gain)
  assert old["pass@2"] == pytest.approx(evaluation.Bounds(2 / 3, 1))
  assert new["pass@2"].mean == pytest.approx(2 / 3)
  assert gains["pass@2"] == pytest.approx(evaluation.Bounds(2 / 3 - 1, 0))


def test_fractions_have_max_at_k_beside_pass_at_k():
  rewards = np.array([[0.5, 1.0], [0.5, 0.0]])
  whole = (rewards, np.ones((2, 2), bool))
  found = evaluation.estimate(*whole, (1, 2), binary=False)
  means = {name: x.mean for name, x in found.items()}
  assert means == pytest.approx(
    {"pass@1": 0.25, "pass@2": 0.5, "max@1": 0.5, "max@2": 0.75}
  )
  assert list(evaluation.compare(whole, whole, (1, 2), binary=False)) == [
    *means
  ]


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


def fake_worker(calls, valid=None):
  """Rewards that tell the problem, and then the draw of their key."""

  def start(params, problems, keys, *, n):
    assert keys.shape == (len(problems), n)
    calls.append(("start", n, [problem.data for problem in problems]))
    draws = jax.vmap(jax.vmap(jax.random.uniform))(keys)
    values = np.array([problem.data for problem in problems])
    rewards = np.asarray(draws) + values[:, None] * params
    reasons = [[f"is {value}"] * n for value in values]

    def finish():
      calls.append(("finish", n, [problem.data for problem in problems]))
      ok = rewards < 15 if valid is None else np.full(rewards.shape, valid)
      some = make_rollout(rewards, ok, np.ones_like(rewards))
      return some, reasons, {}

    return finish

  return types.SimpleNamespace(start=start)


@pytest.mark.parametrize(
  "batch", [(1, 4), (3, 4), (7, 4), (10, 4), (4, 2), (5, 1), (28, 1)]
)
def test_evaluate_does_not_depend_on_the_batches(batch):
  """7 problems of values 0..6, in whatever parts; all of the same size."""
  calls, key = [], jax.random.key(5)
  problems = [base.Problem(str(i), "", f"m={i}", i) for i in range(7)]
  answers = evaluation.evaluate(
    fake_worker(calls), 3, problems, key, n=4, batch=evaluation.Batch(*batch)
  )
  expected = [
    [
      float(jax.random.uniform(jax.random.fold_in(row, j))) + 3 * i
      for j in range(4)
    ]
    for i, row in enumerate(jax.random.fold_in(key, i) for i in range(7))
  ]
  np.testing.assert_array_equal(answers.rewards, np.float32(expected))
  np.testing.assert_array_equal(answers.valid, np.array(expected) < 15)
  assert answers.tiers.tolist() == [f"m={i}" for i in range(7)]
  assert answers.reasons.tolist() == [[f"is {i}"] * 4 for i in range(7)]
  assert answers.lengths.shape == answers.entropy.shape == (7, 4)
  # Each batch is graded when the next one has been started.
  batches = -(-28 // math.prod(batch))
  order = ["start", *["start", "finish"] * (batches - 1), "finish"]
  assert [what for what, *_ in calls] == order
  assert {(n, len(rows)) for _, n, rows in calls} == {batch[::-1]}


@pytest.mark.parametrize(
  ("num_problems", "n", "sizes", "expected"),
  [
    (500, 64, None, (16, 16)),  # that of training
    (500, 1, None, (256, 1)),
    (500, 20, None, (64, 4)),
    (500, 9, None, (256, 1)),
    (2, 8, None, (2, 8)),
    (2, 64, None, (8, 16)),
    (500, 1, (8, 16, 1), (256, 1)),
    (2, 8, (8, 16, 1), (16, 8)),
    (1, 1, (8, 16, 1), (128, 1)),
    (1, 1, (4, 1, 4), (4, 1)),
    (3, 3, (2, 4, 1), (16, 1)),
    (9, 2, (2, 4, 1), (12, 2)),
  ],
)
def test_a_batch_is_at_most_that_of_training_and_splits_over_the_mesh(
  num_problems, n, sizes, expected, monkeypatch
):
  if sizes:
    mesh = AbstractMesh(sizes, sharding.AXES, axis_types=(AxisType.Auto,) * 3)
    monkeypatch.setattr(jax.sharding, "get_mesh", lambda: mesh)
  batch = evaluation.plan_batch(num_problems, n, prompts=16, samples=16)
  assert batch == expected
  assert n % batch.samples == 0
  if sizes:
    sharding.check_rows(mesh, batch.prompts, math.prod(batch), "")


def test_a_valid_reward_that_is_not_finite_ends_an_evaluation():
  problems = [base.Problem(x, "", "", np.nan) for x in ("first", "second")]
  with pytest.raises(ValueError, match="problem 'first' has reward nan"):
    evaluation.evaluate(
      fake_worker([], valid=True), 1, problems, jax.random.key(0), n=2,
      batch=evaluation.Batch(2, 2),
    )  # fmt: skip


@pytest.mark.slow
def test_evaluate_with_a_model_does_not_depend_on_the_batches():
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
  for batch in ((4, 4), (3, 4), (3, 2)):
    answers = evaluation.evaluate(
      roll, params, problems, jax.random.key(0), n=4,
      batch=evaluation.Batch(*batch),
    )  # fmt: skip
    assert answers.rewards.shape == answers.valid.shape == (4, 4)
    tokens.append(np.concatenate([x.reshape(-1, 3) for x in seen])[:16])
    seen.clear()
  np.testing.assert_array_equal(tokens[0], tokens[1])
  np.testing.assert_array_equal(tokens[0], tokens[2])
  assert len(np.unique(tokens[0], axis=0)) > 4
  assert np.all(tokens[0][..., 0] != models.PAD)
