"""pkpo_jax.lm.attention against one block of gemma's."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain

from pkpo_jax.lm import attention

B, n, P, T = 3, 2, 7, 5
R, D = B * n, 32
SHAPES = (2, 2, 3, 16), (2, 2, 5, 16)  # of queries and keys
LENGTHS = np.array([2, 5, 7])
VARIANTS = {
  "local": (0, {}),
  "global": (1, {}),
  "as many key-value heads": (0, {"num_kv_heads": 4}),
  "qk norm": (0, {"use_qk_norm": True, "num_kv_heads": 1}),
  "no cap, no norms after": (
    0,
    {
      "attn_logits_soft_cap": None,
      "use_post_attn_norm": False,
      "use_post_ffw_norm": False,
    },
  ),
}


@pytest.fixture(scope="module", params=VARIANTS)
def layer(request):
  """A block without parameters, and its parameters."""
  index, changes = VARIANTS[request.param]
  model = plain.tiny_model(**changes)
  params = plain.random_params(model)
  block = model.bind({"params": params}).blocks[index].clone(parent=None)
  return block, {"params": params[f"layer_{index}"]}


@pytest.fixture(scope="module")
def inputs():
  """[B, P, D] of prompts and [R, T, D] of completions."""
  rng = np.random.default_rng(0)
  return (
    rng.standard_normal((B, P, D), np.float32),
    rng.standard_normal((R, T, D), np.float32),
  )


def apply(layer, x, prefix=None, cache=None, start=0):
  block, params = layer
  run = jax.jit(
    lambda *args: block.apply(params, *args, method=attention.block)
  )
  return run(x, prefix, cache, start)


def gemmas(layer, x):
  """[R, L, D] of whole sequences [R, L, D] by gemma's own block."""
  block, params = layer
  L = x.shape[1]
  positions = jnp.broadcast_to(jnp.arange(L), x.shape[:2])
  mask = jnp.broadcast_to(jnp.tri(L, dtype=bool), (len(x), L, L))
  run = jax.jit(lambda x: block.apply(params, x, positions, None, mask)[1])
  return run(x)


def empty(kv, slots):
  """A cache of R completions, shaped like the prompts' keys and values."""
  return jax.tree.map(lambda x: jnp.zeros((R, x.shape[1], slots, 8)), kv)


@pytest.mark.slow
def test_a_prompt_is_as_in_gemmas_block(layer, inputs):
  out, kv = apply(layer, inputs[0])
  np.testing.assert_allclose(out, gemmas(layer, inputs[0]), atol=1e-5)
  assert kv.k.shape == kv.v.shape == (B, kv.k.shape[1], P, 8)


