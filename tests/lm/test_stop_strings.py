"""pkpo_jax.lm.stop_strings against the text of tokens, looked through."""

import dataclasses
import itertools

import hypothesis
import jax
import numpy as np
import pytest
from helpers import plain, vocabulary
from hypothesis import strategies as st

from pkpo_jax.lm import sampler, stop_strings, tokenizers, vocabularies

WORDS = ("a", "b", "ab", "a:", ":", "\n", "é", "Q:")


@dataclasses.dataclass
class Pieces:
  """A tokenizer of which nothing is needed but its pieces."""

  token_bytes: list[bytes]
  drops_first_blank: bool = False


def ends(table, tokens):
  """Whether a stop string is found, after each of the tokens."""
  states = itertools.accumulate(
    tokens, lambda state, token: table[state, token], initial=0
  )
  return [state == len(table) - 1 for state in states][1:]


def found_in_text(tokenizer, strings, tokens):
  """The same by decoding the tokens up to each, again and again."""
  texts = [tokenizer.decode(tokens[: t + 1]) for t in range(len(tokens))]
  return [any(string in text for string in strings) for text in texts]


# Every way to split


def test_a_stop_string_is_found_however_a_vocabulary_splits_it():
  """All 1024 splits of a text, into any pieces."""
  text, stop = "ab\nQ:\nQ: é", "\nQ: "
  encoded, end = text.encode(), len("ab\nQ:\nQ: ")
  cuts = range(len(encoded) + 1)
  pieces = sorted({encoded[i:j] for i in cuts for j in cuts if i < j})
  number = {piece: i for i, piece in enumerate(pieces)}
  table = stop_strings.stop_table(Pieces(pieces), [stop], len(pieces))
  splits = 0
  for count in range(len(encoded)):
    for inner in itertools.combinations(cuts[1:-1], count):
      edges = [0, *inner, len(encoded)]
      tokens = [number[encoded[i:j]] for i, j in itertools.pairwise(edges)]
      assert ends(table, tokens) == [edge >= end for edge in edges[1:]]
      splits += 1
  assert splits == 2 ** (len(encoded) - 1)


@pytest.mark.slow
@hypothesis.given(
  st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=3),
  st.lists(st.text("ab", max_size=4), min_size=1, max_size=5),
  st.data(),
)
def test_strings_may_overlap_and_hold_each_other(strings, pieces, data):
  tokens = st.lists(st.sampled_from(range(len(pieces))), max_size=8)
  tokens = data.draw(tokens)
  encoded = Pieces([piece.encode() for piece in pieces])
  table = stop_strings.stop_table(encoded, strings, len(pieces))
  texts = ["".join(pieces[i] for i in tokens[: t + 1]) for t in range(8)]
  expected = [any(s in text for s in strings) for text in texts]
  assert ends(table, tokens) == expected[: len(tokens)]


def test_long_strings_need_more_than_128_states():
  pieces = Pieces([b"a", b"b"])
  long = stop_strings.stop_table(pieces, ["a" * 300 + "b"], 2)
  assert long.shape == (302, 2) and long.dtype == np.int16
  tokens = [0] * 310 + [1, 0]
  assert ends(long, tokens) == [False] * 310 + [True, True]
  edge = stop_strings.stop_table(pieces, ["a" * 126 + "b"], 2)
  assert edge.shape == (128, 2) and edge.dtype == np.int8
  assert ends(edge, tokens) == [False] * 310 + [True, True]


# Tokenizers


@pytest.fixture(
  scope="module",
  params=["words", "bytes", "user_defined_symbols", "control_symbols"],
)
def tokenizer(request, tmp_path_factory):
  """Words, and tiny vocabularies of Gemma in every kind of file."""
  if request.param == "words":
    return tokenizers.WordTokenizer(WORDS)
  folder = tmp_path_factory.mktemp(request.param)
  if request.param == "bytes":
    path = vocabulary.make_huggingface(folder, beyond=["<think>"])
    return tokenizers.get_tokenizer("huggingface", path=path)
  path = vocabulary.train_sentencepiece(folder, turns=request.param)
  return tokenizers.get_tokenizer("gemma2", path=path)


def pieces_of(tokenizer):
  """Tokens that a random text often has: bytes of characters and short ones."""
  some = [i for i, piece in enumerate(tokenizer.token_bytes) if piece]
  text = " Q:\n\n é\U00012345a1\r\n"
  if isinstance(tokenizer, tokenizers.GemmaTokenizer):
    return tokenizer.encode_completion(text), some
  return some, some


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(st.data())
def test_the_verdict_is_that_of_the_text(tokenizer, data):
  """For any tokens and any strings, most of them out of the text itself.

  Broken characters, control tokens and PAD are among the tokens.
  """
  often, some = pieces_of(tokenizer)
  every = st.integers(0, len(tokenizer.token_bytes) - 1)
  token = st.one_of(st.sampled_from(often), st.sampled_from(some), every)
  tokens = data.draw(st.lists(token, min_size=1, max_size=12))
  text = tokenizer.decode(tokens)
  start = data.draw(st.integers(0, len(text)))
  strings = [text[start : start + data.draw(st.integers(1, 5))]]
  strings += data.draw(st.lists(st.text("a Q:\n", min_size=1), max_size=2))
  strings = [s for s in strings if s and vocabularies.UNKNOWN not in s] or [
    "\n"
  ]
  size = len(tokenizer.token_bytes)
  table = stop_strings.stop_table(tokenizer, strings, size)
  assert ends(table, tokens) == found_in_text(tokenizer, strings, tokens)


