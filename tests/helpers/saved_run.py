"""A run with a checkpoint of step 3, for evaluations: nothing is trained."""

import json
import pathlib
import shutil

FIXTURES = pathlib.Path(__file__).parents[1] / "training/fixtures"
RUN = max(FIXTURES.glob("format*"), key=lambda path: path.name)
STEP = 3


def copy(folder, **changes):
  """The run in a folder of its own; its base policy is random."""
  shutil.copytree(RUN, folder)
  path = folder / "config.json"
  config = json.loads(path.read_text()) | changes
  config["base"] = {"source": "random", "seed": 0}
  path.write_text(json.dumps(config))
  return folder
