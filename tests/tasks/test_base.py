import numpy as np
import pytest

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
