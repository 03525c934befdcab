"""training.run: what a step does besides the update."""

import jax
import numpy as np
import pytest
from helpers import no_model

from pkpo_jax.rl import evaluation
from pkpo_jax.training import build_run, loop, metrics_writer, run


@pytest.fixture
def record(monkeypatch):
  return no_model.solve_first(monkeypatch)


@pytest.mark.slow
def test_a_problem_drawn_twice_is_solved_if_either_is(record, tmp_path):
  """The first of every batch is solved, its repetition in the batch is not."""
  loop.train(no_model.few_problems(), tmp_path, tmp_path / "base")
  drawn = [[problem.id for problem in problems] for problems, *_ in record]
  assert len(drawn) == 2
  assert all(len(set(ids)) == no_model.N for ids in drawn)
  records = metrics_writer.read(tmp_path / "metrics.jsonl")
  solved = [len({ids[0] for ids in drawn[: i + 1]}) for i in range(2)]
  rates = [r["solve_rate"] for r in records if r["stage"] == "train"]
  np.testing.assert_allclose(rates, np.divide(solved, no_model.N))


def test_keys_differ_by_step_and_seed_and_from_those_of_evaluations():
  configs = [no_model.few_problems(), no_model.few_problems()]
  configs[1].seed = 1
  keys = [run._key(c.seed, step) for c in configs for step in range(4)]
  keys += [evaluation.key(seed) for seed in range(4)]
  data = np.stack([jax.random.key_data(k) for k in keys])
  assert len(np.unique(data, axis=0)) == 12


def test_what_is_not_finite_is_named():
  """Of what the state depends on; other metrics may overflow."""
  finite = {"loss": np.float32(1), "kl_to_reference": np.inf}
  assert run.not_finite(finite) == []
  broken = {"loss": np.nan, "k": 1.0, "grad_norm": np.inf}
  assert run.not_finite(broken) == ["loss", "grad_norm"]


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
  config = no_model.few_problems()
  config.update(num_steps=3, max_bad_steps=2)
  bad_at |= {1, 2, 4}
  loop.train(config, tmp_path, tmp_path / "base")
  output = capsys.readouterr()
  said = "loss not finite at step 2: it changed nothing, and is bad step 2 of"
  assert said in output.out + output.err
  config.num_steps, config.checkpoint.every = 8, 4
  with pytest.raises(
    FloatingPointError,
    match=r"loss not finite at step 4, .* 3 bad steps, above"
    r" config\.max_bad_steps=2; .*learning_rate=0.0004 and continue with"
    " --change_learning_rate",
  ):
    loop.train(config, tmp_path, tmp_path / "base")
  # The save that had just begun came to its end.
  assert (tmp_path / "checkpoints" / "4").exists()
  config.max_bad_steps = 3
  loop.train(config, tmp_path, tmp_path / "base")
  records = metrics_writer.read(tmp_path / "metrics.jsonl")
  train = [r for r in records if r["stage"] == "train"]
  assert [r["bad_steps"] for r in train] == [0, 1, 2, 2, 3, 3, 3, 3]
  assert [i for i, r in enumerate(train) if np.isnan(r["loss"])] == [1, 2, 4]