@pytest.mark.slow
def test_a_completion_goes_on_where_its_prompt_ends(layer, inputs):
  """As in one sequence without a gap, longer than the sliding window."""
  prompts, completions = inputs
  _, kv = apply(layer, prompts)
  out, _ = apply(layer, completions, attention.LayerPrefix(kv, LENGTHS))
  filler = np.zeros((P, D), np.float32)
  sequences = [
    np.concatenate([prompts[r // n, :length], completions[r], filler[length:]])
    for r, length in enumerate(np.repeat(LENGTHS, n))
  ]
  expected = gemmas(layer, np.stack(sequences))
  for r, length in enumerate(np.repeat(LENGTHS, n)):
    np.testing.assert_allclose(
      out[r], expected[r, length : length + T], atol=1e-5
    )


@pytest.mark.slow
def test_a_cache_is_filled_from_start_on(layer, inputs):
  prompts, completions = inputs
  _, kv = apply(layer, prompts)
  prefix = attention.LayerPrefix(kv, LENGTHS)
  whole, own = apply(layer, completions, prefix)
  first, cache = apply(layer, completions[:, :3], prefix, empty(kv, 8), 0)
  rest, cache = apply(layer, completions[:, 3:], prefix, cache, 3)
  np.testing.assert_allclose(
    np.concatenate([first, rest], axis=1), whole, atol=1e-5
  )
  for ours, theirs in zip(cache, own):
    np.testing.assert_allclose(ours[:, :, :T], theirs, atol=1e-5)
    assert np.all(ours[:, :, T:] == 0)


@pytest.fixture(scope="module")
def plain_layer():
  model, params = plain.tiny()
  block = model.bind({"params": params}).blocks[1].clone(parent=None)
  return block, {"params": params["layer_1"]}


def test_padding_and_empty_slots_are_never_seen(plain_layer, inputs):
  """Not by a bit, whatever they hold."""
  prompts, completions = inputs
  _, kv = apply(plain_layer, prompts)

  def run(fill):
    padding = np.arange(P)[:, None] >= LENGTHS[:, None, None, None]
    filled = jax.tree.map(lambda x: jnp.where(padding, fill, x), kv)
    cache = jax.tree.map(lambda x: x + fill, empty(kv, 8))
    prefix = attention.LayerPrefix(filled, LENGTHS)
    return apply(plain_layer, completions, prefix, cache, 0)[0]

  np.testing.assert_array_equal(run(0.0), run(1e3))


def all_shapes(jaxpr):
  """The shapes of everything that a program computes."""
  for equation in jaxpr.eqns:
    yield from (v.aval.shape for v in equation.outvars)
    for inner in jax.tree.leaves(list(equation.params.values())):
      if hasattr(inner, "jaxpr"):
        yield from all_shapes(inner.jaxpr)


def test_a_prompt_is_not_copied_for_its_completions(plain_layer):
  """n = 50 of each: nothing is as large as copies of keys or values."""
  block, params = plain_layer
  B, n, P, K, H = 2, 50, 1000, 2, 8
  kv = attention.KeysValues(*[jnp.zeros((B, K, P, H))] * 2)
  prefix = attention.LayerPrefix(kv, jnp.array([P, P]))
  program = jax.make_jaxpr(
    lambda x: block.apply(params, x, prefix, None, 0, method=attention.block)
  )(jnp.zeros((B * n, 1, D)))
  shapes = [s for s in all_shapes(program.jaxpr) if P in s and H in s]
  assert all(np.prod(shape) <= B * K * P * H for shape in shapes), shapes
  largest = max(np.prod(s) for s in all_shapes(program.jaxpr))
  assert largest == B * n * 4 * P, "the logits of 4 heads"


def test_rows_are_grouped_by_prompt_and_back():
  x = np.arange(R * 2 * 3).reshape(R, 2, 3)
  grouped = attention._by_prompt(x, B)
  assert grouped.shape == (B, 2, n, 3)
  np.testing.assert_array_equal(grouped[1, :, 0], x[2])
  np.testing.assert_array_equal(attention._by_row(grouped), x)


def test_logits_are_not_rounded_to_what_the_model_computes_in():
  """In bfloat16, logits near 50 would have steps of a quarter."""
  rng = np.random.default_rng(2)
  q, k = (jnp.asarray(rng.normal(0, 2.5, s), jnp.bfloat16) for s in SHAPES)
  attn = types.SimpleNamespace(attn_logits_soft_cap=None)
  logits = attention._logits(attn, q, k, np.full((1, 1, 1, 1), True))
  q, k = np.float64(q), np.float64(k)
  expected = np.einsum("xkqh,xksh->xkqs", q, k)
  assert np.abs(expected).max() > 30 and logits.dtype == np.float32
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_weighted_sum_of_large_logits_is_a_softmax():
  rng = np.random.default_rng(1)
  logits = 1e3 * rng.standard_normal((2, 3, 4, 6)).astype(np.float32)
  v = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
  highest = logits.max(axis=-1)
  out, total = attention._weighted_sum(logits, highest, v)
  exps = np.exp(np.float64(logits) - highest[..., None])
  np.testing.assert_allclose(total, exps.sum(axis=-1), rtol=1e-6)
  expected = np.einsum("xkqs,xksh->xkqh", exps, v)
  np.testing.assert_allclose(out, expected, atol=1e-5)
