"""The shipped configs: every arm is valid, every run takes a step in miniature.

The problems here are our own; with a real vocabulary and a tiny random Gemma 2,
all else is what a pod runs. A right answer put into the model's mouth has to be
rewarded: so the wiring is proved, and not just executed.
"""

import importlib
import json
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from helpers import shared_data, vocabulary

from configs import gemma2
from experiments.hardware import programs
from pkpo_jax.lm import models, sampler
from pkpo_jax.tasks import reference_solutions
from pkpo_jax.training import (
  build_run,
  initial_policy,
  loop,
  metrics_writer,
)
from pkpo_jax.training import config as config_lib

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
PAPER = sorted(
  p.stem for p in CONFIGS.glob("gemma2_?b_*.py") if "lora" not in p.stem
)
LAPTOP_ONLY = ["countdown", "list_programs", "mazes"]
ONE_CARD = ["gemma2_2b_gsm8k_lora", "gemma3_1b_gsm8k_lora"]
VERIFY = pytest.mark.verify("configs", "pkpo_jax")


def get(name, *options):
  return importlib.import_module(f"configs.{name}").get_config(*options)


def test_all_six_runs_of_the_paper_are_there():
  domains = ("arc", "code", "math")
  assert PAPER == [f"gemma2_{s}_{d}" for s in ("2b", "9b") for d in domains]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAPTOP_ONLY + ONE_CARD)
def test_configs_for_a_laptop_and_for_one_card_are_valid(name):
  config_lib.check(get(name))


@pytest.mark.slow
@pytest.mark.parametrize("arm", gemma2.ARMS)
@pytest.mark.parametrize("name", PAPER)
def test_every_arm_is_valid(name, arm):
  config = get(name, arm)
  config_lib.check(config)
  assert config.n == 16 and config.transform == "sloo_minus_one"
  ks = config_lib.make_k_schedule(config)(jnp.array([0, 1499, 1500, 2249]))
  first = {"annealed": 8, "tzsm25": 16, "entropyreg": 1}.get(arm)
  first = int(arm[1:]) if first is None else first
  last = 1 if arm == "annealed" else first
  np.testing.assert_array_equal(ks, [first, first, last, last])
  assert (config.loss.entropy_coef > 0) == (arm == "entropyreg")


def test_an_unknown_option_is_an_error():
  with pytest.raises(ValueError, match=r"'k3' .* known: k1, k2"):
    get("gemma2_2b_math", "k3")


@pytest.mark.parametrize("name", PAPER + ONE_CARD)
def test_the_header_teaches(name):
  text = importlib.import_module(f"configs.{name}").__doc__
  for word in ("Cost:", "Expect", "Command", f"--config=configs/{name}.py:"):
    assert word in text


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["gemma2_2b_math", pytest.param("gemma2_9b_arc", marks=VERIFY)]
)
def test_shapes_of_the_update_at_full_size(name):
  """The state comes out as it went in; nothing is allocated."""
  config = get(name, "annealed")
  traced = programs.trace_update(config)
  state = jax.tree.leaves(traced.out_info[0])
  given = jax.tree.leaves(traced.args_info[0][0])
  assert [(x.shape, x.dtype) for x in state] == [
    (x.shape, x.dtype) for x in given
  ]
  millions = models.num_params(traced.out_info[0].params) / 1e6
  assert round(millions) == (2614 if "2b" in name else 9242)


# A few problems of each domain, and the right answer to the first of them.


def _math(folder):
  for split, a in (("train", 1), ("test", 40)):
    lines = [
      {
        "problem": f"What is {b} plus 2?",
        "level": "Level 1",
        "solution": rf"It is \boxed{{{b + 2}}}.",
        "unique_id": f"{split}/algebra/{b}.json",
      }
      for b in range(a, a + 4)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"{split}.jsonl").write_text(text)
  options = {"path": str(folder), "split": "published"}
  return options, lambda problem: rf"So it is \boxed{{{problem.data}}}."


def _code(folder):
  rows = [
    {
      "task_id": task_id,
      "text": f"Write a function that adds {task_id}.",
      "code": f"def add(a):\n  return a + {task_id}",
      "test_setup_code": "",
      "test_list": [f"assert add({i}) == {i + task_id}" for i in range(3)],
      "challenge_test_list": [],
    }
    for task_id in range(1, 11)
  ]
  path = folder / "mbpp.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))

  def answer(problem):
    number = problem.id.split("/")[1]
    return f"```python\ndef add(a):\n  return a + {number}\n```"

  return {"path": str(path), "train": ("prompt",)}, answer


def _arc(_):
  return {}, lambda problem: "\n".join(problem.data.output)


DOMAINS = {"math": _math, "code": _code, "arc": _arc}


def with_task_of_pod(config, name):
  """Puts the task and the tokenizer of the run itself into its miniature."""
  pod = get(name, "k8")
  config.task, config.tokenizer = pod.task, pod.tokenizer
  config.tokenizer.path = str(vocabulary.gemma2_path())
  with config.unlocked():
    config.model.num_embed = pod.model.num_embed
  config.update(prompts_per_step=2, max_prompt_tokens=512)
  return config


