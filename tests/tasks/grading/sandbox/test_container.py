import pytest

from pkpo_jax.tasks.grading.sandbox import container, sandbox

pytestmark = pytest.mark.bwrap


def test_the_container_holds_the_standard_library_alone():
  source = """
import glob, os, stat
def files_open():
  for fd in range(64):
    try: mode = os.fstat(fd).st_mode
    except OSError: continue
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)): yield fd
def readable():
  found = glob.glob("/**", recursive=True)
  found = [f for f in found if os.path.isfile(f)]
  return sorted({f for f in found if "/python3" not in f and ".so" not in f})
"""
  calls = (
    "[*readable(), *files_open()]",
    "glob.glob('/**/site-packages/*', recursive=True)",
    "os.getuid() == 65534, os.getgid() == 65534, os.getpid()",
    "sorted(os.environ.keys() - {'LC_CTYPE', 'PWD', 'PYTHONHASHSEED'})",
    "os.path.exists('/proc'), os.path.exists('/home'), os.path.exists('/tmp')",
  )
  files, packages, ids, environment, folders = sandbox.Sandbox().run(
    (source,), calls
  )
  assert files == sandbox.Value([])
  assert packages == sandbox.Value([])
  assert ids == sandbox.Value((True, True, 1))
  assert environment == sandbox.Value([])
  assert folders == sandbox.Value((False, False, False))


@pytest.mark.parametrize("tool", ["bwrap", "ldd", "python3"])
def test_a_missing_tool_is_named(monkeypatch, tool):
  which = container.shutil.which
  monkeypatch.setattr(
    container.shutil,
    "which",
    lambda name, path=None: None if name == tool else which(name, path=path),
  )
  with pytest.raises(RuntimeError, match=rf"`{tool}` is missing.*apt-get"):
    sandbox.Sandbox()


def test_sets_have_one_order():
  source = "order = list({'a', 'b', 'c', 'd', 'e', 'f'})"
  box = sandbox.Sandbox()
  (first,), (second,) = (box.run((source,), ("str(order)",)) for _ in range(2))
  assert first == second
