"""experiments.export: what it writes is the policy of the run."""

import functools
import json
import pathlib
import runpy
import types

import numpy as np
import pytest
from helpers import gemma_fixtures, plain, saved_run, vocabulary

from pkpo_jax.lm import formats, models, tokenizers
from pkpo_jax.training import build_run, saved_policy, workdir

ROOT = pathlib.Path(__file__).parents[2]
TOKENS = np.array([[2, 5, 3, 9, 7, 4, 1]])


@pytest.fixture
def run(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  return saved_run.copy(tmp_path / "run")


@pytest.fixture
def command(run_here):
  return functools.partial(run_here, "export")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["huggingface", "gemma"])
def test_the_folder_holds_the_newest_policy(kind, run, command, tmp_path):
  out = tmp_path / "out/policy"
  code, output = command(f"--workdir={run}", f"--out={out}", f"--format={kind}")
  assert code == 0 and f"after 3 steps is in {out}" in output
  config = workdir.read_config(run)
  parts = build_run.build(config)
  policy = saved_policy.load(run, 3, config, parts, tmp_path)
  load = getattr(formats, f"load_{kind}")
  model, params = load(out)
  found, _ = plain.forward(model, params, TOKENS)
  expected, _ = plain.forward(parts.model, models.merge(*policy), TOKENS)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  first = saved_policy.load(run, saved_policy.BASE, config, parts, tmp_path)
  other, _ = plain.forward(parts.model, models.merge(*first), TOKENS)
  assert np.abs(other - expected).max() > 1e-3


def test_the_folder_has_the_tokenizer_of_the_run(run, tmp_path, monkeypatch):
  """That of `config.tokenizer`, and not the one that the base lies beside."""
  model, params = gemma_fixtures.loaded("gemma2_tiny")
  file = vocabulary.make_huggingface(tmp_path)
  tokenizer = tokenizers.get_tokenizer("huggingface", path=file)
  data = types.SimpleNamespace(tokenizer=tokenizer)
  parts = types.SimpleNamespace(model=model)
  monkeypatch.setattr(build_run, "build", lambda *_: parts)
  monkeypatch.setattr(saved_policy, "load", lambda *_: ({}, params))
  out = tmp_path / "out"
  args = types.SimpleNamespace(
    workdir=run, base_dir=tmp_path, format="huggingface", out=out
  )
  request = types.SimpleNamespace(config=workdir.read_config(run))
  command = runpy.run_module("experiments.export")
  command["_export"](args, request, data, 3)
  assert (out / "tokenizer.json").read_bytes() == file.read_bytes()
  config = json.loads((out / "config.json").read_text())
  assert config["eos_token_id"] == list(tokenizer.stop_tokens)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--out=configs"], "--out=configs is there already"),
    (["--out=/tmp/no", "--step=2"], "--step=2: "),
    (["--out=/tmp/no", "--format=gguf"], "invalid choice: 'gguf'"),
    (["--out=s3://no"], "is an address"),
    ([], "required: --out"),
  ],
)
def test_mistakes_end_in_two_lines(run, command, options, message):
  code, output = command(f"--workdir={run}", *options)
  assert code == 2 and message in output and "Traceback" not in output
