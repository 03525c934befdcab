"""A vocabulary of Gemma from a file, by the library that reads it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from pkpo_jax.lm.formats import tensor_files

UNKNOWN = "\ufffd"  # what ids without a token, and broken bytes, become


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """A vocabulary, whichever library it was loaded with.

  Attributes:
    source: where it comes from, for messages.
    size: how many ids the encoding of a text can have.
    encode: maps plain text to ids.
    decode: maps ids to text.
    find: maps a piece to its id; None if there is no such piece.
    texts: makes the text of each id by itself.
    total: how many ids there are, with special ones at the end that no text
      is encoded as.
    begins: whether the library itself begins a text with BOS, and adds nothing
      else.
    added: pieces that are matched whole, whatever is around them, and whether
      `encode` leaves them alone, as special ones.
    file: the name that `transformers` looks for it by.
    content: makes the bytes of that file.
  """

  source: str
  size: int
  encode: Callable[[str], list[int]]
  decode: Callable[[list[int]], str]
  find: Callable[[str], int | None]
  texts: Callable[[], list[str]]
  total: int
  begins: bool
  added: Mapping[str, bool]
  file: str
  content: Callable[[], bytes]


def load_sentencepiece(name: str, path: str | None) -> Vocabulary:
  """Loads a SentencePiece model; without a path the one gemma finds."""
  from pkpo_jax.lm.gemma_library import gm

  if path is not None and pathlib.Path(path).is_file():
    tensor_files.check_fetched(pathlib.Path(path))
  known = {"gemma2": gm.text.Gemma2Tokenizer, "gemma3": gm.text.Gemma3Tokenizer}
  model = known[name]() if path is None else known[name](path)
  try:
    pieces = model.tokens
  except Exception as error:  # Each kind of path and of damage has its own.
    raise OSError(
      f"The vocabulary {model.path} can't be read: {error}\nGive path=, a"
      " SentencePiece model of Gemma on this machine."
    ) from error
  ids = {piece: i for i, piece in enumerate(pieces)}
  return Vocabulary(
    str(model.path),
    len(pieces),
    model.encode,
    model.decode,
    ids.get,
    lambda: [model.decode([i]) for i in range(len(pieces))],
    len(pieces),
    True,
    {},
    "tokenizer.model",
    model._sp.serialized_model_proto,  # of a file, gemma's cache or its cloud
  )


def load_huggingface(path: str) -> Vocabulary:
  """Loads a tokenizer.json, or the one in a folder."""
  import tokenizers

  file = pathlib.Path(path)
  file = file / "tokenizer.json" if file.is_dir() else file
  if not file.is_file():
    raise FileNotFoundError(
      f"There is no {file}; path= must be a tokenizer.json or a folder with it."
    )
  tensor_files.check_fetched(file)
  try:
    fast = tokenizers.Tokenizer.from_file(str(file))
  except Exception as error:  # The library raises nothing more specific.
    raise OSError(f"{file} is no tokenizer.json: {error}") from error
  fast.encode_special_tokens = True  # <eos> in a text is text.
  fast.no_truncation()  # The file may ask for truncation or padding.
  fast.no_padding()
  return Vocabulary(
    str(file),
    _num_rows(fast),
    lambda text: fast.encode(text, add_special_tokens=False).ids,
    lambda ids: fast.decode(ids, skip_special_tokens=False),
    fast.token_to_id,
    lambda: _texts(fast),
    1 + max(fast.get_vocab().values()),
    fast.encode("a").tokens
    == ["<bos>", *fast.encode("a", add_special_tokens=False).tokens],
    {x.content: x.special for x in fast.get_added_tokens_decoder().values()},
    "tokenizer.json",
    file.read_bytes,
  )


def _texts(fast: Any) -> list[str]:
  """Decodes each id by itself, special ones too; U+FFFD where there is none."""
  ids = range(1 + max(fast.get_vocab().values()))
  texts = fast.decode_batch([[i] for i in ids], skip_special_tokens=False)
  known = (fast.id_to_token(i) is not None for i in ids)
  return [text if found else UNKNOWN for text, found in zip(texts, known)]


def _num_rows(fast: Any) -> int:
  """Counts the ids, without special ones at the end.

  Those are tokens such as Gemma 3's <image_soft_token>. Text never becomes one,
  and text models have no embedding for them.
  """
  size = 1 + max(fast.get_vocab().values())  # ids may have gaps
  added = fast.get_added_tokens_decoder()
  while size - 1 in added and added[size - 1].special:
    size -= 1
  return size
