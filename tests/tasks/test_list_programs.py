"""List programs against plain Python on lists, one list at a time."""

import collections
import functools
import itertools
import random
import re
import time

import numpy as np
import pytest

from configs import list_programs as config
from pkpo_jax.tasks import base, list_programs

LISTS = list(itertools.product(range(10), repeat=3))
# Its three problems of "train" and "test" are enough to grade with.
FEW = {"num_train": 3, "num_test": 3}


PLAIN = {
  "rev": lambda a, b, c: (c, b, a),
  "rot": lambda a, b, c: (b, c, a),
  "sort": lambda *x: sorted(x),
  "max": lambda a, b, c: (a, max(a, b), max(a, b, c)),
  "min": lambda a, b, c: (a, min(a, b), min(a, b, c)),
  "inc": lambda *x: [0 if d == 9 else d + 1 for d in x],
  "dec": lambda *x: [9 if d == 0 else d - 1 for d in x],
  "dbl": lambda *x: [int(str(d + d)[-1]) for d in x],
  "half": lambda *x: [(d - d % 2) // 2 for d in x],
}


def plain(words, digits):
  """The naive reference."""
  for word in words:
    digits = PLAIN[word](*digits)
  return tuple(digits)


@functools.cache
def behaviour_of(words):
  """What a program does to each of the 1000 lists."""
  return tuple(plain(words, digits) for digits in LISTS)


@pytest.fixture(scope="module")
def behaviours():
  """Behaviour -> its shortest programs, up to three words and from none."""
  found = {}
  for length in range(4):
    for program in itertools.product(list_programs.PRIMITIVES, repeat=length):
      shortest = found.setdefault(behaviour_of(program), [program])
      if len(shortest[0]) == length and program not in shortest:
        shortest.append(program)
  return found


@pytest.fixture(scope="module")
def task():
  return list_programs.ListPrograms()


def examples_of(prompt):
  """The (list, list) pairs of a prompt."""
  sides = [example.split(" > ") for example in prompt.split(" ; ")]
  return [
    tuple(tuple(map(int, side.split())) for side in pair) for pair in sides
  ]


def program_of(problem):
  return tuple(problem.id.split("/")[0].split())


def all_problems(task):
  return [*task.problems("train"), *task.problems("test")]


def test_programs_do_what_plain_python_does():
  rng = random.Random(0)
  lists = np.array(LISTS, np.int8)
  for _ in range(300):
    words = rng.choices(list(list_programs.PRIMITIVES), k=rng.randrange(5))
    outputs = list_programs.run(words, lists)
    assert outputs.dtype == np.int8
    for row in rng.sample(range(1000), 20):
      assert tuple(outputs[row]) == plain(words, LISTS[row]), words


@pytest.mark.parametrize("word", list_programs.PRIMITIVES)
def test_every_word_on_every_list(word):
  outputs = list_programs.run([word], np.array(LISTS, np.int8))
  expected = [plain([word], digits) for digits in LISTS]
  np.testing.assert_array_equal(outputs, expected)


def test_behaviours_are_those_of_all_programs_with_their_shortest(behaviours):
  lengths = list_programs.behaviours(3)
  found = {
    tuple(map(tuple, b.outputs.tolist())): (length, b.programs)
    for length, some in enumerate(lengths)
    for b in some
  }
  assert found == {b: (len(ps[0]), ps) for b, ps in behaviours.items()}
  assert [len(some) for some in lengths] == [1, 9, 58, 318]
  programs = [words for _, some in found.values() for words in some]
  assert ("rev", "inc") in programs and ("inc", "rev") in programs
  assert ("inc", "dec") not in programs


@pytest.mark.slow
def test_a_behaviour_like_a_shorter_one_is_not_used(behaviours):
  """By counting: at most half of the lists have the outputs of another."""
  used = list_programs.distinct(list_programs.behaviours(3))
  used = {b.programs[0] for some in used for b in some}
  outputs = {ps[0]: np.array(b) for b, ps in behaviours.items()}
  for program in [ps[0] for ps in behaviours.values() if ps[0]]:
    shorter = [x for p, x in outputs.items() if len(p) < len(program)]
    most = max((outputs[program] == x).all(axis=1).sum() for x in shorter)
    assert (program in used) == (most <= 500), program
  assert len(used) == 347


@pytest.mark.slow
def test_problems_are_what_their_ids_say(task):
  for problem in all_problems(task):
    words = program_of(problem)
    shown = examples_of(problem.prompt)
    hidden = list(zip(*problem.data, strict=True))
    assert (len(shown), len(hidden)) == (3, 8)
    inputs = [digits for digits, _ in (*shown, *hidden)]
    assert len(set(inputs)) == 11
    for digits, output in (*shown, *hidden):
      assert output == plain(words, digits)
    assert problem.tier == f"words={len(words)}"
    assert set(problem.prompt.split()) <= set(task.words)


def test_no_shorter_program_explains_the_examples(task, behaviours):
  for problem in [*all_problems(task)[::16]]:
    shown = examples_of(problem.prompt)
    for programs in behaviours.values():
      if len(programs[0]) < len(program_of(problem)):
        answers = [plain(programs[0], digits) for digits, _ in shown]
        assert answers != [output for _, output in shown], problem


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_training_problem_or_demonstration_is_of_a_held_out_behaviour(seed):
  task = list_programs.ListPrograms(seed=seed)
  behaviour = {
    split: {behaviour_of(program_of(p)) for p in task.problems(split)}
    for split in ("train", "test")
  }
  assert not behaviour["train"] & behaviour["test"]
  pairs = itertools.islice(task.demonstrations(0, wrong=0.3), 4000)
  answers = {answer for _, answer in pairs}
  shown = {behaviour_of(tuple(answer.split())) for answer in answers}
  assert not shown & behaviour["test"]
  assert shown == behaviour["train"]


def test_prompts_of_demonstrations_are_of_training_behaviours(task):
  """Some used behaviour that is not held out explains each of them."""
  held_out = {behaviour_of(program_of(p)) for p in task.problems("test")}
  train = {behaviour_of(program_of(p)) for p in task.problems("train")}
  rows = {digits: row for row, digits in enumerate(LISTS)}
  by_held_out = 0
  for prompt, _ in itertools.islice(task.demonstrations(3, wrong=1.0), 200):
    shown = [(rows[digits], output) for digits, output in examples_of(prompt)]
    explained = [
      any(all(b[row] == output for row, output in shown) for b in some)
      for some in (train, held_out)
    ]
    by_held_out += explained[1]
    assert explained[0]
  assert by_held_out < 20


def test_each_length_is_split_by_the_same_fraction(task):
  programs = {program_of(p) for p in task.problems("test")}
  counts = collections.Counter(len(words) for words in programs)
  assert counts == {1: round(9 / 5), 2: round(58 / 5), 3: round(280 / 5)}
  train = {program_of(p) for p in task.problems("train")}
  assert len(train) + len(programs) == 347


def test_problems_take_turns_among_behaviours(task):
  for split in ("train", "test"):
    programs = [program_of(p) for p in task.problems(split)]
    counts = collections.Counter(programs)
    assert max(counts.values()) - min(counts.values()) == 1
    assert len(set(programs[: len(counts)])) == len(counts)


def test_every_behaviour_is_held_out_equally_often():
  """Binomial(1000, 2/9) for each word alone: within five deviations."""
  lengths = list_programs.distinct(list_programs.behaviours(1))
  counts = collections.Counter()
  for seed in range(1000):
    train, test = list_programs.split(lengths, 0.2, random.Random(seed))
    assert len(train) == 7 and len(test) == 2
    counts.update(b.programs[0] for b in test)
  error = 5 * (1000 * 2 / 9 * 7 / 9) ** 0.5
  assert len(counts) == 9
  assert all(abs(c - 1000 * 2 / 9) < error for c in counts.values())


def test_words_are_as_frequent_in_held_out_programs_as_in_others():
  """Over 30 seeds, the mean gap is within five standard errors of zero."""
  lengths = list_programs.distinct(list_programs.behaviours(3))
  gaps = collections.defaultdict(list)
  for seed in range(30):
    shares = []
    for some in list_programs.split(lengths, 0.2, random.Random(seed)):
      words = [w for b in some for w in b.programs[0]]
      shares.append({w: words.count(w) / len(words) for w in PLAIN})
    for word in PLAIN:
      gaps[word].append(shares[0][word] - shares[1][word])
  for word, gap in gaps.items():
    assert abs(np.mean(gap)) < 5 * np.std(gap, ddof=1) / 30**0.5, word


@pytest.mark.slow
def test_the_seed_fixes_the_problems(task):
  again = list_programs.ListPrograms()
  other = list_programs.ListPrograms(seed=1)
  assert all_problems(again) == all_problems(task)
  held_out = [
    {program_of(p) for p in t.problems("test")} for t in (task, other)
  ]
  assert held_out[0] != held_out[1]
  assert len({p.id for p in all_problems(task)}) == 1024 + 128
  assert len({p.prompt for p in all_problems(task)}) == 1024 + 128


def answers_of_demonstrations(task, count, wrong):
  """(examples of the prompt, program)."""
  pairs = itertools.islice(task.demonstrations(0, wrong=wrong), count)
  return [(examples_of(prompt), answer.split()) for prompt, answer in pairs]


def explains(shown, words):
  return all(plain(words, digits) == output for digits, output in shown)


def test_demonstrations_are_right_unless_asked_otherwise(task):
  pairs = answers_of_demonstrations(task, 1000, 0.0)
  assert all(explains(shown, words) for shown, words in pairs)


def test_a_fraction_of_the_demonstrations_is_wrong(task):
  """A program drawn anew explains few of the prompts."""
  count = 4000
  anew = np.mean(
    [explains(*x) for x in answers_of_demonstrations(task, count, 1.0)]
  )
  assert anew < 0.02
  right = np.mean(
    [explains(*x) for x in answers_of_demonstrations(task, count, 0.3)]
  )
  # Five standard errors, and what is right by chance.
  assert abs(right - 0.7) < 5 * (0.7 * 0.3 / count) ** 0.5 + 0.3 * 0.02


def test_demonstrations_are_in_the_vocabulary_and_of_every_length(task):
  pairs = list(itertools.islice(task.demonstrations(7, wrong=0.3), 300))
  for prompt, answer in pairs:
    assert set(prompt.split()) | set(answer.split()) <= set(task.words)
  assert {len(answer.split()) for _, answer in pairs} == {1, 2, 3}
  assert task.max_answer_words == 3
  again = task.demonstrations(7, wrong=0.3)
  assert pairs == list(itertools.islice(again, 300))
  other = task.demonstrations(8, wrong=0.3)
  assert pairs != list(itertools.islice(other, 300))


@pytest.mark.slow
@pytest.mark.parametrize("num_hidden", [1, 5, 8])
def test_rewards_are_the_fraction_of_hidden_lists_that_are_right(num_hidden):
  task = list_programs.ListPrograms(num_hidden=num_hidden, num_train=20)
  rng = random.Random(0)
  rewards = collections.Counter()
  for problem in all_problems(task):
    assert task.grade(problem, " ".join(program_of(problem))).reward == 1
    for _ in range(30):
      words = list(program_of(problem))
      words[rng.randrange(len(words))] = rng.choice(
        list(list_programs.PRIMITIVES)
      )
      grade = task.grade(problem, " ".join(words))
      inputs, outputs = problem.data
      right = sum(plain(words, x) == y for x, y in zip(inputs, outputs))
      assert grade.valid
      assert grade.reward == right / num_hidden
      assert grade.reason == (
        "right" if right == num_hidden else "partly right" if right else "wrong"
      )
      rewards[right] += 1
  assert len(rewards) == num_hidden + 1  # All fractions occur.


def test_any_program_that_is_right_on_all_earns_everything():
  task = list_programs.ListPrograms(**FEW)
  data = (((1, 2, 3), (0, 9, 4)), ((4, 3, 2), (5, 0, 1)))
  problem = base.Problem("", "", "", data)
  for answer in ("rev inc", "inc rev", " inc\n rev ", "rot rot rot"):
    grade = task.grade(problem, answer)
    assert (grade == list_programs.RIGHT) == (answer != "rot rot rot")
  assert task.grade(problem, "rev") == base.Grade(0.0, True, "wrong")


HOSTILE = {
  "empty": "",
  "blanks": " \n\t " * 1_000,
  "too long": "rev rev rev rev",
  "much too long": "rev " * 300_000,
  "unknown": "rev foo",
  "separator": "rev ; inc",
  "digits": "1 2 3",
  "example": "1 2 3 > 3 2 1",
  "glued": "revinc",
  "commas": "rev, inc",
  "case": "Rev",
  "special": "rev <eos>",
  "code": "__import__('os')",
  "zero byte": "rev\x00",
  "surrogate": "\ud800",
  "fullwidth": "\uff52\uff45\uff56",
  "one long word": "r" * 1_000_000,
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_garbage_is_wrong_valid_and_fast(task, answer):
  start = time.perf_counter()
  grade = task.grade(task.problems("train")[0], answer)
  assert time.perf_counter() - start < 5
  assert grade == base.Grade(0.0, True, "malformed")


@pytest.mark.slow
def test_the_config_has_room_for_every_prompt_and_answer(task):
  limits = config.get_config()
  words = max(len(p.prompt.split()) for p in all_problems(task))
  assert words + 1 == limits.max_prompt_tokens
  assert task.max_answer_words + 1 == limits.max_new_tokens
  options = dict(limits.task)
  assert options.pop("name") == "list_programs"
  assert all_problems(list_programs.ListPrograms(**options)) == all_problems(
    task
  )


def test_other_sizes():
  task = list_programs.ListPrograms(
    max_words=2, num_shown=2, num_hidden=5, held_out=0.5, **FEW
  )
  for problem in all_problems(task):
    assert len(examples_of(problem.prompt)) == 2
    assert len(problem.data[0]) == 5
    assert len(program_of(problem)) <= 2
  assert task.max_answer_words == 2
  grade = task.grade(task.problems("train")[0], "rev rev rev")
  assert grade.reason == "malformed"


@pytest.mark.slow
@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"max_words": 0}, "max_words=0 must be 1..3"),
    ({"max_words": 4}, "max_words=4 must be 1..3"),
    ({"num_shown": 1}, "num_shown=1 must be 2..8"),
    ({"num_shown": 9}, "num_shown=9 must be 2..8"),
    ({"num_hidden": 0}, "num_hidden=0 1..100"),
    ({"num_hidden": 101}, "num_hidden=101 1..100"),
    ({"num_train": 0}, "num_train=0"),
    ({"num_test": 0}, "num_test=0"),
    ({"held_out": 0.0}, "held_out=0.0 of 9 behaviours of 1 words"),
    ({"held_out": -1}, "held_out=-1"),
    ({"held_out": 1.0}, "held_out=1.0"),
  ],
)
def test_options_out_of_range_are_errors(options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    list_programs.ListPrograms(**options)
