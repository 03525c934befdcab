"""tasks.copy_words: rewards are fractions of places, and vary by chance."""

import itertools

import numpy as np
import pytest

from pkpo_jax import tasks
from pkpo_jax.tasks import base


@pytest.mark.parametrize(
  ("answer", "reward", "reason"),
  [
    ("{0} {1} {2} {3}", 1.0, "right"),
    ("{0} {1} {2}", 0.75, "partly right"),
    ("none {1}", 0.25, "partly right"),
    ("none none", 0.0, "wrong"),
    ("", 0.0, "wrong"),
    ("{0} {1} {2} {3} {3}", 0.8, "partly right"),
  ],
)
def test_the_reward_is_the_fraction_of_places(answer, reward, reason):
  task = tasks.get_task("copy_words")
  problem = task.problems("test")[0]
  text = answer.format(*problem.prompt.split())
  assert task.grade(problem, text) == base.Grade(reward, True, reason)


def test_a_random_policy_earns_different_rewards():
  """So that a group of 16 has a gradient: its rewards differ."""
  task, rng = tasks.get_task("copy_words"), np.random.default_rng(0)
  assert isinstance(task, base.WordTask)
  problems = task.problems("train")
  answers = [
    [" ".join(rng.choice(task.words, 4)) for _ in range(16)] for _ in problems
  ]
  rewards, valid = task.grade_batch(problems, answers)
  assert valid.all() and np.all(np.ptp(rewards, axis=1) > 0)


def test_problems_are_fixed_by_their_seed():
  first, again, other = (
    tasks.get_task("copy_words", length=6, num_train=3, num_test=2, seed=seed)
    for seed in (1, 1, 2)
  )
  for split, count in (("train", 3), ("test", 2)):
    assert first.problems(split) == again.problems(split)
    assert first.problems(split) != other.problems(split)
    assert len(first.problems(split)) == count
    assert all(len(p.prompt.split()) == 6 for p in first.problems(split))


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_demonstrations(wrong):
  task = tasks.get_task("copy_words")
  pairs = list(itertools.islice(task.demonstrations(0, wrong=wrong), 50))
  assert all(set(answer.split()) <= set(task.words) for _, answer in pairs)
  assert np.mean([a == b for a, b in pairs]) == 1 - wrong


@pytest.mark.parametrize("name", ["length", "num_train", "num_test"])
def test_numbers_must_be_positive(name):
  with pytest.raises(ValueError, match=f"{name}=0"):
    tasks.get_task("copy_words", **{name: 0})
