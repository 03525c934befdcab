"""experiments.evaluate: its numbers as a table and as JSON."""

import json
import math
import types

import numpy as np
import pytest
from helpers.graded import make_answers

from experiments import evaluate
from pkpo_jax.rl import evaluation
from pkpo_jax.tasks import base

PROBLEMS = [base.Problem(str(i), "", "easy", None) for i in range(2)]
VALID = {"base": [[1, 1], [1, 0]], "trained": [[1, 1], [1, 1]]}
REWARDS = {"base": [[0, 1], [0, 0]], "trained": [[1, 1], [0, 0.5]]}


@pytest.fixture
def found(monkeypatch):
  """Two policies on two problems; one answer of the base has no grade."""

  def sample(worker, params, problems, key, **options):
    assert problems is PROBLEMS and options["n"] == 2
    return make_answers(REWARDS[params], VALID[params])

  monkeypatch.setattr(evaluation, "evaluate", sample)
  config = types.SimpleNamespace(
    eval=types.SimpleNamespace(seed=1), prompts_per_step=4, temperature=0.7
  )
  parts = types.SimpleNamespace(
    problems={"test": PROBLEMS},
    dropped={"test": 3},
    rollout_worker=None,
    task=object(),
  )
  policies = evaluate.Policies(config, parts, "base", "trained", 40)
  return evaluate.evaluate(policies, "test", 2)


def test_what_was_evaluated_stands_beside_the_numbers(found):
  expected = {
    "split": "test", "step": 40, "n": 2, "temperature": 0.7, "seed": 1,
    "num_problems": 2, "num_dropped": 3,
  }  # fmt: skip
  assert expected.items() <= found.items()
  assert found["metrics"]["base"]["num_ungraded"] == 1
  assert found["metrics"]["trained"]["num_ungraded"] == 0
  gain = found["compared"]["max@1"]["gain"]
  assert gain["mean"] == pytest.approx(np.mean([1, 0.25]) - np.mean([0.5, 0]))
  assert math.isnan(found["compared"]["pass@2"]["gain"]["mean"])


def test_the_json_has_null_for_what_does_not_exist(found):
  def refuse(name):
    raise AssertionError(f"{name} is not JSON")

  read = json.loads(evaluate.as_json(found), parse_constant=refuse)
  assert read["compared"]["pass@2"]["base"] == {
    "mean": None, "standard_error": None, "lower": 0.5, "upper": 1.0,
  }  # fmt: skip


def test_the_table_counts_and_shows_bounds(found):
  lines = evaluate.table(found).splitlines()
  assert lines[:3] == [
    "2 test problems x 2 answers at step 40; 3 problems dropped as too long",
    "base: 1 of 4 answers ungraded",
    "trained: 0 of 4 answers ungraded",
  ]
  (row,) = (line for line in lines if line.startswith("  pass@2"))
  assert row.split() == [
    "pass@2", "0.500..1.000", "0.500", "±", "0.500", "-0.500..0.000",
  ]  # fmt: skip
