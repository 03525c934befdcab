"""Text to token ids and back, in Gemma's vocabularies or in a list of words.

PAD, EOS and BOS have Gemma's ids in all of them.
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

# PAD equals models.PAD; importing that would import gemma.
PAD, EOS, BOS = 0, 1, 2

_SPECIAL = {"<pad>": PAD, "<eos>": EOS, "<bos>": BOS}
_START, _END = "<start_of_turn>", "<end_of_turn>"
UNKNOWN = "\ufffd"  # what ids without a token, and broken bytes, become
_NAMES = ("gemma2", "gemma3", "huggingface")

# Where a text is cut so that none of these pieces is left in it: SentencePiece
# would make them control tokens, and so would a tokenizer.json that does not
# mark them as special.
_CUT = re.compile(r"(?<=<)(?=(?:start|end)_of_(?:turn|image)>)")


class Tokenizer(Protocol):
  """What sampling and training need of a tokenizer.

  Attributes:
    vocab_size: how many ids the encoding of a text can have.
    stop_tokens: ids that end a completion.
    drops_first_blank: whether a text leaves out a blank that it begins with.
  """

  vocab_size: int
  stop_tokens: tuple[int, ...]
  drops_first_blank: bool

  @property
  def token_bytes(self) -> Sequence[bytes]:
    """UTF-8 of what each id adds to a text, whatever came before.

    `decode` joins them; bytes that are not UTF-8 then become U+FFFD.
    """

  def encode(self, text: str) -> list[int]:
    """Encodes a prompt, BOS included."""

  def encode_completion(self, text: str) -> list[int]:
    """Encodes a completion, without BOS and stop tokens."""

  def decode(self, ids: Sequence[int]) -> str:
    """Decodes a completion, without PAD and stop tokens."""


def get_tokenizer(
  name: str,
  *,
  path: str | os.PathLike[str] | None = None,
  turns: bool = True,
) -> "GemmaTokenizer":
  """Loads a vocabulary of Gemma.

  Args:
    name: "gemma2" or "gemma3" for a SentencePiece model, "huggingface" for the
      `tokenizer.json` of either.
    path: the file; for "huggingface" also the folder that holds it. "gemma2"
      and "gemma3" need none: the gemma package then looks for the vocabulary in
      `$GEMMA_CACHE_DIR/tokenizer`, and else in the cloud.
    turns: whether a prompt becomes the user's turn of a chat, as tuned models
      expect; otherwise it stays plain text, as for base models.

  Returns:
    The tokenizer.

  Raises:
    OSError: the file cannot be read.
    ValueError: the name is unknown, the path is missing, or the vocabulary is
      not Gemma's.
  """
  if name not in _NAMES:
    raise ValueError(f"Unknown tokenizer {name!r}; known: {', '.join(_NAMES)}.")
  file = None if path is None else os.path.expanduser(path)
  if name != "huggingface":
    return GemmaTokenizer(_load_sentencepiece(name, file), turns=turns)
  if file is None:
    raise ValueError("The huggingface tokenizer needs path=, a tokenizer.json.")
  return GemmaTokenizer(_load_huggingface(file), turns=turns)


@dataclasses.dataclass(frozen=True)
class _Vocabulary:
  """A vocabulary, whichever library it was loaded with.

  Attributes:
    source: where it comes from, for messages.
    size: how many ids the encoding of a text can have.
    encode: maps plain text to ids.
    decode: maps ids to text.
    find: maps a piece to its id; None if there is no such piece.
    texts: makes the text of each id by itself.
  """

  source: str
  size: int
  encode: Callable[[str], list[int]]
  decode: Callable[[list[int]], str]
  find: Callable[[str], int | None]
  texts: Callable[[], list[str]]


def _load_sentencepiece(name: str, path: str | None) -> _Vocabulary:
  """Loads a SentencePiece model; without a path the one gemma finds."""
  from gemma import gm

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
  return _Vocabulary(
    str(model.path),
    len(pieces),
    model.encode,
    model.decode,
    ids.get,
    lambda: [model.decode([i]) for i in range(len(pieces))],
  )


def _load_huggingface(path: str) -> _Vocabulary:
  """Loads a tokenizer.json, or the one in a folder."""
  import tokenizers

  file = pathlib.Path(path)
  file = file / "tokenizer.json" if file.is_dir() else file
  if not file.is_file():
    raise FileNotFoundError(
      f"There is no {file}; path= must be a tokenizer.json or a folder with it."
    )
  try:
    fast = tokenizers.Tokenizer.from_file(str(file))
  except Exception as error:  # The library raises nothing more specific.
    raise OSError(f"{file} is no tokenizer.json: {error}") from error
  fast.encode_special_tokens = True  # <eos> in a text is text.
  fast.no_truncation()  # The file may ask for truncation or padding.
  fast.no_padding()
  return _Vocabulary(
    str(file),
    _num_rows(fast),
    lambda text: fast.encode(text, add_special_tokens=False).ids,
    lambda ids: fast.decode(ids, skip_special_tokens=False),
    fast.token_to_id,
    lambda: _texts(fast),
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
  size, added = fast.get_vocab_size(), fast.get_added_tokens_decoder()
  while size - 1 in added and added[size - 1].special:
    size -= 1
  return size


def _check(vocabulary: _Vocabulary, *, turns: bool) -> None:
  """Raises ValueError unless ids and texts are as in Gemma's vocabularies."""
  wrong = [
    f"{piece} is {vocabulary.find(piece)} instead of {i}"
    for piece, i in _SPECIAL.items()
    if vocabulary.find(piece) != i
  ]
  if turns:
    pieces = [p for p in (_START, _END) if vocabulary.find(p) is None]
    wrong += [f"{p} is missing, which turns=True needs" for p in pieces]
  # Prompts are encoded in parts; some vocabularies add or strip blanks at the
  # ends of each, or rewrite characters.
  parts = ("  x²", "2\n ")
  back = vocabulary.decode([i for p in parts for i in vocabulary.encode(p)])
  if back != "".join(parts):
    wrong.append(f"the text {''.join(parts)!r} comes back as {back!r}")
  if wrong:
    raise ValueError(
      f"{vocabulary.source} is no vocabulary of Gemma: {'; '.join(wrong)}."
    )


