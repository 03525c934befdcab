"""Text to token ids and back, in Gemma's vocabularies or in a list of words.

PAD, EOS and BOS have Gemma's ids in all of them.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from pkpo_jax.lm import chat_template, tokenizer_config, vocabularies

# PAD equals models.PAD; importing that would import gemma.
PAD, EOS, BOS = 0, 1, 2

_SPECIAL = {"<pad>": PAD, "<eos>": EOS, "<bos>": BOS}
_START, _END = "<start_of_turn>", "<end_of_turn>"
_NAMES = ("gemma2", "gemma3", "huggingface")

_IMAGES = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
_WHOLE = 256_000  # ids of Gemma 2's vocabulary; Gemma 3 has more
_FAMILIES = {106: "gemma2", 105: "gemma3"}  # by the id of _START


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
  model: str | os.PathLike[str] | None = None,
) -> "GemmaTokenizer":
  """Loads a vocabulary of Gemma.

  Args:
    name: "gemma2" or "gemma3" for a SentencePiece model, "huggingface" for the
      `tokenizer.json` of either.
    path: the file; for "huggingface" also the folder that holds it. "gemma2"
      and "gemma3" need none: the gemma package then looks for the vocabulary in
      `$GEMMA_CACHE_DIR/tokenizer`, and else in the cloud.
    turns: whether a prompt becomes the user's turn of a chat, as tuned models
      expect; otherwise it stays plain text, as for base models. The frame of a
      turn is that of the chat template beside the vocabulary, or else Gemma's.
    model: the model's folder, if it has one: the tokens that it names end a
      completion, wherever the vocabulary lies.

  Returns:
    The tokenizer.

  Raises:
    OSError: the file cannot be read.
    ValueError: the name is unknown, the path is missing, the vocabulary is not
      Gemma's, or files beside it say what cannot be followed.
  """
  if name not in _NAMES:
    raise ValueError(f"Unknown tokenizer {name!r}; known: {', '.join(_NAMES)}.")
  file = None if path is None else os.path.expanduser(path)
  if name != "huggingface":
    vocabulary = vocabularies.load_sentencepiece(name, file)
  elif file is None:
    raise ValueError("The huggingface tokenizer needs path=, a tokenizer.json.")
  else:
    vocabulary = vocabularies.load_huggingface(file)
  beside = pathlib.Path(file) if file else None
  folder = pathlib.Path(model).expanduser() if model else None
  said = tokenizer_config.read(beside, turns=turns, model=folder)
  return GemmaTokenizer(vocabulary, said, turns=turns)


def _check(
  vocabulary: vocabularies.Vocabulary,
  said: tokenizer_config.Said,
  *,
  turns: bool,
) -> None:
  """Raises ValueError unless ids and texts are as in Gemma's vocabularies."""
  wrong = [
    f"{piece} is {vocabulary.find(piece)} instead of {i}"
    for piece, i in _SPECIAL.items()
    if vocabulary.find(piece) != i
  ]
  if turns and said.template is None:
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
  if not turns and not (vocabulary.begins and said.begins):
    raise ValueError(
      f"{vocabulary.source} does not begin texts with <bos> alone, as Gemma was"
      " trained: its post_processor, or add_bos_token, add_eos_token or"
      " bos_token in tokenizer_config.json; mend them, or set turns=True."
    )
  for i, text in said.added.items():
    if vocabulary.find(text) != i and text not in _IMAGES:
      raise ValueError(
        f"{vocabulary.source} has not the token {text!r} with id {i} that was"
        " added by files beside it: save the tokenizer anew with transformers,"
        " and read its tokenizer.json with name='huggingface'."
      )


def _stop_tokens(
  vocabulary: vocabularies.Vocabulary, said: tokenizer_config.Said
) -> tuple[int, ...]:
  """EOS, <end_of_turn> where it exists, and what the folder names."""
  end = vocabulary.find(_END)
  stops = [EOS] if end is None else [EOS, end]
  for stop, who in said.stops.items():
    i = vocabulary.find(stop) if isinstance(stop, str) else stop
    if i is None or i == PAD or not 0 <= i < vocabulary.total:
      raise ValueError(
        f"{vocabulary.source} has no token to stop at that is {stop!r}, as"
        f" {who} says; mend that file."
      )
    if i not in stops:
      stops.append(i)
  return tuple(stops)


def _find_frame(
  vocabulary: vocabularies.Vocabulary, said: tokenizer_config.Said
) -> chat_template.Frame:
  """The frame of a user's turn: the folder's own, or else Gemma's."""
  if said.template is None:
    return chat_template.GEMMA
  try:
    return chat_template.find_frame(said.template, said.special)
  except ValueError as error:
    raise ValueError(f"{vocabulary.source}: {error}") from error


def _control_pieces(
  vocabulary: vocabularies.Vocabulary,
  said: tokenizer_config.Said,
  frame: chat_template.Frame | None,
) -> dict[str, int]:
  """Pieces that are control tokens in a frame, and text in a text; their ids.

  Those are special ones; turns and images, which not all files mark so; and
  added ones that the frame consists of.
  """
  framed = frame.before + frame.after if frame else ""
  pieces = [*_SPECIAL, _START, _END, *_IMAGES]
  pieces += [x for x in said.stops if isinstance(x, str)]
  for piece, special in vocabulary.added.items():
    mark = len(piece) > 2 and not piece.strip("▁ ").isspace()
    if special or (mark and piece in framed):
      pieces.append(piece)
  found = {piece: vocabulary.find(piece) for piece in pieces}
  return {piece: i for piece, i in found.items() if i is not None}


