"""Text <-> token ids."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from pkpo_jax.lm import models


class Tokenizer(Protocol):
  """What the training loop needs of a tokenizer."""

  vocab_size: int
  stop_tokens: tuple[int, ...]

  def encode(self, text: str) -> list[int]:
    """The ids of a prompt, BOS included."""

  def decode(self, ids: Sequence[int]) -> str:
    """The text of a completion, without PAD and stop tokens."""


class WordTokenizer:
  """A fixed list of words separated by blanks; PAD 0, EOS 1, BOS 2 as Gemma's.

  Attributes:
    vocab_size: how many ids there are, the three special ones included.
    stop_tokens: (EOS,).
  """

  EOS, BOS = 1, 2

  def __init__(self, words: Iterable[str]):
    """Numbers the words from 3 on."""
    self._words = ["<pad>", "<eos>", "<bos>", *words]
    self._ids = {word: i for i, word in enumerate(self._words)}
    self.vocab_size = len(self._words)
    self.stop_tokens: tuple[int, ...] = (self.EOS,)
    if len(self._ids) != self.vocab_size:
      raise ValueError("The words of a WordTokenizer must differ.")

  def encode(self, text: str, *, bos: bool = True) -> list[int]:
    """The ids of the words; ValueError names a word that is not known."""
    unknown = [word for word in text.split() if word not in self._ids]
    if unknown:
      raise ValueError(
        f"Words {unknown} of {text!r} are not in the vocabulary."
      )
    ids = [self._ids[word] for word in text.split()]
    return [self.BOS, *ids] if bos else ids

  def decode(self, ids: Sequence[int]) -> str:
    """The words, without PAD and EOS."""
    return " ".join(
      self._words[i] for i in ids if i not in (models.PAD, self.EOS)
    )


def pad(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
  """Pads at the right: [len(rows), length] int32.

  Raises:
    ValueError: a row is longer than `length`.
  """
  longest = max(len(row) for row in rows)
  if longest > length:
    raise ValueError(f"A row of {longest} tokens does not fit into {length}.")
  out = np.full((len(rows), length), models.PAD, np.int32)
  for i, row in enumerate(rows):
    out[i, : len(row)] = row
  return out
