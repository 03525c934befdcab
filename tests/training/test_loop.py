"""training.loop: its bookkeeping; whole runs are in test_commands."""

import jax
import ml_collections
import numpy as np
import pytest
from helpers import no_model, plain, quick_config, tiny_config

from pkpo_jax.rl import evaluation
from pkpo_jax.training import build_run, initial_policy, loop, metrics_writer

N, B = 3, 4  # fewer problems than a step takes: some come twice


def make_config():
  config = tiny_config.get_config()
  config.update(num_steps=2, prompts_per_step=B)
  config.task.num_train = N
  return config


@pytest.fixture
def record(monkeypatch):
  """Replaces model and update; the first problem of a step is solved, no other.

  What it returns grows by the problems of each step.
  """

  def rewards(problems, n):
    return np.arange(len(problems) * n).reshape(-1, n) == n - 1

  return no_model.patch(monkeypatch, rewards)


@pytest.mark.slow
def test_a_run_without_evaluations(tmp_path, monkeypatch):
  """None at the start, none at the end; and n of them need not fit a mesh."""
  monkeypatch.setattr(evaluation, "evaluate", None)
  config = quick_config.get_config()
  config.eval.every = 0
  loop.train(config, tmp_path / "run", tmp_path / "base")
  records = metrics_writer.read(tmp_path / "run" / "metrics.jsonl")
  assert [r["stage"] for r in records] == ["train"] * config.num_steps


@pytest.mark.slow
def test_a_problem_drawn_twice_is_solved_if_either_is(record, tmp_path):
  """The first of every batch is solved, its repetition in the batch is not."""
  loop.train(make_config(), tmp_path, tmp_path / "base")
  drawn = [[problem.id for problem in problems] for problems, *_ in record]
  assert len(drawn) == 2
  assert all(len(set(ids)) == N for ids in drawn)
  records = metrics_writer.read(tmp_path / "metrics.jsonl")
  solved = [len({ids[0] for ids in drawn[: i + 1]}) for i in range(2)]
  rates = [r["solve_rate"] for r in records if r["stage"] == "train"]
  np.testing.assert_allclose(rates, np.divide(solved, N))


def test_keys_differ_by_step_and_seed_and_from_those_of_evaluations():
  configs = [make_config(), make_config()]
  configs[1].seed = 1
  keys = [loop._key(c.seed, step) for c in configs for step in range(4)]
  keys += [evaluation.key(seed) for seed in range(4)]
  data = np.stack([jax.random.key_data(k) for k in keys])
  assert len(np.unique(data, axis=0)) == 12


def test_what_is_not_finite_is_named():
  """Of what the state depends on; other metrics may overflow."""
  finite = {"loss": np.float32(1), "kl_to_reference": np.inf}
  assert loop.not_finite(finite) == []
  broken = {"loss": np.nan, "k": 1.0, "grad_norm": np.inf}
  assert loop.not_finite(broken) == ["loss", "grad_norm"]


@pytest.fixture
def bad_at(record, monkeypatch):
  """The steps whose loss is not finite."""
  steps = set()

  def compile_train_step(*_):
    def take(state, *_):
      loss = np.nan if int(state.step) in steps else 0.0
      return state.replace(step=state.step + 1), {"loss": loss}

    return take

  monkeypatch.setattr(build_run, "compile_train_step", compile_train_step)
  return steps


def test_bad_steps_are_counted_up_to_a_limit(bad_at, tmp_path, capsys):
  """Through a resume, and on to the end where more are allowed."""
  config = make_config()
  config.update(num_steps=3, max_bad_steps=2)
  bad_at |= {1, 2, 4}
  loop.train(config, tmp_path, tmp_path / "base")
  output = capsys.readouterr()
  said = "loss not finite at step 2: it changed nothing, and is bad step 2 of"
  assert said in output.out + output.err
  config.num_steps = 8
  with pytest.raises(
    FloatingPointError,
    match=r"loss not finite at step 4, .* 3 bad steps, above"
    r" config\.max_bad_steps=2; .*learning_rate=0.0004 and continue with"
    " --change_learning_rate",
  ):
    loop.train(config, tmp_path, tmp_path / "base")
  config.max_bad_steps = 3
  loop.train(config, tmp_path, tmp_path / "base")
  records = metrics_writer.read(tmp_path / "metrics.jsonl")
  train = [r for r in records if r["stage"] == "train"]
  assert [r["bad_steps"] for r in train] == [0, 1, 2, 2, 3, 3, 3, 3]
  assert [i for i, r in enumerate(train) if np.isnan(r["loss"])] == [1, 2, 4]


