"""Gemma's vocabulary, which is fetched and not kept here, and tiny ones."""

import pathlib

import sentencepiece
import tokenizers as huggingface

GEMMA2 = pathlib.Path(__file__).parents[2] / ".vocabulary/gemma2/tokenizer.json"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
TURNS = ["<start_of_turn>", "<end_of_turn>"]
IMAGES = ["<start_of_image>", "<end_of_image>"]

_TEXT = """A baker sells 1234 rolls at $0.75 each. What does she earn?
She earns 1234 * 0.75 = <<1234*0.75=925.5>>925.5 dollars.
Two  lines,   and three blanks.
"""


def gemma2_path():
  """Gemma 2's tokenizer.json; an error for a test without the marker."""
  if not GEMMA2.is_file():
    raise FileNotFoundError(
      f"Tests marked `vocabulary` need {GEMMA2}; get it with"
      " `python tests/helpers/fetch_vocabulary.py --out .vocabulary`."
    )
  return GEMMA2


def train_sentencepiece(folder, *, turns="user_defined_symbols", **options):
  """A .model file with Gemma's special ids, of few pieces."""
  text = folder / "text.txt"
  text.write_text(_TEXT)
  sentencepiece.SentencePieceTrainer.train(
    **{
      "input": str(text),
      "model_prefix": str(folder / "tiny"),
      "model_type": "bpe",
      "vocab_size": 330,
      "byte_fallback": True,
      "split_digits": True,
      "character_coverage": 0.98,
      "normalization_rule_name": "identity",
      "add_dummy_prefix": False,
      "remove_extra_whitespaces": False,
      "minloglevel": 2,
      **{f"{piece[1:-1]}_piece": piece for piece in SPECIAL},
      **{f"{piece[1:-1]}_id": i for i, piece in enumerate(SPECIAL)},
      turns: [*TURNS, *IMAGES],
      **options,
    }
  )
  return folder / "tiny.model"


def make_huggingface(
  folder, *, special=SPECIAL, turns=TURNS, beyond=(), strip=False, begins=True
):
  """A tokenizer.json of bytes, without merges; texts begin with <bos>."""
  pieces = [*special, *turns, *(f"<0x{i:02X}>" for i in range(256)), "▁", "a"]
  steps = [
    huggingface.decoders.Replace("▁", " "),
    huggingface.decoders.ByteFallback(),
    huggingface.decoders.Fuse(),
  ]
  if strip:
    steps.append(huggingface.decoders.Strip(" ", 1, 0))
  model = huggingface.models.BPE(
    {piece: i for i, piece in enumerate(pieces)},
    [],
    unk_token="<unk>",
    byte_fallback=True,
  )
  fast = huggingface.Tokenizer(model)
  fast.normalizer = huggingface.normalizers.Replace(" ", "▁")
  fast.decoder = huggingface.decoders.Sequence(steps)
  fast.add_special_tokens(list(special))
  fast.add_tokens(list(turns))
  fast.add_special_tokens(list(beyond))
  if begins and "<bos>" in special:
    fast.post_processor = huggingface.processors.TemplateProcessing(
      single="<bos> $A",
      pair="<bos> $A $B",
      special_tokens=[("<bos>", fast.token_to_id("<bos>"))],
    )
  fast.save(str(folder / "tokenizer.json"))
  return folder / "tokenizer.json"
