"""lm.formats.huggingface on a mesh: same numbers, no more of them read."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from pkpo_jax.lm import sharding
from pkpo_jax.lm.formats import huggingface

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "gemma2_tiny"


def test_a_mesh_of_one_device():
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  model, params = huggingface.load_huggingface(FOLDER, mesh=mesh)
  expected = huggingface.load_huggingface(FOLDER)
  assert model == expected[0]
  jax.tree.map(np.testing.assert_array_equal, params, expected[1])
  shardings = sharding.param_shardings(mesh, params)
  assert jax.tree.map(lambda x: x.sharding, params) == shardings


_ON_EIGHT_DEVICES = """
import pathlib, sys
import jax, numpy as np
from pkpo_jax.lm import huggingface, sharding, weights

source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
most = []
read = huggingface.Form.read
def counted(form, stored, shape, index):
  part = read(form, stored, shape, index)
  most.append(part.size / np.prod(shape))
  return part
mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
model, whole = huggingface.load_huggingface(source)
huggingface.Form.read = counted
_, split = huggingface.load_huggingface(source, mesh=mesh)
# A quarter of each matrix; norms are whole on every device.
assert set(most) == {0.25, 1.0}, set(most)
assert len(most) == 29 * 4 + 17, len(most)  # replicas are read once
huggingface.save_gemma(model, split, folder / "gemma")
_, gemma = huggingface.load_gemma(folder / "gemma", mesh=mesh)
for params in (split, gemma):
  shardings = sharding.param_shardings(mesh, params)
  assert jax.tree.map(lambda x: x.sharding, params) == shardings
  jax.tree.map(np.testing.assert_array_equal, params, whole)
huggingface.save_huggingface(model, split, folder / "hf")
_, again = huggingface.load_huggingface(folder / "hf")
jax.tree.map(np.testing.assert_array_equal, again, whole)
print("the same")
"""


@pytest.mark.slow
def test_a_mesh_of_eight_devices(tmp_path):
  flags = "--xla_force_host_platform_device_count=8"
  out = subprocess.run(
    [sys.executable, "-c", _ON_EIGHT_DEVICES, FOLDER, tmp_path],
    env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    cwd=pathlib.Path(huggingface.__file__).parents[3],
    capture_output=True,
    text=True,
    check=False,
  )
  assert out.stdout.endswith("the same\n"), out.stderr
