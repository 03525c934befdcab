"""pkpo_jax.rl.rollout with a task that grades by counting words."""

import dataclasses
import itertools
import json

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


def make_roller(task, model, **options):
  return rollout.RolloutWorker(
    model,
    tokenizers.WordTokenizer(WORDS),
    task,
    max_prompt_tokens=P,
    max_new_tokens=T,
    temperature=1.0,
    **options,
  )


@pytest.fixture(scope="module")
def rolled():
  model = plain.tiny_model(num_layers=1, num_embed=7)
  params, task = plain.random_params(model), CountTask()
  roll = make_roller(task, model)
  rolled = roll(params, PROBLEMS, keys(), n=n)
  return roll, params, task.seen[:], *rolled


def read(tokens):
  """The words of a completion up to EOS, one id at a time."""
  words = []
  for token in tokens:
    if token in (0, 1):
      break
    words.append("<bos>" if token == 2 else WORDS[token - 3])
  return words


@pytest.mark.slow
def test_rewards_are_the_grades_of_the_completions(rolled):
  *_, result, reasons, _ = rolled
  texts = [[read(tokens) for tokens in rows] for rows in result.completions[0]]
  expected = [[text.count("a") for text in row] for row in texts]
  np.testing.assert_array_equal(result.rewards, expected)
  expected = [["b" not in text for text in row] for row in texts]
  np.testing.assert_array_equal(result.valid, expected)
  assert result.rewards.dtype == np.float32
  assert result.valid.dtype == bool
  assert len(np.unique(result.rewards)) > 2
  assert 0 < result.valid.mean() < 1
  assert reasons == [["counted"] * n] * 3


@pytest.mark.slow
def test_the_task_sees_every_completion_with_its_problem(rolled):
  """And those that it could not grade once more."""
  _, _, seen, result, *_ = rolled
  expected = [
    (problem.id, " ".join(read(tokens)))
    for problem, rows in zip(PROBLEMS, result.completions.tokens)
    for tokens in rows
  ]
  again = [answer for answer in expected if "b" in answer[1].split()]
  assert again and seen == expected + again


def test_what_could_not_be_graded_is_graded_once_more():
  class Flaky(CountTask):
    def grade(self, problem, completion):
      grade = super().grade(problem, completion)
      fails = (completion, problem.id) in failures
      failures.discard((completion, problem.id))
      return base.Grade(7.0, False, "flaky") if fails else grade

  failures = {("a", "0"), ("b", "1")}
  task = Flaky()
  grades = rollout.grade_twice(
    task, PROBLEMS[:2], [["a", "c", "a a"], ["b", "c", "d"]]
  )
  assert grades == [
    [(1, True, "counted"), (0, True, "counted"), (2, True, "counted")],
    [(0, False, "counted"), (0, True, "counted"), (0, True, "counted")],
  ]
  assert len(task.seen) == 6 + 2 and not failures


def test_the_rollout_holds_what_was_sampled_on_the_host(rolled):
  *_, result, _, seconds = rolled
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
  roll, params, _, result, *_ = rolled
  order = np.array([2, 0, 1])
  moved, *_ = roll(params, [PROBLEMS[i] for i in order], keys()[order], n=n)
  np.testing.assert_array_equal(
    moved.completions.tokens, result.completions.tokens[order]
  )
  np.testing.assert_array_equal(moved.rewards, result.rewards[order])


