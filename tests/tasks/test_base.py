import re

import numpy as np
import pytest

from pkpo_jax import tasks
from pkpo_jax.tasks import base

PROBLEMS = [base.Problem(str(i), "?", "", 10.0 * i) for i in range(3)]


class Oracle(base.BaseTask):
  """Rewards are the answers and the problem's data; "?" cannot be graded."""

  def grade(self, problem, completion):
    if completion == "?":
      return base.Grade(np.nan, False, "unclear")
    return base.Grade(float(completion) + problem.data, True, "clear")


def oracle():
  return Oracle({"train": PROBLEMS[:2], "test": PROBLEMS[2:]})


def test_problems_are_those_of_the_split():
  assert oracle().problems("train") == PROBLEMS[:2]
  assert oracle().problems("test") == PROBLEMS[2:]


def test_an_unknown_split_is_an_error_that_names_those_there_are():
  with pytest.raises(ValueError, match=r"'validation'; known: train, test\."):
    oracle().problems("validation")
  with pytest.raises(ValueError, match=r"'train'; known: test\."):
    Oracle({"test": PROBLEMS}).problems("train")


def test_grades_have_a_row_for_each_problem():
  assert oracle().grades(PROBLEMS[:2], [["0.5"], ["1", "2"]]) == [
    [base.Grade(0.5, True, "clear")],
    [base.Grade(11.0, True, "clear"), base.Grade(12.0, True, "clear")],
  ]


def test_grade_batch_is_rewards_and_valid_of_the_grades():
  rewards, valid = oracle().grade_batch(
    PROBLEMS[:2], [["0.5", "?"], ["1", "2"]]
  )
  np.testing.assert_array_equal(rewards, [[0.5, np.nan], [11, 12]])
  np.testing.assert_array_equal(valid, [[True, False], [True, True]])
  assert rewards.dtype == np.float32 and valid.dtype == bool


@pytest.mark.parametrize("reward", ["nan", "inf", "-1e+39"])
def test_a_valid_reward_that_is_not_finite_in_float32_is_an_error(reward):
  message = f"Sample 1 of problem '1' has reward {re.escape(reward)}"
  with pytest.raises(ValueError, match=message):
    oracle().grade_batch(PROBLEMS[1:], [["1", reward], ["2", "3"]])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "options", "binary"),
  [
    ("countdown", {"num_train": 1, "num_test": 1}, True),
    ("list_programs", {"num_train": 1, "num_test": 1}, False),
    ("arc", {"reward": "exact"}, True),
    ("arc", {"reward": "cells"}, False),
  ],
)
def test_a_task_says_whether_its_rewards_are_0_and_1(name, options, binary):
  assert base.has_binary_rewards(tasks.get_task(name, **options)) == binary


def test_a_task_without_a_word_on_it_has_any_rewards():
  assert not base.has_binary_rewards(object())
  assert not base.has_binary_rewards(oracle())


@pytest.mark.parametrize("method", ["grades", "grade_batch"])
def test_a_missing_row_of_answers_is_an_error(method):
  with pytest.raises(ValueError, match="argument"):
    getattr(oracle(), method)(PROBLEMS[:2], [["1"]])


def test_start_and_close_are_there_for_tasks_that_need_none():
  task = oracle()
  task.start()
  task.close()
  assert task.grade(PROBLEMS[0], "1") == base.Grade(1.0, True, "clear")


def test_a_task_that_says_not_how_to_grade_is_an_error():
  with pytest.raises(NotImplementedError, match="BaseTask has no method grade"):
    base.BaseTask({"train": PROBLEMS}).grade(PROBLEMS[0], "1")