def miniature(name, folder, max_new_tokens):
  """The config in miniature on these problems, and the answers."""
  config = with_task_of_pod(get(name, "annealed,laptop"), name)
  options, answer = DOMAINS[name.split("_")[-1]](folder)
  with config.unlocked():
    config.task.update(options)
  config.max_new_tokens = max_new_tokens
  return config, answer


def real(task, **options):
  """The miniature of the run on MATH, on another task's real problems."""
  name = "gemma2_2b_math"
  config = with_task_of_pod(get(name, "annealed,laptop"), name)
  with config.unlocked():
    config.task = ml_collections.ConfigDict({"name": task, **options})
  return config


@pytest.mark.vocabulary
@pytest.mark.data
@VERIFY
@pytest.mark.parametrize(
  "task", ["gsm8k", pytest.param("mbpp", marks=pytest.mark.bwrap)]
)
def test_real_problems_train(task, tmp_path, monkeypatch):
  if task == "gsm8k":
    path = shared_data.folder("gsm8k_train.jsonl", "gsm8k_test.jsonl")
  else:
    path = shared_data.folder("mbpp.jsonl") / "mbpp.jsonl"
    # That has a test of its own, and takes half a minute.
    monkeypatch.setattr(reference_solutions, "check", lambda *args: None)
  _check_training(real(task, path=str(path)), tmp_path)


@pytest.mark.vocabulary
@VERIFY
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=(pytest.mark.bwrap,) * name.endswith("code"))
    for name in PAPER
  ],
)
def test_problems_of_its_domain_train(name, tmp_path):
  config, _ = miniature(name, tmp_path, max_new_tokens=6)
  _check_training(config, tmp_path)


@pytest.mark.slow
def test_laptop_mode_has_a_gradient(tmp_path):
  """At k = 8 and then at k = 1, and the parameters move; with nothing given."""
  config = get("gemma2_2b_math", "annealed,laptop")
  before = initial_policy.base_params(config, build_run.build(config), tmp_path)
  state, steps = _check_training(config, tmp_path)
  for record in steps:
    assert record["grad_norm"] > 0 and record["fraction_updated"] > 0
  after = jax.tree.leaves(state.params)
  moved = [np.any(a != b) for a, b in zip(jax.tree.leaves(before), after)]
  assert len(moved) == len(after) and all(moved)


@pytest.mark.parametrize("name", PAPER)
def test_laptop_mode_needs_nothing(name):
  """Neither data nor a vocabulary: what it names can be built as it is."""
  config = get(name, "k8,laptop")
  config_lib.check(config)
  data = build_run.load_data(config)
  assert len(data.problems["train"]) >= 4 and not any(data.dropped.values())


def _check_training(config, tmp_path):
  state = loop.train(config, tmp_path / "run", tmp_path / "base")
  assert int(state.step) == config.num_steps == 2
  records = metrics_writer.read(tmp_path / "run" / "metrics.jsonl")
  steps = [r for r in records if r["stage"] == "train"]
  assert [r["k"] for r in steps] == [8, 1]
  for record in records:
    broken = [k for k, x in record.items() if x != x and "_stderr" not in k]
    assert not broken
    assert record.get("invalid", 0) == 0
  assert len([r for r in records if r["stage"] == "eval"]) == 2
  return state, steps


@pytest.mark.slow
@pytest.mark.vocabulary
@pytest.mark.parametrize(
  "domain", ["math", pytest.param("code", marks=pytest.mark.bwrap), "arc"]
)
def test_a_right_answer_is_rewarded(domain, tmp_path, monkeypatch):
  """Sample 0 of every problem is right, sample 1 is not, the rest is silent."""
  config, answer = miniature(
    f"gemma2_2b_{domain}", tmp_path, max_new_tokens=192
  )
  parts = build_run.build(config)
  problems = parts.problems["train"][:2]
  encode = parts.tokenizer.encode_completion
  rows = [[answer(p), "I do not know: 0."] for p in problems]

  def sample(*_, n, max_new_tokens, **__):
    tokens = np.zeros((len(problems), n, max_new_tokens), np.int32)
    for b, texts in enumerate(rows):
      for i, text in enumerate(texts):
        ids = [*encode(text), parts.tokenizer.stop_tokens[-1]]
        assert len(ids) <= max_new_tokens
        tokens[b, i, : len(ids)] = ids
    zeros = np.zeros(tokens.shape, np.float32)
    return sampler.Completions(tokens, zeros, zeros, tokens != 0)

  monkeypatch.setattr(sampler, "sample", sample)
  rollout, *_ = parts.rollout_worker(None, problems, jax.random.key(0), n=4)
  assert rollout.valid.all()
  np.testing.assert_array_equal(rollout.rewards[:, 0], 1)
  assert np.all(rollout.rewards[:, 1:] < 1)
