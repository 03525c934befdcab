"""Evaluations of the 2B fit where its training does, by the TPU compiler."""

import os
import pathlib
import subprocess
import sys

import pytest

from configs import gemma2_2b_math
from pkpo_jax.rl import evaluation

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("n", [16, 64, 256])
def test_an_evaluation_samples_what_a_training_step_does(n):
  """The same shapes, and so the program that docs/hardware.md has."""
  config = gemma2_2b_math.get_config("k8")
  B = config.prompts_per_step
  batch = evaluation.plan_batch(500, n, prompts=B, samples=config.n)
  assert batch == (B, config.n)


@pytest.mark.libtpu
@pytest.mark.verify(
  "configs/gemma2.py",
  "experiments/hardware",
  "pkpo_jax/lm",
  "pkpo_jax/rl/evaluation.py",
)
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("n", [0, 4])
def test_fewer_answers_to_more_problems_fit_on_16_chips_of_v5e(n):
  """Greedy, 256 prompts are read at once; of 4 answers each, 64."""
  result = subprocess.run(
    [sys.executable, "tests/helpers/evaluation_memory.py", str(n)],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-2000:]
  shape, used = result.stdout.splitlines()[-1].split(": ")
  assert shape == {0: "256 x 1", 4: "64 x 4"}[n]
  assert float(used.removesuffix(" GiB")) < 15.75
