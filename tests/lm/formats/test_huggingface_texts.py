"""lm.formats.huggingface_texts: an export is served as it was trained."""

import json

import pytest
from helpers import folder_forms, templates, vocabulary

from pkpo_jax.lm import chat_template, formats, tokenizers


def make(path, *edits):
  """A model's folder with a tokenizer, edited."""
  box = folder_forms.Box("gemma2_tiny", text=True)
  for edit in edits:
    edit(box)
  box.save(path)
  return path


def export(path, source, tokenizer):
  """Exports the source's model; what its config.json then says."""
  model, params = formats.load_huggingface(source)
  formats.save_huggingface(
    model, params, path, source=source, tokenizer=tokenizer
  )
  return json.loads((path / "config.json").read_text())


def test_an_export_has_the_tokenizer_that_was_trained_with(tmp_path):
  """Its ids, its template and its stop tokens, of another folder."""
  generation = {"eos_token_id": 1, "top_k": 64}
  source = make(
    tmp_path / "base",
    folder_forms.said(),
    folder_forms.beside(**{"generation_config.json": generation}),
  )
  other = tmp_path / "other"
  other.mkdir()
  vocabulary.make_huggingface(other, beyond=folder_forms.TAGS)
  said = {"eos_token": "<|im_end|>", "chat_template": templates.CHATML}
  (other / "tokenizer_config.json").write_text(json.dumps(said))
  (other / "generation_config.json").write_text('{"eos_token_id": 9}')
  used = tokenizers.get_tokenizer("huggingface", path=other, model=source)
  saved = tmp_path / "saved"
  config = export(saved, source, used)
  for name in ("tokenizer.json", "tokenizer_config.json"):
    assert (saved / name).read_bytes() == (other / name).read_bytes()
  stops = list(used.stop_tokens)
  assert len(stops) == 4 and config["eos_token_id"] == stops
  read = json.loads((saved / "generation_config.json").read_text())
  assert read == {"eos_token_id": stops, "top_k": 64}
  again = tokenizers.get_tokenizer("huggingface", path=saved)
  assert again.encode(" Hi") == used.encode(" Hi")
  assert set(again.stop_tokens) == set(stops)


@pytest.mark.parametrize("turns", [True, False])
def test_a_frame_that_no_file_has_is_written(tmp_path, turns):
  source = make(tmp_path / "base")
  used = tokenizers.get_tokenizer("huggingface", path=source, turns=turns)
  config = export(tmp_path / "saved", source, used)
  written = tmp_path / "saved/chat_template.jinja"
  assert written.exists() == turns
  assert config["eos_token_id"] == [1, used.stop_tokens[1]]
  if turns:
    again = tokenizers.get_tokenizer("huggingface", path=tmp_path / "saved")
    assert again.said.template == chat_template.GEMMA_TEMPLATE
    assert again.frame == used.frame


def test_a_vocabulary_of_gemmas_own_stands_beside_the_sources(
  tmp_path, monkeypatch
):
  source = make(
    tmp_path / "base", folder_forms.said(chat_template=templates.SYSTEM)
  )
  (tmp_path / "tokenizer").mkdir()
  file = vocabulary.train_sentencepiece(tmp_path)
  cached = file.rename(tmp_path / "tokenizer/tokenizer_gemma2.model")
  monkeypatch.setenv("GEMMA_CACHE_DIR", str(tmp_path))
  used = tokenizers.get_tokenizer("gemma2", model=source)
  saved = tmp_path / "saved"
  export(saved, source, used)
  assert (saved / "tokenizer.model").read_bytes() == cached.read_bytes()
  assert (saved / "tokenizer_config.json").exists()
  template = (saved / "chat_template.jinja").read_text()
  assert template == chat_template.GEMMA_TEMPLATE


def test_one_stop_token_is_a_number(tmp_path):
  source = make(tmp_path / "base")
  vocabulary.make_huggingface(source, turns=[])
  used = tokenizers.get_tokenizer("huggingface", path=source, turns=False)
  assert export(tmp_path / "saved", source, used)["eos_token_id"] == 1