class GemmaTokenizer:
  """A vocabulary of Gemma, with or without the turns of a chat.

  Text is only ever text: `<end_of_turn>` or `<eos>` in a problem or in an
  answer does not become the control token. `decode` is the exact inverse of
  `encode_completion`, but for U+2581, which stands for the blank in the
  vocabulary and comes back as one.

  Attributes:
    vocab_size: how many ids the encoding of a text can have.
    stop_tokens: EOS, and <end_of_turn> where the vocabulary has it.
    drops_first_blank: False.
  """

  drops_first_blank = False

  def __init__(self, vocabulary: _Vocabulary, *, turns: bool):
    """See `get_tokenizer`."""
    _check(vocabulary, turns=turns)
    start, end = vocabulary.find(_START), vocabulary.find(_END)
    self._vocabulary = vocabulary
    self.vocab_size = vocabulary.size
    self.stop_tokens: tuple[int, ...] = (EOS,) if end is None else (EOS, end)
    self._before, self._opening, self._after = [BOS], "", list[int]()
    if turns and start is not None and end is not None:
      self._before, self._opening = [BOS, start], "user\n"
      between, answer = map(vocabulary.encode, ("\n", "model\n"))
      self._after = [end, *between, start, *answer]

  def encode(self, text: str) -> list[int]:
    """Encodes a prompt, up to where the model begins its answer.

    As in Gemma's chat template, a user's turn has no blanks or line ends at
    its start and end.
    """
    text = self._opening + text.strip() if self._opening else text
    ids = self.encode_completion(text)
    return [*self._before, *ids, *self._after]

  def encode_completion(self, text: str) -> list[int]:
    """Encodes a completion, without BOS and stop tokens."""
    return [
      i for part in _CUT.split(text) for i in self._vocabulary.encode(part)
    ]

  def decode(self, ids: Sequence[int]) -> str:
    """Decodes a completion, without PAD, BOS and stop tokens.

    Special tokens that were added to the vocabulary keep their text. Bytes that
    are not UTF-8 become U+FFFD, and so do ids without a token, which occur
    where a model has more embeddings, to a round number.
    """
    known, unknown = self.token_bytes, UNKNOWN.encode()
    pieces = (known[i] if i < len(known) else unknown for i in ids)
    return b"".join(pieces).decode(errors="replace")

  @functools.cached_property
  def token_bytes(self) -> Sequence[bytes]:
    """UTF-8 of what each id adds to a text; none for PAD, BOS, stop tokens."""
    pieces = [text.encode() for text in self._vocabulary.texts()]
    for byte in range(256):
      piece = f"<0x{byte:02X}>"
      i = self._vocabulary.find(piece)
      if i is not None and pieces[i] != piece.encode():
        pieces[i] = bytes([byte])
    for i in (PAD, BOS, *self.stop_tokens):
      pieces[i] = b""
    return pieces


class WordTokenizer:
  """A fixed list of words, separated by blanks; PAD, EOS and BOS as Gemma's.

  Attributes:
    vocab_size: how many ids there are, the three special ones included.
    stop_tokens: (EOS,).
    drops_first_blank: True: blanks are between words.
  """

  drops_first_blank = True

  def __init__(self, words: Iterable[str]):
    """Numbers the words from 3 on."""
    self._words = [*_SPECIAL, *words]
    self._ids = {word: i for i, word in enumerate(self._words)}
    self.vocab_size = len(self._words)
    self.stop_tokens: tuple[int, ...] = (EOS,)
    if len(self._ids) != self.vocab_size:
      raise ValueError("The words of a WordTokenizer must differ.")

  def encode(self, text: str) -> list[int]:
    """Encodes a prompt: BOS, then the ids of its words."""
    return [BOS, *self.encode_completion(text)]

  def encode_completion(self, text: str) -> list[int]:
    """Encodes words; ValueError names those that are unknown."""
    unknown = [word for word in text.split() if word not in self._ids]
    if unknown:
      raise ValueError(
        f"Words {unknown} of {text!r} are not in the vocabulary."
      )
    return [self._ids[word] for word in text.split()]

  def decode(self, ids: Sequence[int]) -> str:
    """Decodes words, without PAD and EOS."""
    return " ".join(self._words[i] for i in ids if i not in (PAD, EOS))

  @property
  def token_bytes(self) -> Sequence[bytes]:
    """UTF-8 of a blank and the word of each id; none for PAD and EOS."""
    return [
      b"" if i in (PAD, EOS) else f" {word}".encode()
      for i, word in enumerate(self._words)
    ]


def pad(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
  """Pads rows of ids at the right, to [len(rows), length] int32.

  Raises:
    ValueError: a row is longer than `length`.
  """
  longest = max(len(row) for row in rows)
  if longest > length:
    raise ValueError(f"A row of {longest} tokens does not fit into {length}.")
  out = np.full((len(rows), length), PAD, np.int32)
  for i, row in enumerate(rows):
    out[i, : len(row)] = row
  return out
