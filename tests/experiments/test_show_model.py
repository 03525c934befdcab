"""experiments.show_model: what a person sees of a folder."""

import pytest
from helpers import folder_forms, gemma_fixtures, templates

from experiments import show_model
from pkpo_jax.lm import tokenizers


def make(path, *edits):
  box = folder_forms.Box("gemma3_tiny", text=True)
  for edit in edits:
    edit(box)
  box.save(path)
  return path


@pytest.mark.slow
def test_a_folder_is_described(tmp_path):
  path = make(
    tmp_path / "folder",
    folder_forms.said(chat_template=templates.SYSTEM),
    folder_forms.config(eos_token_id=[1, 9]),
    folder_forms.whole,
  )
  lines, tokenizer = show_model.describe(path)
  text = "\n".join(lines)
  for part in (
    "a gemma3 of no preset's size, ",
    "7 (6 LOCAL_SLIDING, 1 GLOBAL, window 8), width 16",
    "base 10,000 local, 1,000,000 global; global ones divided by 1",
    " F32",
    "float32 (config.model.dtype may change it)",
    "272 rows",
    "2 tensors, of the vision tower; text alone is read: multi_modal",
    "1, 5, 9 (1 in config.json, eos_token_id; 9 in config.json, eos_token_id;",
    "turns (config.tokenizer.turns=True), as its chat template has them:",
    "| Q: What is 2 + 2?",
  ):
    assert part in text, text
  assert isinstance(tokenizer, tokenizers.GemmaTokenizer)
  lines, _ = show_model.describe(path, turns=False)
  assert "plain text after <bos>" in lines[-1]


def test_what_is_missing_is_said(tmp_path):
  lines, none = show_model.describe(gemma_fixtures.FOLDER / "gemma2_tiny")
  assert none is None and lines[-1].endswith("none in this folder")
  box = folder_forms.Box("gemma2_tiny")
  box.tokens = {}
  box.save(tmp_path / "small")
  assert (
    "136 of its ids have no embedding"
    in show_model.describe(tmp_path / "small")[0][-1]
  )


def test_the_vocabulary_of_another_gemma_is_said(tmp_path, monkeypatch):
  path = make(tmp_path / "folder", folder_forms.said())
  whole = tokenizers.GemmaTokenizer.__init__

  def of_gemma2(self, *args, **kwargs):
    whole(self, *args, **kwargs)
    self.family = "gemma2"

  monkeypatch.setattr(tokenizers.GemmaTokenizer, "__init__", of_gemma2)
  last = show_model.describe(path)[0][-1]
  assert "vocabulary of gemma2, and the model a gemma3: their ids di" in last


def test_a_preset_is_named():
  from pkpo_jax.lm import models

  model = models.get_model("gemma3_4b", num_embed=262_208)
  assert show_model._name(model) == (
    "config.model.name='gemma3_4b', config.model.num_embed=262208"
  )


@pytest.mark.slow
def test_ten_greedy_tokens(tmp_path, monkeypatch, capsys):
  path = make(tmp_path / "folder", folder_forms.said())
  command = ["show_model", f"--path={path}", "--try=a b"]
  monkeypatch.setattr("sys.argv", command)
  show_model.main()
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("answer      ") and len(last) > 14


def test_a_mistake_is_two_lines(tmp_path, monkeypatch, capsys):
  path = make(tmp_path / "folder", folder_forms.config(model_type="llama"))
  monkeypatch.setattr("sys.argv", ["show_model", f"--path={path}"])
  with pytest.raises(SystemExit, match="2"):
    show_model.main()
  assert "model_type='llama'; what can be read is" in capsys.readouterr().err
