"""training.run_evaluation: a saved run's policies, sampled and on record."""

import json
import pathlib

import jax
import numpy as np
import pytest
from helpers import saved_run

from pkpo_jax.rl import evaluation
from pkpo_jax.training import (
  checkpointing,
  evaluation_record,
  metrics_writer,
  provenance,
  run_evaluation,
)
from pkpo_jax.training import evaluation_request as request_lib

pytestmark = pytest.mark.slow
NONE = pathlib.Path("no base policy is needed")


def evaluate(run, step, changes=(), **options):
  request = request_lib.make_request(run, dict(changes), **options)
  evaluator = run_evaluation.Evaluator(
    request, *request_lib.load_problems(request), NONE
  )
  path = evaluator.evaluate(step)
  evaluator.close()
  return evaluation_record.read(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return saved_run.copy(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(autouse=True, scope="module")
def committed():
  code = {"commit": "1234", "python": "3", "versions": {}}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(provenance, "code", lambda: code)
    yield


@pytest.fixture(scope="module")
def found(run):
  return evaluate(run, saved_run.STEP)


def test_it_is_what_the_run_has_found_at_that_step(found):
  """The same problems, keys and n by default: metrics.jsonl has the answer."""
  (expected,) = (
    record
    for record in metrics_writer.read(saved_run.RUN / "metrics.jsonl")
    if (record["stage"], record["step"]) == ("eval", saved_run.STEP)
  )
  assert expected["pass@4"] > 0
  shared = set(expected) & set(found["metrics"])
  assert len(shared) > 15
  for name in shared:
    value = expected[name]
    assert found["metrics"][name] == pytest.approx(value, rel=1e-4), name


def test_the_file_says_what_it_is(run, found):
  expected = {
    "what": evaluation_record.WHAT, "run": str(run), "step": 3, "n": 4,
    "split": "test", "temperature": 1.0, "top_p": None, "num_problems": 4,
    "num_dropped": 0, "num_ungraded": 0, "commit": "1234", "seed": 1,
    "binary_rewards": True, "processes": 1, "max_new_tokens": 6,
  }  # fmt: skip
  assert expected.items() <= found.items()
  assert found["task"]["name"] == found["config"]["task"]["name"] == "countdown"
  for name in ("policy", "contents", "versions", "devices", "time", "seconds"):
    assert name in found


def test_problems_have_counts_rewards_and_reasons(found):
  for problem in found["problems"]:
    assert len(problem["rewards"]) == sum(problem["reasons"].values()) == 4
    assert problem["num_right"] == sum(problem["rewards"])
    assert problem["num_ungraded"] == 0 <= problem["num_truncated"]
    assert 1 <= problem["mean_length"] <= 6
  right = np.mean([x["num_right"] / 4 for x in found["problems"]])
  assert found["metrics"]["pass@1"] == right
  assert len({x["id"] for x in found["problems"]}) == 4


def test_what_is_on_record_is_not_sampled_again(run, found, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(evaluation, "evaluate", lambda *_, **__: 1 / 0)
    assert evaluate(run, 3) == found
    with pytest.raises(ZeroDivisionError):
      evaluate(run, 3, n=5)


def rewards(found):
  return [x["rewards"] for x in found["problems"]]


def test_more_answers_begin_with_the_same_in_whatever_parts(run, found):
  """9 are sampled one by one, 16 or 8 of them at a time."""
  many = evaluate(run, 3, n=9)
  assert [x[:4] for x in rewards(many)] == rewards(found)
  file = run / "evaluations" / "step3_test_n9_t1.json"
  file.unlink()
  again = evaluate(run, 3, {"prompts_per_step": 2}, n=9)
  assert rewards(again) == rewards(many) and file.exists()


def test_the_base_policy_is_step_0(run, found):
  base = evaluate(run, 0)
  assert base["policy"] != found["policy"]
  assert rewards(base) != rewards(found)
  gains = evaluation_record.compare(base, found, (1, 4))
  change = found["metrics"]["pass@4"] - base["metrics"]["pass@4"]
  assert gains["pass@4"].mean == pytest.approx(change)


def test_another_base_policy_than_the_runs_is_an_error(run):
  path = run / "contents.json"
  path.write_text('{"the weights of the base policy": "another"}')
  with pytest.raises(ValueError, match="weights of the base policy changed"):
    evaluate(run, 0, n=1)
  path.unlink()


def test_a_greedy_evaluation_has_one_answer_of_the_likeliest_tokens(run):
  greedy = evaluate(run, 3, temperature=0)
  cold = evaluate(run, 3, temperature=1e-3, n=1)
  assert rewards(greedy) == rewards(cold)
  # Entropies are those of the policy, and not of what was drawn from.
  assert greedy["metrics"]["entropy"] > 0.1 > cold["metrics"]["entropy"]


def test_parameters_alone_are_restored(run, monkeypatch):
  """None of the optimiser's arrays is ever read."""
  asked = []
  restore = checkpointing.ocp.Checkpointer.restore

  def spy(self, path, *, args):
    asked.extend(jax.tree_util.tree_leaves_with_path(args.default.item))
    return restore(self, path, args=args)

  monkeypatch.setattr(checkpointing.ocp.Checkpointer, "restore", spy)
  evaluate(run, 3, num_problems=1)
  names = [jax.tree_util.keystr(path) for path, _ in asked]
  assert len(names) > 10 and not any("opt_state" in name for name in names)


def test_what_a_run_holds_is_json(run, found):
  del found
  for path in (run / "evaluations").iterdir():
    json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
