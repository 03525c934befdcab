"""Checkpoints in and out on eight virtual devices, for test_on_a_mesh.py.

Usage: python tests/helpers/formats_worker.py FOLDER
"""

import pathlib
import sys

import jax
import numpy as np
from helpers import gemma_fixtures

from pkpo_jax.lm import formats, sharding
from pkpo_jax.lm.formats import huggingface


def main(folder: pathlib.Path) -> None:
  source = gemma_fixtures.FOLDER / "gemma2_tiny"
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  model, whole = formats.load_huggingface(source)
  most, read = [], huggingface.Layout.read

  def counted(layout, stored, shape, index):
    part = read(layout, stored, shape, index)
    most.append(part.size / np.prod(shape))
    return part

  huggingface.Layout.read = counted
  _, split = formats.load_huggingface(source, mesh=mesh)
  huggingface.Layout.read = read
  # A quarter of each matrix; norms are whole on every device.
  assert set(most) == {0.25, 1.0}, set(most)
  assert len(most) == 29 * 4 + 17, len(most)  # replicas are read once
  formats.save_gemma(model, split, folder / "gemma")
  _, gemma = formats.load_gemma(folder / "gemma", mesh=mesh)
  for params in (split, gemma):
    shardings = sharding.param_shardings(mesh, params)
    assert jax.tree.map(lambda x: x.sharding, params) == shardings
    jax.tree.map(np.testing.assert_array_equal, params, whole)
  formats.save_huggingface(model, split, folder / "hf")
  _, again = formats.load_huggingface(folder / "hf")
  jax.tree.map(np.testing.assert_array_equal, again, whole)
  print("the same")


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
