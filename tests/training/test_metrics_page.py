"""docs/metrics.md: a row for each name that a run logs, and none besides."""

import pathlib
import re

import ml_collections
import pytest
from helpers import tiny_config

from pkpo_jax.training import loop, metrics_writer

PAGE = pathlib.Path(__file__).parents[2] / "docs/metrics.md"
# What stands for many in a name on the page.
PLACES = {"K": r"\d+", "TIER": ".+", "REASON": r"[^(].*"}


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
  """Stage -> names of all metrics of a run that leaves none out."""
  folder = tmp_path_factory.mktemp("run")
  config = tiny_config.get_config()
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  config.task.name = "helpers.awkward_task:Awkward"
  config.task.num_train = config.prompts_per_step
  config.update(num_steps=1, n=8)
  config.loss.kl_coef = 0.1
  loop.train(config, folder, folder / "base")
  names = {"train": set(), "eval": set()}
  for record in metrics_writer.read(folder / "metrics.jsonl"):
    names[record["stage"]] |= set(record)
  return names


def rows():
  """(names, stages) of each row of the tables of the page."""
  for line in PAGE.read_text().splitlines():
    if line.startswith("| `"):
      names, stages, *others = line.removeprefix("| ").split(" | ")
      assert len(others) == 3 and all(others[:2]), line
      yield re.findall(r"`([^`]+)`", names), stages.split(", ")


def pattern(name):
  parts = re.split(r"\b(K|TIER|REASON)(?=\b|_)", name)
  return "".join(PLACES.get(part, re.escape(part)) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "eval"])
def test_every_name_has_one_row_and_every_row_is_logged(stage, logged):
  on_page = [x for names, stages in rows() if stage in stages for x in names]
  assert len(on_page) > 10
  for name in logged[stage]:
    matching = [x for x in on_page if re.fullmatch(pattern(x), name)]
    assert len(matching) == 1, f"{name} in docs/metrics.md: {matching}"
  for name in on_page:
    found = [x for x in logged[stage] if re.fullmatch(pattern(name), x)]
    assert found, f"{name} is in docs/metrics.md, and no run here logs it"