def test_the_first_blank_is_not_in_the_text():
  words = tokenizers.WordTokenizer(["a", "b"])
  table = stop_strings.stop_table(words, [" a"], 5)
  a, b = words.encode_completion("a b")
  assert ends(table, [a, b, a]) == [False, False, True]
  assert ends(table, [0, a, b]) == [False, False, False]
  assert words.decode([a, b, a]) == "a b a"


def test_rows_of_the_embedding_beyond_the_vocabulary_are_unknown(tmp_path):
  path = vocabulary.make_huggingface(tmp_path)
  one = tokenizers.get_tokenizer("huggingface", path=path)
  size = one.vocab_size
  table = stop_strings.stop_table(one, ["aa", "é"], size + 9)
  assert table.shape[1] == size + 9
  (a,) = one.encode_completion("a")
  first, second = one.encode_completion("é")
  for tokens in ([a, size + 8, a], [first, size, second]):
    assert not any(ends(table, tokens))
    assert not any(found_in_text(one, ["aa", "é"], tokens))


@pytest.mark.vocabulary
def test_the_real_vocabulary_agrees_with_its_texts():
  """Random tokens among those that hold a part of a string; 256,000 ids."""
  one = tokenizers.get_tokenizer("huggingface", path=vocabulary.gemma2_path())
  strings = ["\n\nQ:", "\nQuestion:", "```\n", "Ünï"]
  table = stop_strings.stop_table(one, strings, one.vocab_size)
  letters = [b"\n", b"Q", b":", b"uestion", b"```", "Ün".encode(), b"ion:"]
  often = [
    i
    for i, piece in enumerate(one.token_bytes)
    if len(piece) < 12 and any(x in piece for x in letters)
  ]
  often += 1000 * [i for s in strings for i in one.encode_completion(s)]
  rng = np.random.default_rng(0)
  found = 0
  for _ in range(300):
    tokens = rng.choice(often, 12).tolist()
    verdict = ends(table, tokens)
    assert verdict == found_in_text(one, strings, tokens)
    found += verdict[-1]
  assert 50 < found < 250


@pytest.mark.parametrize("string", ["", "a\ufffd", "\ud800", "x\udfff"])
def test_what_no_text_holds_is_refused(string):
  words = tokenizers.WordTokenizer(["a"])
  with pytest.raises(ValueError, match="stop string"):
    stop_strings.stop_table(words, ["a", string], 4)


# In the sampler

VOCABULARY = tokenizers.WordTokenizer(
  ["a", "b", "ab", "a:", ":", "c", "d", "e", "f"]
)
STRINGS = ["c d", "f a"]
B, n, T = 3, 4, 70


def table_of_words():
  return stop_strings.stop_table(VOCABULARY, STRINGS, plain.VOCABULARY)


def draw(table):
  return jax.device_get(
    sampler.sample(
      *plain.tiny(),
      plain.PROMPTS,
      plain.LENGTHS,
      jax.random.key(4),
      n=n,
      max_new_tokens=T,
      stop_tokens=(),
      stop_table=table,
    )
  )


@pytest.mark.slow
def test_a_completion_ends_with_the_token_that_completes_a_stop_string():
  """What comes before is the same; in both of the decode loops."""
  whole, cut = draw(None), draw(table_of_words())
  mask = whole.mask.copy()
  for row, tokens in zip(mask.reshape(-1, T), whole.tokens.reshape(-1, T)):
    found = found_in_text(VOCABULARY, STRINGS, tokens)
    row[1:] &= ~np.array(found[:-1])
  lengths = mask.sum(axis=-1)
  assert whole.mask.all() and lengths.max() == T
  assert np.any((sampler.stages(T)[0][1] < lengths) & (lengths < T))
  assert lengths.min() < 20
  np.testing.assert_array_equal(cut.mask, mask)
  np.testing.assert_array_equal(cut.tokens, np.where(mask, whole.tokens, 0))
  for ours, theirs in zip(cut[1:3], whole[1:3]):
    np.testing.assert_allclose(ours, np.where(mask, theirs, 0), atol=1e-6)


@pytest.mark.slow
def test_without_stop_strings_there_is_no_table_in_the_program():
  def trace(table):
    keys = jax.random.split(jax.random.key(0), (B, n))
    inputs = plain.PROMPTS, plain.LENGTHS, keys, 1.0, table
    traced = sampler.program.trace(
      *plain.tiny(), *inputs, T=T, stop_tokens=(1,)
    )
    return str(traced.jaxpr)

  assert "i8[" not in trace(None)
  assert "i8[" in trace(table_of_words())


def test_a_table_of_another_vocabulary_is_refused():
  with pytest.raises(ValueError, match=r"V=12\], but is \(\d+, 11\)"):
    draw(table_of_words()[:, :11])
