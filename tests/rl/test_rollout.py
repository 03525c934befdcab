"""pkpo_jax.rl.rollout with a task that grades by counting words."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import plain

from pkpo_jax.lm import sampler, tokenizers
from pkpo_jax.rl import rollout
from pkpo_jax.tasks import base

WORDS = ("a", "b", "c", "d")
n, P, T = 5, 4, 6
PROBLEMS = [
  base.Problem(str(i), prompt, "", None)
  for i, prompt in enumerate(("a", "b c", "c c d"))
]


@dataclasses.dataclass
class CountTask(base.BaseTask):
  """Worth one for each "a", not to be graded with a "b"."""

  seen: list = dataclasses.field(default_factory=list)

  def grade(self, problem, completion):
    self.seen.append((problem.id, completion))
    valid = "b" not in completion.split()
    return base.Grade(completion.split().count("a"), valid, "counted")


def keys(count=3):
  return jax.random.split(jax.random.key(2), count)


def make_roller(task, model):
  return rollout.RolloutWorker(
    model,
    tokenizers.WordTokenizer(WORDS),
    task,
    max_prompt_tokens=P,
    max_new_tokens=T,
    temperature=1.0,
  )


@pytest.fixture(scope="module")
def rolled():
  model = plain.tiny_model(num_layers=1, num_embed=7)
  params, task = plain.random_params(model), CountTask()
  roll = make_roller(task, model)
  result, seconds = roll(params, PROBLEMS, keys(), n=n)
  return roll, params, task.seen[:], result, seconds


def read(tokens):
  """The words of a completion up to EOS, one id at a time."""
  words = []
  for token in tokens:
    if token in (0, 1):
      break
    words.append("<bos>" if token == 2 else WORDS[token - 3])
  return words


def test_rewards_are_the_grades_of_the_completions(rolled):
  *_, result, _ = rolled
  texts = [[read(tokens) for tokens in rows] for rows in result.completions[0]]
  expected = [[text.count("a") for text in row] for row in texts]
  np.testing.assert_array_equal(result.rewards, expected)
  expected = [["b" not in text for text in row] for row in texts]
  np.testing.assert_array_equal(result.valid, expected)
  assert result.rewards.dtype == np.float32
  assert result.valid.dtype == bool
  assert len(np.unique(result.rewards)) > 2
  assert 0 < result.valid.mean() < 1


def test_the_task_sees_every_completion_with_its_problem(rolled):
  _, _, seen, result, _ = rolled
  expected = [
    (problem.id, " ".join(read(tokens)))
    for problem, rows in zip(PROBLEMS, result.completions.tokens)
    for tokens in rows
  ]
  assert seen == expected


def test_the_rollout_holds_what_was_sampled_on_the_host(rolled):
  *_, result, seconds = rolled
  expected = [[2, 3, 0, 0], [2, 4, 5, 0], [2, 5, 5, 6]]
  np.testing.assert_array_equal(result.prompts, expected)
  np.testing.assert_array_equal(result.prompt_lengths, [2, 3, 4])
  for leaf in jax.tree.leaves(result):
    assert isinstance(leaf, np.ndarray)
  for leaf in result.completions:
    assert leaf.shape == (3, n, T)
  assert set(seconds) == {"sample", "grade"}
  assert all(value >= 0 for value in seconds.values())


def test_a_problem_keeps_its_samples_with_its_key(rolled):
  roll, params, _, result, _ = rolled
  order = np.array([2, 0, 1])
  moved, _ = roll(params, [PROBLEMS[i] for i in order], keys()[order], n=n)
  np.testing.assert_array_equal(
    moved.completions.tokens, result.completions.tokens[order]
  )
  np.testing.assert_array_equal(moved.rewards, result.rewards[order])


def test_a_prompt_too_long_is_named(rolled):
  roll, params, *_ = rolled
  too_long = base.Problem("the long one", "a b c d", "", None)
  with pytest.raises(ValueError, match=r"'the long one' has 5 .*tokens=4"):
    roll(params, [*PROBLEMS[:2], too_long], keys(), n=n)


def test_a_reward_that_is_not_finite_stops_the_run():
  class BrokenTask(CountTask):
    def grade(self, problem, completion):
      return base.Grade(float("nan"), problem.id == "1", "broken")

  model = plain.tiny_model(num_layers=1, num_embed=7)
  roll = make_roller(BrokenTask(), model)
  with pytest.raises(ValueError, match=r"problem '1' has reward nan"):
    roll(plain.random_params(model), PROBLEMS, keys(), n=n)


@pytest.mark.parametrize("name", ["log_probs", "entropy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_policy_that_is_not_finite_is_named_and_not_graded(
  rolled, monkeypatch, name, value
):
  _, params, _, result, _ = rolled
  numbers = getattr(result.completions, name).copy()
  numbers[1, 3, 0] = numbers[1, 3, 1] = numbers[2, 0, 0] = value
  broken = result.completions._replace(**{name: numbers})
  monkeypatch.setattr(sampler, "sample", lambda *_, **__: broken)
  task = CountTask()
  roll = make_roller(task, plain.tiny_model(num_layers=1, num_embed=7))
  message = f"token 0 of sample 3 of problem '1' .*{value}.* 2 of 15 compl"
  with pytest.raises(FloatingPointError, match=message):
    roll(params, PROBLEMS, keys(), n=n)
  assert not task.seen
