"""gemma's Transformer, which reads prompts and their completions apart."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gemma import gm

from pkpo_jax.lm import attention, sharding

# What a block keeps for its backward pass: everything, the results of its
# matrix products with parameters, or nothing but its input.
REMAT = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


class KVCache(NamedTuple):
  """The `attention.KeysValues` of all layers.

  Attributes:
    scanned: of the layers that run as a loop: stacked, for each place in the
      pattern of local and global attention.
    unrolled: of each layer after them; of all if there is no loop.
  """

  scanned: Sequence[attention.KeysValues]
  unrolled: Sequence[attention.KeysValues]


class Transformer(gm.nn.Transformer):
  """gemma's, which also reads completions on top of prompts that they share.

  Attributes:
    remat: "none", "dots" or "full": how much the backward pass of training
      computes again. Other than "none" makes the blocks a loop, which compiles
      many times faster and gathers parameters block by block.
  """

  remat: str = "none"

  def __call__(self, tokens, *, training=None, **kwargs):
    """As gemma's; or `_read`, once it is said whether that is for training."""
    if training is None:
      return super().__call__(tokens, **kwargs)
    return self._read(tokens, training, **kwargs)

  def _read(
    self, tokens, training, *, lengths=None, prompts=None, cache=None, start=0
  ):
    """Reads prompts, or the next tokens of their completions.

    Args:
      tokens: [R, L] int32. Completions are the R / B of the first prompt, then
        those of the second, and so on.
      training: whether the backward pass computes again what `remat` says.
      lengths: [B] int32 of the prompts, if these are completions.
      prompts: what this returned for them, if these are completions.
      cache: keys and values of completions, with room for these tokens at
        `start`. Without it, these are whole completions.
      start: how many tokens of the completions the cache holds.

    Returns:
      Hidden states [R, L, D]; and the keys and values of prompts, the cache of
      completions with these tokens in it, or None without a cache.
    """
    keep = prompts is None or cache is not None

    def layer(block, params, x, known):
      prompt, own = known
      prompt = prompt and attention.Prompts(lengths, prompt)
      x, own = block.apply(
        {"params": params}, x, prompt, own, start, method=attention.block
      )
      return sharding.constrain_rows(x), constrain_kv(own) if keep else None

    x = sharding.constrain_rows(self.embedder.encode(tokens))
    looped = training and self.remat != "none"
    if looped:
      layer = _recomputed(layer, REMAT[self.remat])
    x, new = self._through(layer, x, (prompts, cache), looped)
    return self.final_norm(x), new if keep else None

  def _through(self, layer, x, known, looped):
    """`layer(block, params, x, known)`, one after the other -> x, KVCache.

    Args:
      layer: what to do with a block.
      x: [R, L, D].
      known: several KVCache or None.
      looped: whether to loop over the pattern of local and global attention.
    """
    blocks = [block.clone(parent=None) for block in self.blocks]
    params = [block.variables["params"] for block in self.blocks]
    period = _period(self.config.attention_types)
    end = len(blocks) // period * period if looped else 0

    def run(x, blocks, params, known):
      new = []
      for i, (block, own) in enumerate(zip(blocks, params)):
        x, out = layer(block, own, x, [of and of[i] for of in known])
        new.append(out)
      return x, new

    groups = [
      jax.tree.map(lambda *x: jnp.stack(x), *params[i:end:period])
      for i in range(period if end else 0)
    ]
    x, new = jax.lax.scan(
      lambda x, group: run(x, blocks, *group),
      x,
      (groups, [of and of.scanned for of in known]),
      length=end // period,
    )
    x, rest = run(
      x, blocks[end:], params[end:], [of and of.unrolled for of in known]
    )
    return x, KVCache(new, rest)


def _recomputed(layer, policy):
  """The layer, with `jax.checkpoint` around it."""

  def apply(block, params, x, known):
    run = jax.checkpoint(
      lambda *args: layer(block, *args), policy=policy, prevent_cse=False
    )
    return run(params, x, known)

  return apply


def _period(kinds: Sequence[Any]) -> int:
  """After how many layers the pattern of local and global ones repeats."""
  kinds = list(kinds)
  return next(
    p for p in range(1, len(kinds) + 1) if kinds[p:] == kinds[: len(kinds) - p]
  )


def constrain_kv(kv: attention.KeysValues) -> attention.KeysValues:
  """Keys and values stay on their rows and heads."""
  return jax.tree.map(lambda x: sharding.constrain_rows(x, "tensor"), kv)
