"""lm.formats.folder_kinds: what a folder is that is none of the wanted kind."""

import pytest
from helpers import gemma_fixtures, saved_run

from pkpo_jax.lm import formats

LOADERS = {
  "huggingface": formats.load_huggingface,
  "gemma": formats.load_gemma,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_a_run_is_named_and_how_to_begin_with_it(tmp_path, kind):
  run = saved_run.copy(tmp_path / "run")
  (run / "starts.jsonl").touch()
  (step,) = (run / "checkpoints").glob("3")
  for folder in (run, run / "checkpoints", step, step / "default"):
    with pytest.raises(ValueError, match=f"source='run' and .*path={run}, or"):
      LOADERS[kind](folder)


def test_a_folder_within_a_run_is_read_as_what_it_is(tmp_path):
  """An export, say."""
  (tmp_path / "starts.jsonl").touch()
  model, params = gemma_fixtures.loaded("gemma2_tiny")
  for kind, load in LOADERS.items():
    getattr(formats, f"save_{kind}")(model, params, tmp_path / kind)
    assert load(tmp_path / kind)[0] == model


def test_a_folder_of_the_other_kind_is_named(tmp_path):
  model, params = gemma_fixtures.loaded("gemma2_tiny")
  formats.save_gemma(model, params, tmp_path / "saved")
  with pytest.raises(ValueError, match=r"gemma package's: set .*='gemma', or"):
    formats.load_huggingface(tmp_path / "saved")
  with pytest.raises(ValueError, match=r"Face's: set .*='huggingface', or"):
    formats.load_gemma(gemma_fixtures.FOLDER / "gemma2_tiny")


def test_other_weights_without_a_config_are_named(tmp_path):
  (tmp_path / "model.gguf").touch()
  with pytest.raises(FileNotFoundError, match=r"no config.json. GGUF is not"):
    formats.load_huggingface(tmp_path)
