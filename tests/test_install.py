"""The estimators install alone, on the oldest Python that is promised."""

import os
import pathlib
import re
import subprocess

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


def test_one_libtpu_is_named_everywhere():
  """Where it is installed, in the recipes, and where its figures stand."""
  files = [ROOT / "Makefile", *ROOT.glob("docs/*.md")]
  files += ROOT.glob("experiments/hardware/*.py")
  named = {
    path.name: set(re.findall(r"libtpu==([\d.]+)", path.read_text()))
    for path in files
  }
  (version,) = named["Makefile"]
  assert named["pods.md"] == {version}
  assert set.union(*named.values()) == {version}
  for path in files:  # nor is any other installed
    assert not re.search(r"install libtpu(?!==)", path.read_text()), path


def test_the_lock_has_a_tensorflow_for_each_platform():
  """Wheels of tensorflow-cpu are for x86 Linux alone."""
  lock = (ROOT / "requirements.lock").read_text()
  x86 = "platform_machine == 'x86_64' and sys_platform == 'linux'"
  other = "platform_machine != 'x86_64' or sys_platform != 'linux'"
  assert re.search(rf"^tensorflow-cpu==[\d.]+ ; {x86}$", lock, re.MULTILINE)
  assert re.search(rf"^tensorflow==[\d.]+ ; {other}$", lock, re.MULTILINE)


@pytest.mark.parametrize("name", ["PIP_USER", "UV_PYTHON", "PIP_INDEX_URL"])
def test_settings_of_the_user_do_not_redirect_the_set_up(name, tmp_path):
  """Those that say where to install; those that say where from stay."""
  makefile = tmp_path / "Makefile"
  show = f'show:\n\t@echo "value=$${{{name}}}"\n'
  makefile.write_text((ROOT / "Makefile").read_text() + show)
  printed = subprocess.run(
    ["make", "--no-print-directory", "--file", makefile, "show"],
    env=os.environ | {name: "set", "MAKEFLAGS": ""},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  stays = "set" if name == "PIP_INDEX_URL" else ""
  assert printed.splitlines() == [f"value={stays}"]
