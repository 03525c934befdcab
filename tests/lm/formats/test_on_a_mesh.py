"""pkpo_jax.lm.formats on a mesh: the same numbers, no more of them read."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest
from helpers import gemma_fixtures

from pkpo_jax.lm import formats, sharding

ROOT = pathlib.Path(__file__).parents[3]


def test_a_mesh_of_one_device():
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  model, params = formats.load_huggingface(
    gemma_fixtures.FOLDER / "gemma2_tiny", mesh=mesh
  )
  expected = gemma_fixtures.loaded("gemma2_tiny")
  assert model == expected[0]
  gemma_fixtures.assert_same(params, expected[1])
  shardings = sharding.param_shardings(mesh, params)
  assert jax.tree.map(lambda x: x.sharding, params) == shardings


@pytest.mark.slow
def test_a_mesh_of_eight_devices(tmp_path):
  environment = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
  }
  out = subprocess.run(
    [sys.executable, "tests/helpers/formats_worker.py", tmp_path],
    env=os.environ | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert out.stdout.endswith("the same\n"), out.stderr
