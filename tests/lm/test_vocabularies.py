"""pkpo_jax.lm.vocabularies: files of vocabularies, right and wrong ones."""

import json

import pytest
import tokenizers as huggingface
from gemma import gm
from helpers import vocabulary

from pkpo_jax.lm import tokenizers


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
  return vocabulary.train_sentencepiece(tmp_path_factory.mktemp("tiny"))


def test_special_ids_that_differ_are_named(tmp_path):
  path = vocabulary.make_huggingface(
    tmp_path, special=["<unk>", "<eos>", "<s>", "<pad>"]
  )
  message = "<pad> is 3 instead of 0; <bos> is None instead of 2"
  with pytest.raises(ValueError, match=message):
    tokenizers.get_tokenizer("huggingface", path=path)


def test_turns_are_needed_with_turns_alone(tmp_path):
  path = vocabulary.make_huggingface(tmp_path, turns=["<start_of_turn>"])
  with pytest.raises(ValueError, match=r"no.*: <end_of_turn> is missing"):
    tokenizers.get_tokenizer("huggingface", path=path)
  plain = tokenizers.get_tokenizer("huggingface", path=path, turns=False)
  assert plain.stop_tokens == (1,)
  assert plain.encode("a") == [2, *plain.encode_completion("a")]


@pytest.mark.parametrize(
  "options",
  [
    {"pad_id": -1},
    {"turns": "control_symbols", "eos_piece": "</s>"},
    {"add_dummy_prefix": True},
    {"remove_extra_whitespaces": True},
    {"normalization_rule_name": "nfkc"},
  ],
)
def test_other_sentencepiece_models_are_refused(tmp_path, options):
  path = vocabulary.train_sentencepiece(tmp_path, **options)
  with pytest.raises(ValueError, match=r"tiny\.model is no vocabulary of"):
    tokenizers.get_tokenizer("gemma2", path=path)


def test_a_vocabulary_that_strips_blanks_is_refused(tmp_path):
  path = vocabulary.make_huggingface(tmp_path, strip=True)
  with pytest.raises(ValueError, match=r"'  x²2\\n ' comes back as ' x²2"):
    tokenizers.get_tokenizer("huggingface", path=path)


def test_truncation_and_padding_of_a_file_are_ignored(tmp_path):
  path = vocabulary.make_huggingface(tmp_path)
  fast = huggingface.Tokenizer.from_file(str(path))
  fast.enable_truncation(3)
  fast.enable_padding(length=8)
  fast.save(str(path))
  assert json.loads(path.read_text())["truncation"]["max_length"] == 3
  one = tokenizers.get_tokenizer("huggingface", path=path)
  assert len(one.encode_completion("12345")) == 5


def test_special_tokens_beyond_the_model_are_not_counted(tmp_path):
  path = vocabulary.make_huggingface(tmp_path)
  size = tokenizers.get_tokenizer("huggingface", path=path).vocab_size
  vocabulary.make_huggingface(
    tmp_path, beyond=["<image_soft_token>", "<another>"]
  )
  one = tokenizers.get_tokenizer("huggingface", path=path)
  assert one.vocab_size == size
  assert max(one.encode_completion("<image_soft_token><another>")) < size


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_without_path_it_is_what_gemma_has(
  tmp_path, monkeypatch, tiny_model, name
):
  (tmp_path / "tokenizer").mkdir()
  cached = tmp_path / f"tokenizer/tokenizer_{name}.model"
  cached.write_bytes(tiny_model.read_bytes())
  monkeypatch.setenv("GEMMA_CACHE_DIR", str(tmp_path))
  assert tokenizers.get_tokenizer(name).vocab_size == 330


def test_a_cloud_out_of_reach_is_an_error_with_the_remedy(monkeypatch):
  def unreachable(_):
    raise RuntimeError("no route to host")

  monkeypatch.setattr(gm.text.Gemma3Tokenizer, "tokens", property(unreachable))
  message = r"gemma3.model can't be read: no route to host\nGive path="
  with pytest.raises(OSError, match=message):
    tokenizers.get_tokenizer("gemma3")


@pytest.mark.parametrize("name", ["gemma2", "huggingface"])
def test_a_file_that_is_missing_or_of_another_kind_is_named(tmp_path, name):
  with pytest.raises(OSError, match="nowhere"):
    tokenizers.get_tokenizer(name, path=tmp_path / "nowhere.json")
  with pytest.raises(OSError, match=tmp_path.name):
    tokenizers.get_tokenizer(name, path=tmp_path)
  (tmp_path / "other.json").write_text("words")
  with pytest.raises(OSError, match="other"):
    tokenizers.get_tokenizer(name, path=tmp_path / "other.json")


@pytest.mark.parametrize(
  ("content", "message"),
  [("version https://git-lfs", "git lfs pull"), ("", "it is empty")],
)
def test_a_file_that_was_not_fetched_is_named(tmp_path, content, message):
  names = {"gemma3": "tokenizer.model", "huggingface": "tokenizer.json"}
  for name, file in names.items():
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=f"{file} can't be read .*{message}"):
      tokenizers.get_tokenizer(name, path=tmp_path / file)


def test_home_is_understood_in_a_path(tmp_path, monkeypatch):
  vocabulary.make_huggingface(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert tokenizers.get_tokenizer("huggingface", path="~").vocab_size == 264


def test_unknown_names_and_a_missing_path_are_errors():
  with pytest.raises(ValueError, match=r"'gemma4'; known: gemma2, gemma3, hug"):
    tokenizers.get_tokenizer("gemma4")
  with pytest.raises(ValueError, match="needs path="):
    tokenizers.get_tokenizer("huggingface")
