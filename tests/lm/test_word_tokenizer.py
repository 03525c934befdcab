"""pkpo_jax.lm.tokenizers: a list of words, and padding."""

import numpy as np
import pytest

from pkpo_jax.lm import tokenizers

WORDS = ("1", "2", "10", "+", "<end>")


@pytest.fixture
def words():
  return tokenizers.WordTokenizer(WORDS)


def test_encode_numbers_the_words_from_three_on(words):
  assert words.vocab_size == 8
  assert words.stop_tokens == (1,)
  assert words.encode("1 2 10 + <end>") == [2, 3, 4, 5, 6, 7]
  assert words.encode_completion(" +  + \n1 ") == [6, 6, 3]
  assert words.encode("") == [2]
  assert words.encode_completion("") == []


def test_decode_is_the_inverse_without_pad_and_eos(words):
  assert words.decode([5, 3, 6, 1, 0, 0]) == "10 1 +"
  assert words.decode(np.array([7, 4], np.int32)) == "<end> 2"
  assert words.decode([]) == words.decode([1]) == ""
  text = "2 10 + 1 <end>"
  assert words.decode(words.encode_completion(text)) == text


def test_a_sampled_bos_is_seen_in_the_text(words):
  """It is no part of an answer, so a grader has to see it."""
  assert words.decode([3, 2, 3]) == "1 <bos> 1"


def test_unknown_words_are_named(words):
  with pytest.raises(ValueError, match=r"\['3', '12'\] of '1 3 12'"):
    words.encode("1 3 12")


@pytest.mark.parametrize("some", [("a", "b", "a"), ("a", "<eos>")])
def test_words_must_differ_also_from_the_special_ones(some):
  with pytest.raises(ValueError, match="must differ"):
    tokenizers.WordTokenizer(some)


def test_pad_fills_up_at_the_right():
  padded = tokenizers.pad([[5, 6, 7], [], [8]], 4)
  assert padded.dtype == np.int32
  expected = [[5, 6, 7, 0], [0, 0, 0, 0], [8, 0, 0, 0]]
  np.testing.assert_array_equal(padded, expected)


def test_a_row_that_does_not_fit_is_an_error():
  assert tokenizers.pad([[1, 2]], 2).shape == (1, 2)
  with pytest.raises(ValueError, match="3 tokens does not fit into 2"):
    tokenizers.pad([[1], [1, 2, 3]], 2)
