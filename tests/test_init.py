"""The package's front door."""

import subprocess
import sys

from helpers import exact

import pkpo_jax


def test_public_names():
  assert set(pkpo_jax.__all__) == {
    "constant_k",
    "get_transform",
    "k_from_solve_rate",
    "k_mixture",
    "linear_k",
    "max_at_k",
    "max_at_k_standard_error",
    "order_statistics",
    "pass_at_k",
    "pass_at_k_standard_error",
    "piecewise_k",
    *exact.NAMES,
  }
  assert all(hasattr(pkpo_jax, name) for name in pkpo_jax.__all__)


def test_import_loads_jax_and_numpy_alone():
  code = """
import sys
import jax, jax.numpy, numpy
before = set(sys.modules)
import pkpo_jax
roots = {name.split(".")[0] for name in set(sys.modules) - before}
roots -= set(sys.stdlib_module_names)
assert roots <= {"pkpo_jax", "jax", "jaxlib"}, roots
heavy = ("gemma", "flax", "optax", "orbax", "tensorflow", "matplotlib")
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, loaded
rooms = [name for name in sys.modules if name.startswith("pkpo_jax.")]
assert not set(rooms) & {"pkpo_jax.lm", "pkpo_jax.rl", "pkpo_jax.tasks"}, rooms
"""
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=False
  )
  assert result.returncode == 0, result.stderr