def _cut_within(pieces: Iterable[str]) -> re.Pattern[str]:
  """Where a text is cut so that none of these pieces is left in it.

  SentencePiece would make them control tokens, and so would a tokenizer.json
  that does not mark them as special.
  """
  first = [rf"(?<={re.escape(x[0])})(?={re.escape(x[1:])})" for x in pieces]
  return re.compile("|".join(first) or "(?!)")


class _Ends(NamedTuple):
  """A frame in parts: ids of control tokens, and texts between them.

  `opening` and `closing` touch the text of the turn, and are read with it.
  """

  before: list[str | int]
  opening: str
  closing: str
  after: list[str | int]


def _split_at(control: Mapping[str, int], frame: chat_template.Frame) -> _Ends:
  """Splits a frame at its control tokens; the longest piece counts."""
  longest = sorted(control, key=len, reverse=True)
  pattern = re.compile(f"({'|'.join(map(re.escape, longest))})")

  def split(text: str) -> list[str | int]:
    return [control.get(x, x) for x in pattern.split(text)]

  *before, opening = split(frame.before)
  closing, *after = split(frame.after)
  return _Ends(before, str(opening), str(closing), after)


class GemmaTokenizer:
  """A vocabulary of Gemma, with or without the turns of a chat.

  Text is only ever text: `<end_of_turn>` or `<eos>` in a problem or in an
  answer does not become the control token. `decode` is the exact inverse of
  `encode_completion`, but for U+2581, which stands for the blank in the
  vocabulary and comes back as one.

  Attributes:
    vocab_size: how many ids the encoding of a text can have.
    stop_tokens: EOS, <end_of_turn> where the vocabulary has it, and what the
      files beside the vocabulary, and the model's, name.
    frame: what is put around a user's turn; None without turns.
    family: "gemma2" or "gemma3", whose whole vocabulary it is; else None.
    drops_first_blank: False.
    vocabulary, said: what it was made from.
  """

  drops_first_blank = False

  def __init__(
    self,
    vocabulary: vocabularies.Vocabulary,
    said: tokenizer_config.Said,
    *,
    turns: bool,
  ):
    """See `get_tokenizer`."""
    _check(vocabulary, said, turns=turns)
    self.vocabulary, self.said = vocabulary, said
    whole = vocabulary.size >= _WHOLE
    start = vocabulary.find(_START)
    self.family = _FAMILIES.get(start or 0) if whole else None
    self.stop_tokens = _stop_tokens(vocabulary, said)
    self.frame = _find_frame(vocabulary, said) if turns else None
    control = _control_pieces(vocabulary, said, self.frame)
    self._cut = _cut_within(
      x for x in control if x not in _SPECIAL and not vocabulary.added.get(x)
    )
    self._before, self._opening = [BOS], ""
    self._after, self._closing = list[int](), ""
    if self.frame:
      ends = _split_at(control, self.frame)
      self._opening, self._closing = ends.opening, ends.closing
      self._before = self._read(ends.before)
      self._after = self._read(ends.after)
    fixed = (*self._before, *self._after, *self.stop_tokens)
    self.vocab_size = max(vocabulary.size, 1 + max(fixed))

  def _read(self, parts: Sequence[str | int]) -> list[int]:
    """Encodes parts of a frame, whose control tokens are ids."""
    encode = self.vocabulary.encode
    return [
      i for x in parts for i in (encode(x) if isinstance(x, str) else [x])
    ]

  def encode(self, text: str) -> list[int]:
    """Encodes a prompt, up to where the model begins its answer.

    As in Gemma's chat template, a user's turn has no blanks or line ends at
    its start and end.
    """
    if self.frame and self.frame.strips:
      text = text.strip()
    ids = self.encode_completion(self._opening + text + self._closing)
    return [*self._before, *ids, *self._after]

  def encode_completion(self, text: str) -> list[int]:
    """Encodes a completion, without BOS and stop tokens.

    Raises:
      ValueError: the text has half a surrogate pair, which UTF-8 cannot say.
    """
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise ValueError(f"{text!r} cannot be encoded: {error}.") from error
    return [
      i for part in self._cut.split(text) for i in self.vocabulary.encode(part)
    ]

  def decode(self, ids: Sequence[int]) -> str:
    """Decodes a completion, without PAD, BOS and stop tokens.

    Special tokens that were added to the vocabulary keep their text. Bytes that
    are not UTF-8 become U+FFFD, and so do ids without a token, which occur
    where a model has more embeddings, to a round number.
    """
    known, unknown = self.token_bytes, vocabularies.UNKNOWN.encode()
    pieces = (known[i] if i < len(known) else unknown for i in ids)
    return b"".join(pieces).decode(errors="replace")

  @functools.cached_property
  def token_bytes(self) -> Sequence[bytes]:
    """UTF-8 of what each id adds to a text; none for PAD, BOS, stop tokens."""
    pieces = [text.encode() for text in self.vocabulary.texts()]
    for byte in range(256):
      piece = f"<0x{byte:02X}>"
      i = self.vocabulary.find(piece)
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
