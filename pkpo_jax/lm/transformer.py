"""gemma's Transformer, held to the rows of the batch, and teacher forcing."""

import functools

import chex
import jax
import jax.numpy as jnp
from gemma import gm

from pkpo_jax.lm import sharding

Cache = dict[str, dict[str, chex.Array]]

# What a block keeps for its backward pass: everything, the results of its
# matrix products with parameters, or nothing but its input.
REMAT = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


class Transformer(gm.nn.Transformer):
  """gemma's, held to the rows of the batch, and with teacher forcing.

  Attributes:
    remat: "none", "dots" or "full": how much the backward pass of teacher
      forcing computes again. Other than "none" makes the blocks a loop, which
      compiles many times faster and gathers parameters block by block.
  """

  remat: str = "none"

  def __call__(self, tokens, *, completions=None, **kwargs):
    """As gemma's; or `read_completions`, if there are completions."""
    if completions is None:
      return super().__call__(tokens, **kwargs)
    return self._teacher_force(tokens, completions, **kwargs)

  def _apply_attention(self, inputs, cache):
    """As gemma's, block by block."""
    x, new_cache = sharding.on_rows(inputs.embeddings), {}
    for i, block in enumerate(self.blocks):
      old = cache and cache[f"layer_{i}"]
      new_cache[f"layer_{i}"], x = block(
        x, inputs.positions, old, inputs.attention_mask
      )
      x = sharding.on_rows(x)
    return self.final_norm(x), new_cache

  def _teacher_force(self, prompts, completions, *, prompt_lengths):
    """Block by block, each first on the prompts and then on the completions.

    So the keys and values of the prompts need not be kept beyond their block.
    """
    layer = _Layer(
      self.config, self.dtype, prompts, prompt_lengths, completions
    )
    x = tuple(
      sharding.on_rows(self.embedder.encode(tokens))
      for tokens in (prompts, completions)
    )
    blocks = [block.clone(parent=None) for block in self.blocks]
    params = [block.variables["params"] for block in self.blocks]
    if self.remat == "none":
      for block, own in zip(blocks, params):
        x = layer(block, own, x)
    else:
      x = _loop(layer, blocks, params, x, REMAT[self.remat])
    return tuple(map(self.final_norm, x))


class _Layer:
  """One block on prompts [B, P, D] and on their completions [B * n, L, D]."""

  def __init__(self, config, dtype, prompts, lengths, completions):
    (B, P), (R, L) = prompts.shape, completions.shape
    self._n, self._room = R // B, L
    rows = jnp.repeat(lengths, self._n)
    self._masks = prompt_mask(lengths, P), completion_mask(rows, P, L, P + L)
    self._positions = (
      jnp.broadcast_to(jnp.arange(P), (B, P)),
      rows[:, None] + jnp.arange(L),
    )
    # Of any layer: they are all alike.
    self._empty = config.init_cache(B, dtype, cache_length=P)["layer_0"]

  def __call__(self, block, params, x):
    """The block with its parameters -> both outputs."""
    apply = functools.partial(block.apply, {"params": params})
    first, second = x
    cache, first = apply(first, self._positions[0], self._empty, self._masks[0])
    if self._room:
      cache = held({"": jax.tree.map(self._extend, cache)})[""]
      _, second = apply(second, self._positions[1], cache, self._masks[1])
    return sharding.on_rows(first), sharding.on_rows(second)

  def _extend(self, x):
    """Cache of the prompts -> of the completions, with slots for them."""
    if x.ndim > 1:
      pad = [(0, 0)] * x.ndim
      pad[1] = (0, self._room)
      x = jnp.pad(x, pad)
    return jnp.repeat(x, self._n, axis=0)


def _loop(layer, blocks, params, x, policy):
  """The layers as a loop over the pattern of local and global attention."""

  def step(block, own, x):
    return jax.checkpoint(
      functools.partial(layer, block), policy=policy, prevent_cse=False
    )(own, x)

  kinds = [block.attn_type for block in blocks]
  period = next(
    p for p in range(1, len(kinds) + 1) if kinds[p:] == kinds[: len(kinds) - p]
  )
  looped = len(kinds) // period * period

  def pattern(x, group):
    for block, own in zip(blocks, group):
      x = step(block, own, x)
    return x, None

  groups = [
    jax.tree.map(lambda *x: jnp.stack(x), *params[i:looped:period])
    for i in range(period)
  ]
  x, _ = jax.lax.scan(pattern, x, groups)
  for block, own in zip(blocks[looped:], params[looped:]):
    x = step(block, own, x)
  return x


def prompt_mask(lengths: chex.Array, P: int) -> chex.Array:
  """[B, P, P]: what each token of the prompts attends to."""
  causal = jnp.tri(P, dtype=bool)
  return causal & (jnp.arange(P) < lengths[:, None, None])


def completion_mask(
  lengths: chex.Array, P: int, L: int, slots: int, start: chex.Numeric = 0
) -> chex.Array:
  """[R, L, slots]: of completion tokens start, start + 1, ... likewise."""
  slot, index = jnp.arange(slots), start + jnp.arange(L)
  in_prompt = slot < lengths[:, None, None]
  so_far = slot <= (P + index)[:, None]
  return in_prompt | ((slot >= P) & so_far)


def held(cache: Cache) -> Cache:
  """Keys and values [R, S, K, H] stay on their rows and heads."""
  return {
    layer: {
      "k": sharding.on_rows(x["k"], None, "tensor"),
      "v": sharding.on_rows(x["v"], None, "tensor"),
      "positions": sharding.on_rows(x["positions"]),
      # All rows move in lockstep; split, its first entry would be sent around.
      "end_index": sharding.whole(x["end_index"]),
    }
    for layer, x in cache.items()
  }
