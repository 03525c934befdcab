"""experiments.hardware.measure: it runs what training runs, on what is here."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from configs import mazes
from experiments.hardware import programs
from pkpo_jax.lm import sharding

SMALL = (
  "--config.prompts_per_step=4",
  "--config.n=8",
  "--config.max_prompt_tokens=32",
  "--config.max_new_tokens=16",
  "--config.microbatch.rows=4",
  "--config.mesh.fsdp=2",
  "--config.mesh.data=2",
)


def run(*arguments: str) -> subprocess.CompletedProcess:
  command = (sys.executable, "-m", "experiments.hardware.measure")
  devices = "--xla_force_host_platform_device_count=4"
  flags = f"{os.environ.get('XLA_FLAGS', '')} {devices}"
  return subprocess.run(
    [*command, *arguments],
    env=os.environ | {"XLA_FLAGS": flags},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.slow
def test_prints_seconds_of_both_programs_on_a_mesh():
  arm = "--config=configs/mazes.py:k2"
  out = run(arm, *SMALL, "--repetitions=1").stdout
  assert "4 x cpu as data 2 x fsdp 2 x tensor 1" in out
  (sample,) = re.findall(r"^sample +([\d.]+) \(", out, re.M)
  (rate,) = re.findall(r"([\d,]+) tokens a second", out)
  expected = 4 * 8 * 16 / float(sample)
  assert float(rate.replace(",", "")) == pytest.approx(expected, rel=0.01)
  used = [int(x) for x in re.findall(r"^update +(\d+)% \d", out, re.M)]
  assert len(used) == 2
  assert used[0] > used[1] == 25


def test_an_option_out_of_range_is_refused():
  ended = run("--repetitions=0")
  assert ended.returncode == 2
  assert "--repetitions 0 is less than 1" in ended.stderr


def test_frozen_parameters_of_a_sampler_are_rounded_as_in_a_run():
  config = mazes.get_config("k4")
  config.model.update(lora_rank=2, dtype="bfloat16")
  mesh = sharding.make_mesh(**config.mesh)
  with jax.set_mesh(mesh):
    avals = programs.trace_sampler(config, mesh).in_avals
  floats = [
    (path, x)
    for path, x in jax.tree.leaves_with_path(avals)
    if jnp.issubdtype(x.dtype, jnp.floating) and x.ndim
  ]
  assert len(floats) > 10
  for path, x in floats:
    adapter = "lora" in jax.tree_util.keystr(path)
    assert x.dtype == (jnp.float32 if adapter else jnp.bfloat16), path
