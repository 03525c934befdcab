"""Every notebook runs from top to bottom, with this interpreter."""

import pathlib
import sys

import nbclient
import nbformat
import pytest

# your_trainer needs tunix: tests/adapters/test_tunix.py.
NOTEBOOKS = sorted(
  path
  for path in (pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb")
  if path.stem != "your_trainer"
)


def test_there_are_notebooks():
  assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  same_python = f"import sys\nassert sys.executable == {sys.executable!r}"
  notebook.cells.insert(0, nbformat.v4.new_code_cell(same_python))
  resources = {"metadata": {"path": str(tmp_path)}}
  nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