def test_a_run_ends_when_its_solve_rate_stands_still(record, tmp_path):
  """All three problems are solved within two steps; five steps after that."""
  config = make_config()
  config.update(num_steps=50, patience=5)
  state = loop.train(config, tmp_path / "run", tmp_path / "base")
  records = metrics_writer.read(tmp_path / "run" / "metrics.jsonl")
  rates = [r["solve_rate"] for r in records if r["stage"] == "train"]
  assert len(rates) == int(state.step) < 50
  assert len(set(rates[-6:])) == 1 and rates[-7:-6] != rates[-6:-5]
  last = records[-1]
  assert (last["stage"], last["step"]) == ("stalled", int(state.step))
  assert last["patience"] == 5 and last["solve_rate"] == rates[-1]
  # The same command again takes no further step.
  again = loop.train(config, tmp_path / "run", tmp_path / "base")
  assert int(again.step) == int(state.step)
  assert len(record) == len(rates)


@pytest.mark.slow
def test_patience_outlives_a_resume(record, tmp_path, monkeypatch):
  """Interrupted at any step, a run ends at the step that it ends at whole."""
  config = make_config()
  config.update(num_steps=50, patience=3)
  whole = loop.train(config, tmp_path / "whole", tmp_path / "base")
  train = loop.Run.train

  def stop(self, step):
    if step == int(whole.step) - 2:
      raise KeyboardInterrupt
    train(self, step)

  monkeypatch.setattr(loop.Run, "train", stop)
  config.checkpoint.every = 1
  with pytest.raises(KeyboardInterrupt):
    loop.train(config, tmp_path / "parts", tmp_path / "base")
  monkeypatch.setattr(loop.Run, "train", train)
  parts = loop.train(config, tmp_path / "parts", tmp_path / "base")
  assert int(parts.step) == int(whole.step)


@pytest.mark.slow
def test_a_broken_policy_stops_the_run(monkeypatch, tmp_path):
  """One NaN is enough, and it is found before anything is graded."""

  def broken(config, parts, folder):
    params = plain.random_params(parts.model)
    params["layer_0"]["mlp"]["linear"] *= np.nan
    return params

  monkeypatch.setattr(initial_policy, "base_params", broken)
  config = make_config()
  config.eval.num_problems = 1
  with pytest.raises(FloatingPointError, match="policy is not finite"):
    loop.train(config, tmp_path, tmp_path / "base")


@pytest.fixture
def compilations(monkeypatch):
  """How many programs had been compiled at the start of every step."""
  events, counts = [], []

  def listen(name, seconds, **_):
    if name == "/jax/core/compile/backend_compile_duration":
      events.append(seconds)

  train = loop.Run.train

  def counted(self, step):
    counts.append(len(events))
    train(self, step)

  monkeypatch.setattr(loop.Run, "train", counted)
  jax.monitoring.register_event_duration_secs_listener(listen)
  yield counts
  jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_steps(compilations, tmp_path):
  """With k annealed, prompts of many lengths, evaluations and checkpoints."""
  config = tiny_config.get_config()
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  config.update(num_steps=8, k_opt=(4, 2, 1), k_boundaries=(3, 6))
  config.task.numbers = (2, 3)
  loop.train(config, tmp_path / "run", tmp_path / "base")
  assert len(compilations) == 8
  assert compilations[1] > compilations[0]
  assert set(compilations[3:]) == {compilations[3]}


@pytest.mark.slow
def test_adapters_alone_are_trained_checkpointed_and_resumed(tmp_path):
  """Two steps at once, or one and another: the same bits."""

  def run(workdir, num_steps):
    config = tiny_config.get_config()
    with config.unlocked():
      config.model.lora_rank = 2
    config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
    config.update(num_steps=num_steps, warmup_steps=0)
    config.loss.kl_coef = 0.1
    config.checkpoint.every = 1
    return loop.train(config, tmp_path / workdir, tmp_path / "base")

  whole = run("whole", 2)
  names = [
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(whole.params)
  ]
  assert names and all("lora" in name for name in names)
  run("parts", 1)
  parts = run("parts", 2)
  jax.tree.map(np.testing.assert_array_equal, parts, whole)
