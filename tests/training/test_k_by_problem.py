"""training.k_by_problem: counts of earlier steps, and the k that they give."""

import numpy as np
import pytest
from helpers import no_model, runs, tiny_config

import pkpo_jax
from pkpo_jax.training import k_by_problem, loop


def counted(*steps, problems=4, forgetting=0.5):
  """Counts after steps of (rows, rewards) or (rows, rewards, valid)."""
  counts = k_by_problem.no_counts(problems)
  for rows, rewards, *valid in steps:
    counts = k_by_problem.count(
      counts,
      np.array(rows),
      np.array(rewards),
      *(valid or [np.ones(np.shape(rewards), bool)]),
      forgetting=forgetting,
    )
  return counts


def test_a_reward_of_one_is_right_as_in_pass_at_k():
  counts = counted(([0, 2], [[0.5, 1, 2, 0.99], [-1, 0, 0, 1]]))
  assert counts.right.tolist() == [2, 0, 1, 0]
  assert counts.graded.tolist() == [4, 0, 4, 0]
  assert counts.visits.tolist() == [1, 0, 1, 0]


def test_a_problem_forgets_at_its_own_steps_alone():
  steps = [([0, 1], [[1, 1], [1, 0]]), ([0, 2], [[0, 0], [1, 1]])]
  counts = counted(*steps, forgetting=0.25)
  assert counts.right.tolist() == [0.75 * 2, 1, 2, 0]
  assert counts.graded.tolist() == [0.75 * 2 + 2, 2, 2, 0]
  assert counts.visits.tolist() == [2, 1, 1, 0]
  last = counted(*steps, forgetting=1.0)
  assert (last.right[0], last.graded[0]) == (0, 2)


def test_a_problem_twice_in_a_step_forgets_once_and_counts_twice():
  first = ([1], [[1, 1, 1, 0]])
  counts = counted(first, ([1, 1], [[1, 0, 0, 0], [1, 1, 0, 0]]))
  assert (counts.right[1], counts.graded[1]) == (0.5 * 3 + 3, 0.5 * 4 + 8)
  assert counts.visits[1] == 2


def test_what_was_not_graded_does_not_count():
  valid = np.array([[1, 0, 1, 1], [0, 0, 0, 0]], bool)
  before = ([0, 1], [[1, 1, 0, 0]] * 2)
  counts = counted(before, ([0, 1], [[1, 1, 0, 0]] * 2, valid))
  assert counts.right.tolist() == [2, 2, 0, 0]
  assert counts.graded.tolist() == [0.5 * 4 + 3, 4, 0, 0]
  assert counts.visits.tolist() == [2, 1, 0, 0]


def test_counts_stay_possible_however_long_a_run():
  """Halved a thousand times, they neither cross nor leave their range."""
  draw = np.random.default_rng(0)
  steps = [
    ([0, 1], np.stack([draw.random(4) < 0.9, np.zeros(4)])) for _ in range(1000)
  ]
  counts = counted(([1], [[1, 0, 0, 0]]), *steps, forgetting=0.3)
  assert np.all((0 <= counts.right) & (counts.right <= counts.graded))
  k = k_by_problem.ks(counts, np.arange(4), k_max=8)
  assert k[0] == 1 and k[1] == 8 and np.all((1 <= k) & (k <= 8))


def test_k_is_that_of_the_pool_at_the_rows_of_the_step():
  counts = counted(([0, 1], [[1] * 16, [1] * 4 + [0] * 12]))
  k = k_by_problem.ks(counts, np.array([1, 0, 1, 3]), k_max=8)
  pool = pkpo_jax.k_from_solve_rate(counts.right, counts.graded, k_max=8)
  assert k.tolist() == np.asarray(pool)[[1, 0, 1, 3]].tolist()
  assert k.dtype == np.int32 and k[1] == 1 < k[0] == k[2]


def test_the_metrics():
  counts = counted(([0, 1], [[1], [0]]), ([0], [[1]]))
  rows, k = np.array([0, 0, 1, 3]), np.array([1, 1, 3, 3])
  found = k_by_problem.measure(counts, rows, k)
  assert found == {"k_std": 1.0, "k_visits": 5 / 4}


# --- In a run.

N, B = 6, 4  # each third of the steps takes problems of two epochs


def make_config(**changes):
  config = tiny_config.get_config()
  config.update(k_schedule="by_problem", k_opt=(4,), n=8, prompts_per_step=B)
  config.update(num_steps=12, epochs=2, **changes)
  config.task.num_train = N
  config.checkpoint.every = 1
  return config


@pytest.fixture
def steps(monkeypatch):
  """Steps without a model; problem i of 6 has i + 2 right answers of 8."""
  order = {}

  def rewards(problems, n):
    numbers = [order.setdefault(p.id, len(order)) for p in problems]
    return np.arange(n) < np.array(numbers)[:, None] + 2

  return no_model.patch(monkeypatch, rewards)


@pytest.mark.slow
def test_k_of_a_step_is_from_earlier_steps_alone(steps, tmp_path):
  """Recomputed from the rewards, for epochs too; twice in a batch, as once."""
  config = make_config()
  loop.train(config, tmp_path / "run", tmp_path / "base")
  ids = sorted({p.id for problems, *_ in steps for p in problems})
  counts, varied, twice = k_by_problem.no_counts(N), set(), 0
  for record, (problems, rewards, k) in zip(
    runs.records(tmp_path / "run"), steps, strict=True
  ):
    rows = np.array([ids.index(p.id) for p in problems])
    pool = pkpo_jax.k_from_solve_rate(counts.right, counts.graded, k_max=4)
    assert k.dtype == np.int32 and k.tolist() == np.asarray(pool)[rows].tolist()
    assert record["k_std"] == np.std(k)
    assert record["k_visits"] == np.mean(counts.visits[rows])
    valid = np.ones(rewards.shape, bool)
    counts = k_by_problem.count(counts, rows, rewards, valid, forgetting=0.5)
    varied |= set(k.tolist())
    twice += len(set(rows.tolist())) < B
  assert varied >= {1, 2, 3, 4} and twice
  saved = runs.final_state(tmp_path / "run")
  for name in counts._fields:
    assert sorted(saved[f"counts/{name}"]) == sorted(getattr(counts, name))


@pytest.mark.slow
def test_a_resume_continues_the_counts_bit_for_bit(steps, tmp_path):
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  loop.train(make_config(), whole, tmp_path / "base")
  for num_steps in (1, 7, 12):
    config = make_config()
    config.num_steps = num_steps
    loop.train(config, parts, tmp_path / "base")
  runs.assert_same(parts, whole)
  ks = [k for *_, k in steps]
  np.testing.assert_array_equal(ks[:12], ks[12:])
