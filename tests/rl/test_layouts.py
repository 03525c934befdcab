"""The same seeds give the same run, however it is laid out over devices."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
# data x fsdp x tensor: all three for every change; each alone, and others.
LAYOUTS = ["2x2x2"]
RARE = [
  "2x1x1",
  "1x2x1",
  "1x1x2",
  "2x2x1",
  "1x2x2",
  "8x1x1",  # more than the 4 problems, as many as rows in a part of them
  "1x8x1",
  "2x1x4",
]
VERIFY = pytest.mark.verify("pkpo_jax/lm", "pkpo_jax/rl")


@pytest.fixture(scope="module")
def results(tmp_path_factory, request):
  """Completions and the state after two updates: name -> array, by layout."""
  folder = tmp_path_factory.mktemp("layouts")
  environment = {
    # Compiled in a hurry: these programs run once.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "JAX_PLATFORMS": "cpu",
  }
  layouts = ["1x1x1", *sorted(_selected(request))]
  result = subprocess.run(
    [sys.executable, "tests/helpers/mesh_worker.py", folder, *layouts],
    cwd=ROOT,
    env=os.environ | environment,
    capture_output=True,
    text=True,
    timeout=800,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  return {layout: np.load(folder / f"{layout}.npz") for layout in layouts}


def _selected(request):
  """The layouts of the tests that are to run: all are computed at once."""
  items = [item for item in request.session.items if hasattr(item, "callspec")]
  ours = [x.callspec.params for x in items if x.module is request.module]
  return {params["layout"] for params in ours}


@pytest.mark.parametrize(
  "layout", [*LAYOUTS, *(pytest.param(x, marks=VERIFY) for x in RARE)]
)
def test_a_layout_changes_nothing(results, layout):
  """The same tokens, and the same update to float tolerance."""
  single, ours = results["1x1x1"], results[layout]
  assert set(ours.files) == set(single.files)
  for name in ours.files:
    expected = single[name]
    if expected.dtype != np.float32:
      np.testing.assert_array_equal(ours[name], expected, err_msg=name)
      continue
    atol = 2e-4 * np.abs(expected).max()
    np.testing.assert_allclose(ours[name], expected, atol=atol, err_msg=name)


def test_completions_end_early(results):
  mask = results["1x1x1"]["0/mask"]
  assert mask.sum(axis=-1).min() < mask.shape[-1]
