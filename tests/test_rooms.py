"""The rooms of the house: what may import what, and where its tests are."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
GROUP = ("group",)
STEP = ("lm", "tasks", "multihost", *GROUP)
# What each room may import, beside itself.
BELOW = {
  "group": (),
  "multihost": GROUP,
  "lm": ("multihost", *GROUP),
  "tasks": ("multihost", *GROUP),
  "rl": STEP,
  "training": ("rl", *STEP),
  "adapters": GROUP,
  "configs": ("training", "rl", *STEP),
  "experiments": ("configs", "training", "adapters", "rl", *STEP),
}
# Rooms whose modules have a test file each.
TESTED = ("lm", "rl", "training", "tasks/grading")
LONGEST = 400


def room_of(module: str) -> str | None:
  """The room of a dotted name; None for what is not ours."""
  first, *rest = module.split(".")
  if first in ("configs", "experiments"):
    return first
  if first != "pkpo_jax":
    return None
  return rest[0] if rest and rest[0] in BELOW else "group"


def modules(room: str) -> list[pathlib.Path]:
  """The files of a room."""
  files = [
    path
    for top in ("pkpo_jax", "configs", "experiments")
    for path in (ROOT / top).rglob("*.py")
  ]
  return [path for path in files if room_of(dotted(path)) == room]


def dotted(path: pathlib.Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: pathlib.Path) -> set[str]:
  """All that a file imports, at its top or in its functions."""
  found: set[str] = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      found.update(f"{node.module}.{alias.name}" for alias in node.names)
  return found


@pytest.mark.slow
@pytest.mark.parametrize("room", BELOW)
def test_imports_only_go_down(room):
  allowed = {room, None, *BELOW[room]}
  wrong = [
    f"{dotted(path)} imports {name}"
    for path in modules(room)
    for name in sorted(imports(path))
    if room_of(name) not in allowed
  ]
  assert not wrong


def test_a_step_knows_no_config():
  wrong = [
    dotted(path)
    for path in modules("rl")
    if any(name.startswith("ml_collections") for name in imports(path))
  ]
  assert not wrong


def test_the_group_needs_jax_and_numpy_alone():
  allowed = {"jax", "numpy", "pkpo_jax", *sys.stdlib_module_names}
  for path in [*modules("group"), *modules("multihost")]:
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots <= allowed, path


def test_the_test_of_imports_sees_them(tmp_path):
  path = tmp_path / "module.py"
  path.write_text("import a.b\ndef f():\n  from pkpo_jax import rl, s\n")
  found = imports(path)
  assert found == {"a.b", "pkpo_jax.rl", "pkpo_jax.s"}
  assert {room_of(name) for name in found} == {None, "rl", "group"}


@pytest.mark.parametrize(
  "module",
  sorted(
    str(path.relative_to(ROOT / "pkpo_jax").with_suffix(""))
    for room in TESTED
    for path in (ROOT / "pkpo_jax" / room).rglob("*.py")
    if path.stem != "__init__"
  ),
)
def test_a_module_has_its_test_file(module):
  path = ROOT / "tests" / module
  assert path.with_name(f"test_{path.name}.py").exists()


@pytest.mark.parametrize(
  "file",
  sorted(
    str(path.relative_to(ROOT / "tests").with_suffix(""))
    for path in (ROOT / "tests").rglob("*.py")
  ),
)
def test_no_test_file_is_long(file):
  path = ROOT / "tests" / f"{file}.py"
  assert len(path.read_text().splitlines()) <= LONGEST
