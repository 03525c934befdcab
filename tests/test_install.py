"""The estimators install alone, on the oldest Python that is promised."""

import pathlib
import re

import pytest
from helpers import bare

ROOT = pathlib.Path(__file__).parents[1]


def test_the_oldest_jax_that_is_promised_is_tested():
  (oldest,) = re.findall(r'"jax>=([\d.]+)"', (ROOT / "setup.py").read_text())
  workflow = (ROOT / ".github/workflows/group.yml").read_text()
  assert f'python: "3.11"\n            jax: "jax=={oldest} ' in workflow
  assert f"jax ≥ {oldest} " in (ROOT / "README.md").read_text()


PROGRAM = """
import sys
import jax
import pkpo_jax
assert sys.version_info[:2] == (3, 11)
assert "site-packages" in pkpo_jax.__file__ or "archive" in pkpo_jax.__file__
weights = jax.jit(pkpo_jax.sloo_minus_one)(jax.numpy.array([0, 1, 1, 0]), 2)
print([round(float(w), 6) for w in weights])
"""


@pytest.mark.verify(
  "setup.py",
  "pkpo_jax/__init__.py",
  "pkpo_jax/_order_statistics.py",
  "pkpo_jax/_rewards.py",
  "pkpo_jax/estimators.py",
  "pkpo_jax/schedules.py",
  "pkpo_jax/solve_rates.py",
  "pkpo_jax/transforms",
)
def test_estimators_install_on_python_3_11(tmp_path):
  result = bare.run(tmp_path, ["python", "-c", PROGRAM], python="3.11")
  assert result.returncode == 0, result.stderr[-3000:]
  assert result.stdout.strip() == "[0.0, 0.333333, 0.333333, 0.0]"