@pytest.mark.parametrize(
  ("count", "process"), [(4, 0), (4, 2), (7, 3), (20, 9)]
)
def test_several_processes_grade_a_part_each(
  rolled, monkeypatch, count, process
):
  """Three problems of n = 5 answers, for more processes too than answers."""
  roll, params, *_, result, reasons, _ = rolled
  grades = [
    [float(g), bool(ok), why]
    for row in zip(result.rewards, result.valid, reasons)
    for g, ok, why in zip(*row)
  ]
  ends = [15 * i // count for i in range(count + 1)]
  parts = [json.dumps(grades[a:b]) for a, b in itertools.pairwise(ends)]

  def gather(own):
    assert own == parts[process]
    return parts

  monkeypatch.setattr(rollout.multihost, "gather_texts", gather)
  monkeypatch.setattr(rollout.multihost, "fetch", jax.device_get)
  monkeypatch.setattr(jax, "process_count", lambda: count)
  monkeypatch.setattr(jax, "process_index", lambda: process)
  again, same_reasons, _ = roll(params, PROBLEMS, keys(), n=n)
  np.testing.assert_array_equal(again.rewards, result.rewards)
  np.testing.assert_array_equal(again.valid, result.valid)
  assert same_reasons == reasons


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
  _, params, _, result, *_ = rolled
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


def test_completions_without_an_end_are_truncated(rolled):
  *_, result, _, _ = rolled
  expected = [
    [len(tokens) == T and 1 not in tokens for tokens in rows]
    for rows in result.completions.tokens
  ]
  np.testing.assert_array_equal(
    result.truncated, result.completions.mask[..., -1] & expected
  )
  assert 0 < result.truncated.mean() < 1


def completions_of(rows):
  """Tokens of one prompt, whatever their log-probs."""
  tokens = tokenizers.pad(rows, T)[None]
  zeros = np.zeros(tokens.shape, np.float32)
  return sampler.Completions(tokens, zeros, zeros, tokens != 0)


def test_what_ends_with_the_last_token_is_not_truncated():
  words = tokenizers.WordTokenizer(WORDS)
  a, b, d = words.encode_completion("a b d")
  rows = [[a] * T, [a] * (T - 1) + [1], [a, 1], [a, b] * 3, [a] * 5 + [d]]
  some = completions_of(rows)
  cut = rollout.find_truncated(words, some)
  np.testing.assert_array_equal(cut, [[True, False, False, True, True]])
  cut = rollout.find_truncated(words, some, ["b a b", "d"])
  np.testing.assert_array_equal(cut, [[True, False, False, False, False]])


def test_a_stop_string_and_what_follows_are_not_in_the_text():
  words = tokenizers.WordTokenizer(("a", "b.c", "c"))
  a, b, c = words.encode_completion("a b.c c")
  some = completions_of([[a, b], [a, a], [b, a], [a, c], [c, b]])
  texts = rollout.decode_completions(words, some, [".", "a c", "c b"])
  assert texts == [["a b", "a a", "b", "", ""]]
  texts = rollout.decode_completions(words, some)
  assert texts == [["a b.c", "a a", "b.c a", "a c", "c b.c"]]


@pytest.mark.slow
def test_stop_strings_of_the_task_and_of_the_worker_end_completions(rolled):
  """Of those that were sampled without any, what comes before."""
  _, params, _, whole, _, _ = rolled
  task = CountTask()
  task.stop = ("a c",)
  model = plain.tiny_model(num_layers=1, num_embed=7)
  roll = make_roller(task, model, stop=["d"])
  result, _, _ = roll(params, PROBLEMS, keys(), n=n)
  texts = []
  for row in np.ndindex(3, n):
    words = read(whole.completions.tokens[row])
    kept = next(
      (
        t
        for t in range(len(words) + 1)
        if "a c" in " ".join(words[:t]) or "d" in words[:t]
      ),
      whole.completions.mask[row].sum(),
    )
    assert result.completions.mask[row].sum() == kept
    text = " ".join(words[:kept])
    texts.append(text.partition("a c")[0].partition("d")[0])
  assert [text for _, text in task.seen[: len(texts)]] == texts
  assert sum("d" in text or "a c" in text for _, text in task.seen) == 0
  mask = result.completions.mask
  assert mask.sum() < whole.completions.mask.sum()
  ended = result.truncated != whole.truncated
  assert not result.truncated[ended].any() and ended.any()


def test_truncated_completions_can_be_wrong(rolled):
  """Whatever the task says, that it has no grade too."""
  _, params, _, whole, reasons, _ = rolled
  model = plain.tiny_model(num_layers=1, num_embed=7)
  roll = make_roller(CountTask(), model, truncated_is_wrong=True)
  result, given, _ = roll(params, PROBLEMS, keys(), n=n)
  cut = whole.truncated
  np.testing.assert_array_equal(result.truncated, cut)
  np.testing.assert_array_equal(result.rewards, np.where(cut, 0, whole.rewards))
  np.testing.assert_array_equal(result.valid, whole.valid | cut)
  assert np.any(whole.rewards[cut] != 0) and not whole.valid[cut].all()
  expected = np.where(cut, "truncated", np.array(reasons))
  np.testing.assert_array_equal(np.array(given), expected)
