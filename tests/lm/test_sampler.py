"""pkpo_jax.lm.sampler against gemma alone, the trainer and exact odds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import plain

from pkpo_jax.lm import logprobs, models, sampler

B, n, P, T = 4, 3, 6, 9
TEMPERATURE = 0.7
STOPS = (1, 5)
KEY = jax.random.key(11)

# Odd tokens inside the prompts, junk in their padding.
LENGTHS = np.array([3, 1, 6, 6], np.int32)
PROMPTS = np.array(
  [
    [2, 0, 1, 7, 7, 7],
    [2, 0, 0, 0, 0, 0],
    [0, 1, 2, 0, 0, 4],
    [2, 3, 11, 5, 1, 2],
  ],
  np.int32,
)


def draw(prompts=PROMPTS, lengths=LENGTHS, key=KEY, **options):
  options = {
    "n": n,
    "max_new_tokens": T,
    "temperature": TEMPERATURE,
    "stop_tokens": STOPS,
  } | options
  return jax.device_get(
    sampler.sample(*plain.tiny(), prompts, lengths, key, **options)
  )


@pytest.fixture(scope="module")
def drawn():
  """Completions of B prompts, longer than the sliding window."""
  completions = draw()
  ended = ~completions.mask[..., -1]
  assert ended.any() and not ended.all(), "both kinds are needed"
  return completions


def ended_at_stop(tokens, stop_tokens):
  """Which tokens belong to each completion, by a loop."""
  mask = np.zeros(tokens.shape, bool)
  for b, i in np.ndindex(tokens.shape[:2]):
    for t, token in enumerate(tokens[b, i]):
      mask[b, i, t] = True
      if token in stop_tokens:
        break
  return mask


@pytest.mark.slow
def test_shapes_and_types(drawn):
  for name, dtype in (
    ("tokens", np.int32),
    ("log_probs", np.float32),
    ("entropy", np.float32),
    ("mask", bool),
  ):
    assert getattr(drawn, name).shape == (B, n, T), name
    assert getattr(drawn, name).dtype == dtype, name


def test_a_completion_ends_with_its_first_stop_token(drawn):
  np.testing.assert_array_equal(drawn.mask, ended_at_stop(drawn.tokens, STOPS))
  assert np.all(drawn.tokens[~drawn.mask] == models.PAD)
  assert np.all(drawn.tokens[drawn.mask] != models.PAD)
  assert np.all(drawn.log_probs[~drawn.mask] == 0)
  assert np.all(drawn.entropy[~drawn.mask] == 0)
  last = drawn.tokens[drawn.mask & ~np.roll(drawn.mask, -1, axis=-1)]
  assert set(STOPS) <= set(last.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [TEMPERATURE, 1.0, 2.0])
def test_the_trainer_agrees_with_the_sampler(temperature):
  completions = draw(temperature=temperature)
  log_probs, entropies = jax.jit(
    logprobs.completion_log_probs, static_argnums=0
  )(
    *plain.tiny(),
    PROMPTS,
    LENGTHS,
    completions.tokens,
    completions.mask,
    temperature=temperature,
  )
  np.testing.assert_allclose(log_probs, completions.log_probs, atol=1e-5)
  np.testing.assert_allclose(entropies, completions.entropy, atol=1e-5)


def assert_as_plain_forwards(completions):
  log_probs, entropies = plain.log_probs_and_entropy(
    *plain.tiny(),
    PROMPTS,
    LENGTHS,
    np.where(completions.mask, completions.tokens, 1),
    TEMPERATURE,
  )
  expected = np.where(completions.mask, log_probs, 0)
  np.testing.assert_allclose(completions.log_probs, expected, atol=1e-5)
  expected = np.where(completions.mask, entropies, 0)
  np.testing.assert_allclose(completions.entropy, expected, atol=1e-5)


@pytest.mark.slow
def test_decoding_with_a_cache_equals_plain_forwards(drawn):
  assert_as_plain_forwards(drawn)


@pytest.mark.slow
def test_a_cache_that_grows_keeps_what_it_holds():
  assert len(sampler.stages(70)) == 2
  completions = draw(max_new_tokens=70, stop_tokens=(1,))
  assert completions.mask[..., -1].any() and not completions.mask[..., 40].all()
  assert_as_plain_forwards(completions)


@pytest.mark.parametrize("T", [1, 2, 9, 63, 64, 65, 1024])
def test_stages_read_every_token_but_the_last(T):
  loops = sampler.stages(T)
  read = [t for start, end in loops for t in range(start, end)]
  assert read == list(range(T - 1))


N = 20_000


@pytest.fixture(scope="module")
def pairs():
  """N completions of one prompt, two tokens each."""
  return draw(PROMPTS[3:], LENGTHS[3:], n=N, max_new_tokens=2, stop_tokens=())


def exact_odds_of_pairs(prompt):
  """[V - 1, V - 1]: P(first, second token) by plain forwards."""

  def policy(sequences):
    logits, _ = plain.forward(*plain.tiny(), np.array(sequences))
    odds = np.exp(np.float64(logits[:, -1, 1:]) / TEMPERATURE)
    return odds / odds.sum(axis=-1, keepdims=True)

  second = policy([[*prompt, token] for token in range(1, plain.VOCABULARY)])
  return policy([prompt]).T * second


def test_frequencies_are_those_of_the_model(pairs):
  """Chi-square over all pairs of tokens; by chance it fails 1 time in 1000."""
  odds = exact_odds_of_pairs(PROMPTS[3])
  assert odds.sum() == pytest.approx(1)
  counts = np.zeros_like(odds)
  np.add.at(counts, tuple(pairs.tokens[0].T - 1), 1)
  often = N * odds >= 5
  observed = [*counts[often], counts[~often].sum()]
  expected = [*N * odds[often], N * odds[~often].sum()]
  assert often.sum() > 60
  assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_without_stop_tokens_all_are_of_full_length(pairs):
  assert pairs.mask.all()
  assert np.all(pairs.tokens != models.PAD)


@pytest.mark.slow
def test_pad_is_never_sampled_even_if_it_is_the_most_likely():
  model, params = plain.tiny()
  prompts, lengths = np.repeat(PROMPTS[3:], B, axis=0), np.repeat(LENGTHS[3], B)
  _, hidden = plain.forward(model, params, prompts)
  table = params["embedder"]["input_embedding"]
  table = table.at[models.PAD].set(hidden[0, -1])
  params = params | {"embedder": {"input_embedding": table}}
  logits, _ = plain.forward(model, params, prompts)
  assert jax.nn.softmax(logits[0, -1])[models.PAD] > 0.8
  completions = sampler.sample(
    model, params, prompts, lengths, KEY, n=n, max_new_tokens=T,
    stop_tokens=STOPS,
  )  # fmt: skip
  tokens = np.asarray(completions.tokens)
  np.testing.assert_array_equal(completions.mask, ended_at_stop(tokens, STOPS))
  assert np.all(tokens[np.asarray(completions.mask)] != models.PAD)


@pytest.mark.slow
def test_a_policy_that_is_not_finite_shows_it_and_samples_no_pad():
  model, params = plain.tiny()
  table = params["embedder"]["input_embedding"].at[7, 3].set(jnp.nan)
  broken = params | {"embedder": {"input_embedding": table}}
  completions = jax.device_get(
    sampler.sample(
      model,
      broken,
      PROMPTS,
      LENGTHS,
      KEY,
      n=n,
      max_new_tokens=T,
      stop_tokens=(),
    )
  )
  assert completions.mask.all()
  assert np.all(completions.tokens != models.PAD)
  assert np.isnan(completions.log_probs).any()


@pytest.mark.slow
def test_the_loop_ends_with_the_longest_completion(monkeypatch):
  """Counts the tokens that are really decoded, up to 49 after the first."""
  calls = []

  def counted(*args, **kwargs):
    jax.debug.callback(lambda: calls.append(1))
    return decode(*args, **kwargs)

  decode = models.decode
  monkeypatch.setattr(models, "decode", counted)
  seen = set()
  for seed in range(10):
    calls.clear()
    # T is of this test alone, so that it is traced with the counter.
    completions = draw(
      key=jax.random.key(seed),
      stop_tokens=range(1, 10),
      n=1,
      max_new_tokens=50,
    )
    jax.effects_barrier()
    longest = completions.mask.sum(axis=-1).max()
    assert len(calls) == longest - 1
    seen.add(int(longest))
  assert 1 in seen
  assert max(seen) > 2


@pytest.mark.slow
def test_rows_that_have_ended_leave_and_change_nothing(monkeypatch):
  """Counts the rows of each token that is decoded, of 24 and fewer."""
  assert sampler.row_sizes(24, 71) == [12, 3]
  assert sampler.row_sizes(12, 71) == sampler.row_sizes(24, 40) == []
  rows = []

  def counted(model, params, prefix, tokens, *args):
    jax.debug.callback(lambda: rows.append(len(tokens)))
    return decode(model, params, prefix, tokens, *args)

  decode = models.decode
  monkeypatch.setattr(models, "decode", counted)
  ours = draw(n=6, max_new_tokens=71)
  jax.effects_barrier()
  for number, left in zip(rows, ours.mask.sum(axis=(0, 1))[1:]):
    assert number == (3 if left <= 3 else 12 if left <= 12 else 24)
  assert set(rows) == {24, 12, 3}
  assert len(rows) == ours.mask.sum(axis=-1).max() - 1

  without = draw(n=3, max_new_tokens=71)
  ours = jax.tree.map(lambda x: x[:, :3], ours)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), without, ours
  )


def row_keys():
  return jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(B))


def test_one_key_is_folded_by_the_row(drawn):
  jax.tree.map(np.testing.assert_array_equal, draw(key=row_keys()), drawn)


@pytest.mark.slow
def test_a_completion_does_not_depend_on_its_batch(drawn):
  """Other rows, order, padding, n and T: the same tokens of the same key."""
  rows = np.array([3, 0])
  padded = np.full((2, 8), 10, np.int32)
  padded[:, :P] = PROMPTS[rows]
  some = draw(
    padded, LENGTHS[rows], row_keys()[rows], n=2, max_new_tokens=T - 2
  )
  expected = jax.tree.map(lambda x: x[rows, :2, : T - 2], drawn)
  np.testing.assert_array_equal(some.tokens, expected.tokens)
  np.testing.assert_array_equal(some.mask, expected.mask)
  np.testing.assert_allclose(some.log_probs, expected.log_probs, atol=1e-5)
  np.testing.assert_allclose(some.entropy, expected.entropy, atol=1e-5)


def test_another_order_of_the_batch_gives_the_same_completions(drawn):
  order = np.array([2, 0, 3, 1])
  moved = draw(PROMPTS[order], LENGTHS[order], row_keys()[order])
  np.testing.assert_array_equal(moved.tokens, drawn.tokens[order])


def test_samples_and_repeated_prompts_differ(drawn):
  same = np.repeat(PROMPTS[3:], B, axis=0)
  completions = draw(same, np.repeat(LENGTHS[3:], B))
  rows = completions.tokens.reshape(B * n, T)
  assert len(np.unique(rows, axis=0)) == B * n
  again = draw(same, np.repeat(LENGTHS[3:], B), jax.random.key(12))
  assert np.all(np.any(again.tokens != completions.tokens, axis=-1))


def test_the_tokens_of_a_completion_are_drawn_independently():
  """Were one key used at every step, a token would tell much of the next.

  With equal logits at every step all tokens of a completion would be equal.
  """
  model, params = plain.tiny()
  flat = jax.tree.map(jnp.zeros_like, params)
  completions = sampler.sample(
    model, flat, PROMPTS, LENGTHS, KEY, n=n, max_new_tokens=T, stop_tokens=STOPS
  )
  tokens = np.asarray(completions.tokens)
  pairs = np.asarray(completions.mask)[..., 1:]
  same = (tokens[..., 1:] == tokens[..., :-1])[pairs]
  # 1 in 11 by chance.
  assert same.mean() < 0.4
  np.testing.assert_allclose(
    completions.entropy[completions.mask], np.log(11), rtol=1e-5
  )


def test_sampling_can_be_part_of_a_larger_program():
  """With traced lengths, keys and temperature, which cannot be checked."""

  def program(lengths, key, temperature):
    return sampler.sample(
      *plain.tiny(),
      PROMPTS,
      lengths,
      key,
      n=n,
      max_new_tokens=T,
      temperature=temperature,
      stop_tokens=STOPS,
    )

  shapes = jax.eval_shape(program, LENGTHS, KEY, TEMPERATURE)
  assert {x.shape for x in shapes} == {(B, n, T)}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"temperature": 0.0}, "greedy, so that n=3 must be 1"),
    ({"temperature": -1.0}, "temperature"),
    ({"temperature": 1e-39}, "or at least 1.2e-38, but is 1e-39"),
    ({"temperature": float("nan")}, "temperature"),
    ({"lengths": np.array([3, 0, 6, 6])}, "1..6"),
    ({"lengths": np.array([3, 1, 7, 6])}, "1..6"),
    ({"prompts": np.full_like(PROMPTS, 500)}, "prompts must be ids in 0.."),
    ({"prompts": np.full_like(PROMPTS, -1)}, "prompts must be ids in 0.."),
    ({"lengths": LENGTHS[:3]}, r"\[B\]"),
    ({"lengths": LENGTHS[:, None]}, r"\[B\]"),
    ({"prompts": PROMPTS[0]}, r"\[B, P\]"),
    ({"n": 0}, "n=0"),
    ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ({"stop_tokens": (1, models.PAD)}, "PAD"),
  ],
)
def test_what_is_out_of_range_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    draw(**options)
