"""What tests share: compiled programs, what they need, and their order."""

import os
import pathlib
import shutil
import tempfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# These files take longest: what starts last keeps the other workers waiting.
LONGEST = (
  "test_gradients.py",
  "test_notebooks.py",
  "test_models.py",
  "test_train_step.py",
  "test_gemma2.py",
  "test_commands.py",
  "test_sampler.py",
  "test_layouts.py",
  "test_hardware.py",
  "test_kills.py",
)
# What a test may need beyond .venv, by its marker.
NEEDS = {
  "vocabulary": (
    (ROOT / ".vocabulary/gemma2/tokenizer.json").is_file,
    "there is no .vocabulary; `make test` fetches it",
  ),
  "bwrap": (
    lambda: shutil.which("bwrap"),
    "there is no bwrap; install bubblewrap",
  ),
  "libtpu": (
    (ROOT / ".libtpu/libtpu").is_dir,
    "there is no .libtpu; `make .libtpu/installed` fetches it",
  ),
  "gpu_compiler": (
    (ROOT / ".gpu_compiler/jax_plugins").is_dir,
    "there is no .gpu_compiler; `make .gpu_compiler/installed` fetches it",
  ),
  "data": (lambda: True, ""),  # helpers.shared_data looks for each file
}


def pytest_configure(config):
  """Opens one cache of compiled programs for workers and their children."""
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return  # The user's, or that of the process that started this worker.
  config.jax_cache = tempfile.TemporaryDirectory(prefix="compiled_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = config.jax_cache.name
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_unconfigure(config):
  if hasattr(config, "jax_cache"):
    config.jax_cache.cleanup()


def pytest_make_parametrize_id(val, argname):
  """Names bytes and sets by their argument.

  Workers must agree on names: a set's order and a gzip header's second differ
  from process to process.
  """
  return argname if isinstance(val, (bytes, set, frozenset)) else None


def pytest_collection_modifyitems(items):
  """Sorts the longest files to the front."""
  rank = {name: i for i, name in enumerate(LONGEST)}
  items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def pytest_runtest_setup(item):
  """Skips a test that lacks what its markers say it needs."""
  for name, (is_there, reason) in NEEDS.items():
    if item.get_closest_marker(name) and not is_there():
      pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
  """Makes such a skip a failure where PKPO_REQUIRE says that all is there."""
  report = yield
  needs = any(item.get_closest_marker(name) for name in NEEDS)
  if report.skipped and needs and os.environ.get("PKPO_REQUIRE"):
    report.outcome = "failed"
    report.longrepr = f"PKPO_REQUIRE forbids to skip: {report.longrepr[-1]}"
  return report


@pytest.fixture
def x64():
  """Sets jax to 64 bits for a test."""
  from helpers import bits  # jax not before pytest_configure has set its cache

  with bits.enable_x64(True):
    yield
