"""Finds stop strings in the text of tokens while they are sampled.

A stop string may be cut anywhere by tokens, and one token may hold its end and
more. On the host, an automaton over bytes (that of Aho and Corasick) is run on
the bytes of every token of the vocabulary, from each of its states. What is
left for the decode loop is one look-up a token: state = table[state, token].
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from pkpo_jax.lm import tokenizers, vocabularies


def stop_table(
  tokenizer: tokenizers.Tokenizer, strings: Sequence[str], size: int
) -> np.ndarray:
  """Makes the table by which `sampler.sample` finds stop strings.

  Its states are how much of a stop string a text ends with. A text begins in
  state 0; in the last state, which it never leaves, it holds a stop string.

  Args:
    tokenizer: says what each token adds to a text.
    strings: the stop strings, at least one.
    size: V, the embeddings of the model; ids that the tokenizer does not know
      are U+FFFD.

  Returns:
    [S, V] int8 or int16: the state after a token. S is about the length of all
    strings together, in bytes.

  Raises:
    ValueError: a string is empty, or holds what no text of tokens does.
  """
  for string in strings:
    _check(string)
  blank = tokenizer.drops_first_blank
  by_byte = _byte_table([string.encode() for string in strings], blank)
  states = np.arange(len(by_byte), dtype=by_byte.dtype)[:, None]
  pieces = list(tokenizer.token_bytes[:size])
  pieces += [vocabularies.UNKNOWN.encode()] * (size - len(pieces))
  lengths = np.array([len(piece) for piece in pieces])
  table = np.empty((len(by_byte), size), by_byte.dtype)
  for length in np.unique(lengths):
    ids = np.flatnonzero(lengths == length)
    joined = b"".join(pieces[i] for i in ids)
    after = np.repeat(states, len(ids), axis=1)
    for column in np.frombuffer(joined, np.uint8).reshape(len(ids), length).T:
      after = by_byte[after, column]
    table[:, ids] = after
  return table


def _check(string: str) -> None:
  """Raises ValueError for a string that is no stop string."""
  if not string:
    raise ValueError("A stop string must not be empty.")
  halves = any("\ud800" <= x <= "\udfff" for x in string)
  if halves or vocabularies.UNKNOWN in string:
    raise ValueError(
      f"The stop string {string!r} has a character that stands for broken"
      " bytes, or half a character; leave it out."
    )


def _byte_table(
  strings: Sequence[bytes], drops_first_blank: bool
) -> np.ndarray:
  """Makes the automaton: [S, 256], the state after a byte.

  A state is the longest beginning of a string that a text ends with. The last
  one is for texts that hold a string; and there is one more, the first, for the
  empty text if it drops a blank.
  """
  beginnings = {s[:i] for s in strings for i in range(len(s))}
  root = int(drops_first_blank)
  number = {x: i for i, x in enumerate(sorted(beginnings, key=len), root)}
  found = root + len(number)
  small = found <= np.iinfo(np.int8).max
  table = np.full((found + 1, 256), root, np.int8 if small else np.int16)
  for beginning, state in number.items():
    for byte in set(b"".join(strings)):
      text = beginning + bytes([byte])
      ends = (text[i:] for i in range(len(text) + 1))
      table[state, byte] = (
        found
        if text.endswith(tuple(strings))
        else next(number[end] for end in ends if end in number)
      )
  table[found] = found
  if drops_first_blank:
    table[0] = table[root]
    table[0, ord(" ")] = root
  return table


class Ends(NamedTuple):
  """Which rows have ended.

  Attributes:
    done: [R] bool.
    state: [R] int32, how much of a stop string a row ends with, see
      `stop_table`; None without any.
  """

  done: chex.Array
  state: chex.Array | None


def no_ends(R: int, stop_table: chex.Array | None) -> Ends:
  """R rows without tokens."""
  state = None if stop_table is None else jnp.zeros(R, jnp.int32)
  return Ends(jnp.zeros(R, bool), state)


def read_ends(
  ends: Ends,
  tokens: chex.Array,
  stop_tokens: tuple[int, ...],
  stop_table: chex.Array | None,
) -> Ends:
  """Reads the next token [R] of every row: does it end there?"""
  done = ends.done | jnp.isin(tokens, jnp.asarray(stop_tokens, jnp.int32))
  if stop_table is None:
    return Ends(done, None)
  state = jnp.asarray(stop_table)[ends.state, tokens].astype(jnp.int32)
  return Ends(done | (state == len(stop_table) - 1), state)
