"""training.loop: its bookkeeping; whole runs are in test_commands."""

import jax
import ml_collections
import numpy as np
import pytest
from helpers import no_model, plain, quick_config, tiny_config

from pkpo_jax.rl import evaluation
from pkpo_jax.training import initial_policy, loop, metrics_writer, run


@pytest.fixture
def record(monkeypatch):
  return no_model.solve_first(monkeypatch)


@pytest.mark.slow
def test_a_run_without_evaluations(tmp_path, monkeypatch):
  """None at the start, none at the end; and n of them need not fit a mesh."""
  monkeypatch.setattr(evaluation, "evaluate", None)
  config = quick_config.get_config()
  config.eval.every = 0
  loop.train(config, tmp_path / "run", tmp_path / "base")
  records = metrics_writer.read(tmp_path / "run" / "metrics.jsonl")
  assert [r["stage"] for r in records] == ["train"] * config.num_steps


def test_a_run_ends_when_its_solve_rate_stands_still(record, tmp_path):
  """All three problems are solved within two steps; five steps after that."""
  config = no_model.few_problems()
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
  config = no_model.few_problems()
  config.update(num_steps=50, patience=3)
  whole = loop.train(config, tmp_path / "whole", tmp_path / "base")
  train = run.Run.train

  def stop(self, step):
    if step == int(whole.step) - 2:
      raise KeyboardInterrupt
    train(self, step)

  monkeypatch.setattr(run.Run, "train", stop)
  config.checkpoint.every = 1
  with pytest.raises(KeyboardInterrupt):
    loop.train(config, tmp_path / "parts", tmp_path / "base")
  monkeypatch.setattr(run.Run, "train", train)
  parts = loop.train(config, tmp_path / "parts", tmp_path / "base")
  assert int(parts.step) == int(whole.step)


@pytest.mark.slow
def test_a_broken_policy_stops_the_run(monkeypatch, tmp_path):
  """One NaN is enough, and it is found before anything is graded."""

  def broken(config, parts, *_):
    params = plain.random_params(parts.model)
    params["layer_0"]["mlp"]["linear"] *= np.nan
    return params

  monkeypatch.setattr(initial_policy, "base_params", broken)
  config = no_model.few_problems()
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

  train = run.Run.train

  def counted(self, step):
    counts.append(len(events))
    train(self, step)

  monkeypatch.setattr(run.Run, "train", counted)
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
