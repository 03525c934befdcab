"""training.evaluation_request: what may be asked, and the name of its file."""

import json

import pytest
from helpers import saved_run

from pkpo_jax.tasks import countdown
from pkpo_jax.training import build_run, provenance
from pkpo_jax.training import evaluation_request as request_lib


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return saved_run.copy(tmp_path_factory.mktemp("run") / "run")


def ask(run, changes=(), **options):
  return request_lib.make_request(run, dict(changes), **options)


def test_what_is_not_asked_is_as_in_the_run(run):
  request = ask(run)
  assert request.config.to_dict() == request.run_config.to_dict()
  assert (request.n, request.temperature, request.top_p) == (4, 1.0, None)
  assert ask(run, temperature=0).n == 1
  assert ask(run, top_p=1).top_p is None
  assert ask(run, n=100, temperature=0.5).n == 100


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"n": 0}, "--n=0 must be at least 1"),
    ({"temperature": -1}, "--temperature=-1 must be 0, greedy, or above"),
    ({"temperature": float("nan")}, "--temperature=nan must"),
    ({"temperature": float("inf")}, "--temperature=inf must"),
    ({"temperature": 0, "n": 2}, "greedy: all --n=2 answers would be the same"),
    ({"top_p": 0}, "--top_p=0 must be above 0"),
    ({"top_p": 1.5}, r"--top_p=1\.5 must"),
    ({"top_p": 0.5, "temperature": 0}, "no effect at --temperature=0"),
    ({"num_problems": 0}, "--num_problems=0 must"),
    ({"changes": {"n": 8}}, r"config\.n is the run's, .*config\.prompts_per"),
    ({"changes": {"model.embed_dim": 8}}, r"config\.model\.embed_dim is the"),
    ({"changes": {"evaluation": 8}}, r"config\.evaluation is the run's"),
    ({"changes": {"mesh.fsdp": "two"}}, r"config\.mesh\.fsdp='two': "),
    ({"changes": {"mesh.fdsp": 2}}, r"config\.mesh\.fdsp"),
    ({"changes": {"prompts_per_step": 0}}, r"prompts_per_step=0 must be above"),
    ({"changes": {"truncated": "so"}}, r"config\.truncated='so' must be"),
  ],
)
def test_what_cannot_be_asked_is_refused_by_name(run, options, message):
  with pytest.raises(ValueError, match=message):
    ask(run, **options)


def test_another_task_begins_without_the_options_of_the_runs(run):
  changes = {"task.name": "gsm8k", "task.path": "x.jsonl"}
  config = ask(run, changes).config
  assert config.task.to_dict() == {"name": "gsm8k", "path": "x.jsonl"}
  config = ask(run, {"task.numbers": (3,), "task.num_test": 2}).config
  assert config.task.num_train == 16 and tuple(config.task.numbers) == (3,)


def test_a_run_alone_is_evaluated(tmp_path):
  with pytest.raises(ValueError, match=r"config\.json is missing"):
    ask(tmp_path)


@pytest.mark.parametrize(
  ("wanted", "steps"),
  [
    (["0", "latest"], [0, 3]),
    (["latest"], [3]),
    (["3", "latest", "0"], [3, 0]),
  ],
)
def test_steps_are_chosen_by_their_number(run, wanted, steps):
  assert request_lib.choose_steps(run, wanted) == steps


@pytest.mark.parametrize("name", ["2", "x", "", "-3", "newest"])
def test_another_step_is_an_error_that_lists_those_there(run, name):
  with pytest.raises(ValueError, match=rf"--step={name}: .* has 0, 3, where 0"):
    request_lib.choose_steps(run, ["0", name])


def test_a_run_without_a_checkpoint_has_a_base_policy(tmp_path):
  assert request_lib.choose_steps(tmp_path, ["0"]) == [0]
  with pytest.raises(ValueError, match="no checkpoint yet; --step=0 evaluates"):
    request_lib.choose_steps(tmp_path, ["0", "latest"])


def test_problems_are_all_or_a_draw(run):
  data, problems = request_lib.load_problems(ask(run))
  assert list(data.problems) == ["test"] and len(problems) == 4
  _, some = request_lib.load_problems(ask(run, num_problems=2))
  assert len(some) == 2 and set(some) < set(problems)
  _, train = request_lib.load_problems(ask(run, split="train"))
  assert len(train) == 16


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_problems": 5}, "--num_problems=5: there are 4 test problems"),
    ({"split": "valid"}, "Unknown split 'valid'; known: train, test"),
    (
      {"changes": {"task.name": "copy_words"}},
      r"words are not those of .*countdown.* the only ones",
    ),
    (
      {"changes": {"task.name": "hendrycks_math", "task.path": "x"}},
      r"config\.task .*name='hendrycks_math'",
    ),
    ({"changes": {"task.num_tests": 5}}, "'num_tests'"),
  ],
)
def test_problems_that_are_not_there_are_an_error(run, options, message):
  with pytest.raises(ValueError, match=message):
    request_lib.load_problems(ask(run, **options))


def test_words_in_another_order_than_the_policy_learned_are_refused(run):
  words = build_run.make_task(ask(run).config).words
  contents = run / "contents.json"
  other = countdown.Countdown(numbers=(3,), num_train=1, num_test=1)
  other.words = words[::-1]
  contents.write_text(json.dumps(provenance.of_words(other)))
  with pytest.raises(ValueError, match="or are in another order"):
    request_lib.load_problems(ask(run))
  contents.unlink()


def test_what_answers_depend_on_has_a_file_of_its_own(run):
  asked = [
    {},
    {"n": 8},
    {"temperature": 0},
    {"temperature": 0.5},
    {"top_p": 0.9},
    {"split": "train"},
    {"num_problems": 3},
    {"changes": {"task.numbers": (3,)}},
    {"changes": {"task.numbers": (4,)}},
    {"changes": {"eval.seed": 7}},
    {"changes": {"stop": ("+",)}},
    {"changes": {"max_new_tokens": 5}},
    {"changes": {"truncated": "wrong"}},
  ]
  names = [request_lib.file_of(ask(run, **x), 3).name for x in asked]
  names.append(request_lib.file_of(ask(run), 0).name)
  assert len(set(names)) == len(names)
  assert names[0] == "step3_test_n4_t1.json"
  assert names[4] == "step3_test_n4_t1_p0.9.json"
  assert names[6] == "step3_test_n4_t1_3problems.json"
  assert names[7].startswith("step3_test_n4_t1_countdown_")
  same = ask(run, {"mesh.fsdp": 4, "prompts_per_step": 8})
  assert request_lib.file_of(same, 3).name == names[0]
