import os
import pathlib

import pytest

from pkpo_jax.tasks import answer_task, base

HELPERS = pathlib.Path(__file__).parents[1] / "helpers"


@pytest.fixture
def make():
  """Tasks of two problems with the answers 1/2 and 3, closed at the end."""
  tasks = []

  def make(**options):
    problems = [base.Problem(x, "", "", x) for x in (r"\frac12", "3")]
    options = {"few_shot": 0, "timeout": 5.0, "num_workers": 1} | options
    tasks.append(answer_task.AnswerTask({"train": problems}, **options))
    return tasks[-1]

  yield make
  for task in tasks:
    task.close()


RIGHT = base.Grade(1.0, True, "right")
WRONG = base.Grade(0.0, True, "wrong")


def test_grades_are_those_of_each_answer(make):
  task = make()
  problems = task.problems("train")
  completions = [[r"\boxed{0.5}", r"\boxed{3}"], [r"\boxed{1/2}", r"\boxed{3}"]]
  grades = task.grades(problems, completions)
  assert grades == [[RIGHT, WRONG], [WRONG, RIGHT]]
  assert grades == [
    [task.grade(problem, text) for text in row]
    for problem, row in zip(problems, completions)
  ]
  rewards, valid = task.grade_batch(problems, completions)
  assert rewards.tolist() == [[1, 0], [0, 1]] and valid.all()


def test_a_missing_row_of_answers_is_an_error(make):
  task = make()
  with pytest.raises(ValueError, match="argument"):
    task.grades(task.problems("train"), [["1"]])


@pytest.fixture(scope="module")
def by_shots():
  """Tasks without and with worked examples in their prompts."""
  options = {"timeout": 5.0, "num_workers": 1}
  tasks = [answer_task.AnswerTask({}, few_shot=n, **options) for n in (0, 1)]
  yield tasks
  for task in tasks:
    task.close()


@pytest.mark.parametrize(
  "asked",
  [
    "\n\nQuestion: What is 2+2?\nAnswer:",
    "\nQuestion: What is 2+2?\n",
    "\n\nQ: What is 2+2?\nA:",
    "\n\nProblem: What is 2+2?\nSolution:",
    "\n\n\nProblem 2. Add 2 and 2.\n",
    "\nProblem:\nWhat is 2+2? ",
    "\n\nQuestion 7 (easy)\n2+2?",
    "\n\nExercise 1.2: add 2 and 2.",
    "\n\n**Problem**\n\nWhat is 2+2?\n\n**Answer**",
    "\n\n**Question:** 2+2?",
  ],
)
def test_with_worked_examples_an_answer_ends_at_the_next_question(
  by_shots, asked
):
  text = f"2+1 is 3.\nThe final answer is \\boxed{{3}}.{asked} \\boxed{{4}}"
  problem = base.Problem("", "", "", "3")
  assert by_shots[1].grade(problem, text) == RIGHT
  assert by_shots[1].grades([problem], [[text]]) == [[RIGHT]]


@pytest.mark.parametrize(
  "text",
  [
    "\n\nThe question is how many. The problem: none.\n\nSo \\boxed{3}.",
    " Q: is it 3? A:\nYes.\n\n#### 3",
    "\n\n## Solution\n\n\\boxed{3}",
  ],
)
def test_with_worked_examples_a_solution_may_speak_of_the_question(
  by_shots, text
):
  assert by_shots[1].grade(base.Problem("", "", "", "3"), text) == RIGHT


def test_stop_strings_go_with_worked_examples(by_shots):
  assert by_shots[0].stop == ()
  assert base.stop_strings(by_shots[1]) == answer_task.NEXT_PROBLEM


def test_our_grader_sees_the_question(make):
  task = make()
  asked = r"Compute $\frac14+\frac14$."
  problem = base.Problem("", "", "", r"\frac12", asked)
  copy = r"\boxed{\frac14+\frac14}"
  assert task.grade(problem, copy).reward == 0
  reduced = base.Problem("", "", "", r"\frac12", r"Reduce $\frac24$.")
  fraction = [[r"\boxed{\frac24}"]]
  assert task.grades([reduced], fraction)[0][0].reward == 0
  unasked = base.Problem("", "", "", r"\frac12")
  assert task.grades([unasked], fraction) == [[RIGHT]]


def test_another_grader_gets_the_reference_and_the_completion(
  make, monkeypatch
):
  monkeypatch.syspath_prepend(str(HELPERS))
  task = make(grader="graders:behave")
  problem = base.Problem("", "", "", "echo")
  assert task.grade(problem, "text") == base.Grade(1.0, True, "text")


@pytest.mark.parametrize("num_workers", [2, None])
def test_workers_start_when_told_and_end_when_closed(
  make, monkeypatch, num_workers
):
  """As many as are asked for, or as there are processor cores."""
  monkeypatch.setattr(os, "cpu_count", lambda: 2)
  task = make(num_workers=num_workers)
  task.start()
  workers = [worker._process for worker in task._pool._workers]
  assert len(workers) == 2
  assert [worker.poll() for worker in workers] == [None, None]
  task.close()
  assert None not in [worker.poll() for worker in workers]


def test_prompts():
  box = answer_task.INSTRUCTION
  assert answer_task.prompt(" 1+1? \n", "") == "1+1?"
  assert answer_task.prompt("1+1?", box) == f"1+1?\n\n{box}"
  shot = answer_task.shot("2+2?", "Add. ", "4")
  assert answer_task.prompt("1+1?", "Think.", [shot]) == (
    "Think.\n\nQuestion: 2+2?\nAnswer: Add.\nThe final answer is \\boxed{4}."
    "\n\nQuestion: 1+1?\nAnswer:"
  )


def test_the_first_problems():
  assert answer_task.first([1, 2, 3], num_test=2) == [1, 2]
  assert answer_task.first([1, 2, 3], num_test=None) == [1, 2, 3]
  for count in (0, 4):
    with pytest.raises(ValueError, match=rf"num_test={count} is not in 1\.\.3"):
      answer_task.first([1, 2, 3], num_test=count)


@pytest.mark.parametrize("few_shot", [-1, 3])
def test_some_problems_must_be_left(few_shot):
  with pytest.raises(
    ValueError, match=rf"few_shot={few_shot} is not in 0\.\.2"
  ):
    answer_task.check_few_shot(few_shot, 3)
