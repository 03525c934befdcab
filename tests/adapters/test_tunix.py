"""adapters.tunix: its gradients in google-tunix, and a notebook with it."""

import importlib
import os
import pathlib
import subprocess
import sys
import types

import nbformat
import numpy as np
import pytest

import pkpo_jax
from experiments.benchmarks import tunix_environment

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "tests/adapters/tunix_program.py"
NOTEBOOK = ROOT / "notebooks/your_trainer.ipynb"


class RewardManager:
  """As tunix' own: NaN is 0 in the sum, and shows in the smallest part."""

  def __call__(self, parts):
    least = (np.min(parts, axis=1), np.min)
    rewards = np.nansum(parts, axis=1)
    return {"rewards": rewards, "log_metrics": {"rewards/min": least}}


@pytest.fixture
def tunix(monkeypatch):
  """The adapter, and what it registers with a stand-in for tunix."""
  found, rl = {}, types.ModuleType("tunix.rl")

  def registry(kind):
    return lambda name: lambda f: found.update({(kind, name): f}) or f

  rl.function_registry = types.SimpleNamespace(
    register_advantage_estimator=registry("advantages"),
    register_reward_manager=registry("rewards"),
  )
  rl.reward_manager = types.SimpleNamespace(SequenceRewardManager=RewardManager)
  monkeypatch.setitem(sys.modules, "tunix", types.ModuleType("tunix"))
  monkeypatch.setitem(sys.modules, "tunix.rl", rl)
  monkeypatch.delitem(sys.modules, "pkpo_jax.adapters.tunix", raising=False)
  yield importlib.import_module("pkpo_jax.adapters.tunix"), found
  del sys.modules["pkpo_jax.adapters.tunix"]


@pytest.mark.slow
def test_k_follows_the_step(tunix):
  adapter, found = tunix
  step, rewards = [0], np.array([0, 1, 1, 0, 0, 0, 0, 1.0])
  schedule = pkpo_jax.piecewise_k([4, 1], [10])
  options = adapter.register(schedule, step=lambda: step[0], name="mine")
  assert options["advantage_estimator"] == options["reward_manager"] == "mine"
  for step[0], k in ((0, 4), (9, 4), (10, 1)):
    each = found["advantages", "mine"](rewards=rewards, num_generations=4)
    expected = [pkpo_jax.sloo_minus_one(g, k) for g in rewards.reshape(2, 4)]
    np.testing.assert_allclose(each, 4 * np.ravel(expected), rtol=1e-6)


def test_a_k_out_of_range_is_found_at_the_first_step(tunix):
  adapter, found = tunix
  for k in (32, pkpo_jax.piecewise_k([1, 32], [10**6])):
    adapter.register(k, step=None if k == 32 else lambda: 0)
    with pytest.raises(ValueError, match="k=32 is out of range for n=16"):
      found["advantages", "pkpo"](rewards=np.zeros(32), num_generations=16)


def test_rewards_of_nan_stay_nan(tunix):
  adapter, found = tunix
  manager = found["rewards", adapter.register(2)["reward_manager"]]()
  rewards = manager(np.array([[0, 1], [np.nan, 1], [0.5, 0.25]]))["rewards"]
  np.testing.assert_array_equal(rewards, [1, np.nan, 0.75])
  advantages = found["advantages", "pkpo"](rewards, num_generations=3)
  assert advantages[1] == 0 and np.any(advantages)


def test_wrong_arguments(tunix):
  adapter, _ = tunix
  with pytest.raises(ValueError, match="needs step="):
    adapter.register(pkpo_jax.constant_k(8))
  with pytest.raises(ValueError, match="k=8 with step="):
    adapter.register(8, step=lambda: 0)
  with pytest.raises(ValueError, match="Unknown"):
    adapter.register(8, transform="pkpo")


def run(*arguments, folder):
  """What a program prints, run with tunix and this project."""
  paths = f"{ROOT}:{ROOT / 'tests'}"
  result = subprocess.run(
    [tunix_environment.python(ROOT / ".tunix"), *arguments],
    cwd=folder,
    env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=850,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  return result.stdout


@pytest.mark.verify("pkpo_jax/adapters", "tests/adapters/tunix_program.py")
def test_gradients_in_tunix_are_exact(tmp_path):
  output = run(PROGRAM, tmp_path / "checkpoints", folder=tmp_path)
  assert output.endswith("as it should be\n")


@pytest.mark.verify("pkpo_jax/adapters", "notebooks/your_trainer.ipynb")
def test_the_notebook_runs(tmp_path):
  """Its cells as one program, since the environment has no kernel."""
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  nbformat.validate(notebook)
  cells = [x.source for x in notebook.cells if x.cell_type == "code"]
  (tmp_path / "program.py").write_text("\n".join(cells))
  run("program.py", folder=tmp_path)
