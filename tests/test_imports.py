"""pkpo_jax._imports: "module:name", found in the current directory too."""

import pytest

from pkpo_jax import _imports


def test_a_name_is_loaded():
  assert _imports.load("os.path:join", "task")("a", "b") == "a/b"


def test_the_current_directory_counts(tmp_path, monkeypatch):
  (tmp_path / "mine_for_this_test.py").write_text("def f():\n  return 3\n")
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
  assert _imports.load("mine_for_this_test:f", "task")() == 3


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("no_such_module:f", "task 'no_such_module:f' cannot be imported"),
    ("os:no_such_name", "no attribute 'no_such_name'"),
    ("os:", "must be 'module:name'"),
    (":join", "must be 'module:name'"),
    ("os:sep", "not callable"),
  ],
)
def test_what_cannot_be_loaded_is_named(name, message):
  with pytest.raises(ValueError, match=message):
    _imports.load(name, "task")
