"""training.dry_run: a config is tried, and nothing is left behind."""

import re

import pytest
from helpers import tiny_config

from pkpo_jax.training import build_run, dry_run


@pytest.mark.slow
def test_a_dry_run_says_what_a_run_needs_and_writes_nothing(tmp_path):
  config = tiny_config.get_config()
  config.update(max_prompt_tokens=5, long_prompts="drop", num_steps=10)
  data = build_run.load_data(config)
  said = dry_run.dry_run(config, tmp_path / "base", data)
  assert not list(tmp_path.iterdir())
  assert re.search(r"train +4 problems, 4 dropped: .*max_prompt_tokens=5", said)
  assert "not trained yet, random here" in said
  assert re.search(r"memory +[\d.]+ GiB", said)
  assert re.search(r"a step +[\d.]+ s: sample", said)
  assert re.search(r"the run +[\d.]+ h: 10 steps", said)
  norm = float(re.search(r"gradient +norm ([\d.e+-]+)", said)[1])
  assert norm > 0, "the backward pass has not run"
