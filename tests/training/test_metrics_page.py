"""docs/metrics.md: a row for each name that a run logs, and none besides."""

import math
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
def records(tmp_path_factory):
  """All records of a run that leaves no metric out.

  Half of its problems, those of 3 numbers, have too long prompts; of the 3 that
  are left for evaluations, 2 are drawn, and one of any 2 cannot be graded.
  """
  folder = tmp_path_factory.mktemp("run")
  config = tiny_config.get_config()
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  config.task.name = "helpers.awkward_task:Awkward"
  config.task.num_train = config.prompts_per_step
  config.update(num_steps=1, n=8, max_prompt_tokens=5, long_prompts="drop")
  config.k_schedule = "by_problem"
  config.eval.update(num_problems=2, n=16)
  config.loss.kl_coef = 0.1
  loop.train(config, folder, folder / "base")
  return metrics_writer.read(folder / "metrics.jsonl")


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
def test_every_name_has_one_row_and_every_row_is_logged(stage, records):
  on_page = [x for names, stages in rows() if stage in stages for x in names]
  assert len(on_page) > 10
  logged = {x for r in records if r["stage"] == stage for x in r}
  for name in logged:
    matching = [x for x in on_page if re.fullmatch(pattern(x), name)]
    assert len(matching) == 1, f"{name} in docs/metrics.md: {matching}"
  for name in on_page:
    found = [x for x in logged if re.fullmatch(pattern(name), x)]
    assert found, f"{name} is in docs/metrics.md, and no run here logs it"


@pytest.mark.slow
def test_problems_are_counted_and_so_are_those_left_out(records):
  assert [r["stage"] for r in records] == ["eval", "train", "eval"]
  for record in records:
    train = record["stage"] == "train"
    assert record["num_dropped"] == (2 if train else 3)
    assert record["num_problems"] == (4 if train else 2)
    assert record["num_ungraded"] > 0
    assert record["invalid"] > 0 and math.isnan(record["pass@4"])
    assert record["pass@4_lower"] < record["pass@4_upper"]
  assert records[0]["num_ungraded"] == records[2]["num_ungraded"]
