"""gemma's Transformer, which reads prompts and their completions apart.

`Transformer(tokens, training=...)` reads [R, L] tokens and returns hidden
states [R, L, D] and keys and values, in one of three ways:

* prefill: the tokens are B prompts [B, P]. Each is read once, for all its n
  completions; its keys and values [B, K, P, H] of every layer are kept.
* teacher forcing: the tokens are whole completions [B n, T]. They attend to
  themselves and to the prompts' keys and values; nothing is kept.
* decode: the tokens are the next L of each completion. They attend to the
  cache of their completion and to the prompts; the cache is kept.

In sampling the layers are unrolled. In training they may be a `lax.scan` over
the pattern of local and global attention (for Gemma 2 pairs of layers), with
the layers that are left over unrolled after it: a scan compiles many times
faster, and gathers sharded parameters one pattern at a time. `remat` asks for
it, and says how much of a layer's forward pass its backward pass computes
again, instead of keeping it in memory.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from pkpo_jax.lm import attention, sharding
from pkpo_jax.lm.gemma_library import gm

# What a layer keeps for its backward pass: everything, the results of its
# matrix products with parameters, or nothing but its input.
REMAT = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}

_SCANNED = sharding.SCANNED

Params = dict[str, Any]

# (block, its parameters, x, the KeysValues of each KVCache) -> x, KeysValues
_Layer = Callable[..., tuple[chex.Array, attention.KeysValues | None]]


class KVCache(NamedTuple):
  """Keys and values of all layers.

  Attributes:
    scanned: of the layers that run as a scan: one entry for each layer of the
      pattern, stacked over the repetitions of the pattern.
    unrolled: one entry for each layer after those; for each layer if there is
      no scan.
  """

  scanned: Sequence[attention.KeysValues]
  unrolled: Sequence[attention.KeysValues]


def read_dtype(dtype: Any) -> jnp.dtype:
  """Reads a type that a Gemma is computed or kept in.

  Not float16, whose range it exceeds. Squares of its activations exceed 1e10:
  a norm of them would be 0, and so the policy uniform, without a NaN.

  Raises:
    ValueError: it is another than bfloat16 and float32.
  """
  try:
    name = "None" if dtype is None else jnp.dtype(dtype).name
  except TypeError:
    name = str(dtype)
  if name not in ("bfloat16", "float32"):
    raise ValueError(
      f"dtype={name!r}: a Gemma takes 'bfloat16' or 'float32', and exceeds the"
      " range of float16."
    )
  return jnp.dtype(name)


class Transformer(gm.nn.Transformer):
  """gemma's Transformer, which also reads completions of shared prompts.

  Attributes:
    remat: "none", "dots" or "full": how much the backward pass of training
      computes again. Other than "none" makes the layers a scan.
    lora_rank: of the adapters that a `gm.nn.LoRA` around this adds. flax keeps
      programs by the fields of this module, which must not serve another rank.
  """

  remat: str = "none"
  lora_rank: int | None = None

  def __post_init__(self) -> None:
    """Refuses a dtype that Gemma's activations exceed."""
    read_dtype(self.dtype)
    super().__post_init__()

  def __call__(
    self, tokens: chex.Array, *, training: bool | None = None, **kwargs: Any
  ) -> Any:
    """Calls gemma's own forward pass, or `_read` if `training` is given."""
    if training is None:
      return super().__call__(tokens, **kwargs)
    return self._read(tokens, training, **kwargs)

  def _read(
    self,
    tokens: chex.Array,
    training: bool,
    *,
    prompts: KVCache | None = None,
    lengths: chex.Array | None = None,
    rows: chex.Array | None = None,
    cache: KVCache | None = None,
    start: chex.Numeric = 0,
  ) -> tuple[chex.Array, KVCache | None]:
    """Reads prompts, or the next tokens of their completions.

    Args:
      tokens: [R, L] int32. Completions come sorted by prompt, R / B of each.
      training: whether there will be a backward pass, which `remat` is about.
      prompts: for completions: what this returned for their prompts.
      lengths: for completions: [B] int32, the lengths of their prompts.
      rows: for completions: [B] int32, which rows of `prompts` those are; by
        default all of them, in order.
      cache: for decoding: keys and values of the completions, with room for
        these tokens at `start`.
      start: how many tokens of the completions the cache holds.

    Returns:
      Hidden states [R, L, D]; and the keys and values of prompts, the cache
      with these tokens in it, or None for whole completions.
    """
    keep = prompts is None or cache is not None

    def layer(
      block: nn.Module,
      params: Any,
      x: chex.Array,
      kvs: Sequence[attention.KeysValues | None],
    ) -> tuple[chex.Array, attention.KeysValues | None]:
      prompt, own = kvs
      if prompt and rows is not None:
        prompt = jax.tree.map(
          lambda x: sharding.take_rows(x, rows, "tensor"), prompt
        )
      prefix = prompt and attention.LayerPrefix(prompt, lengths)
      x, own = block.apply(
        {"params": params}, x, prefix, own, start, method=attention.block
      )
      return sharding.constrain_rows(x), constrain_kv(own) if keep else None

    x = sharding.constrain_rows(self.embedder.encode(tokens))
    scan = training and self.remat != "none"
    if scan:
      layer = _recomputed(layer, REMAT[self.remat])
    x, new = self._run_layers(layer, x, (prompts, cache), scan)
    return self.final_norm(x), new if keep else None

  def _run_layers(
    self,
    layer: _Layer,
    x: chex.Array,
    kvs: Sequence[KVCache | None],
    scan: bool,
  ) -> tuple[chex.Array, KVCache]:
    """Runs `layer(block, params, x, kvs)` for one layer after the other.

    Args:
      layer: computes one layer, from its own entry of each of `kvs`.
      x: [R, L, D].
      kvs: caches of all layers, or None.
      scan: whether to scan over the pattern of local and global attention.

    Returns:
      [R, L, D], and what the layers returned beside it.
    """
    blocks = [block.clone(parent=None) for block in self.blocks]
    period = _period(self.config.attention_types)
    end = self.num_scanned if scan else 0
    params = self.variables["params"]
    groups = self.stack_layers(params)[_SCANNED] if end else {}

    def run(
      x: chex.Array,
      blocks: Sequence[nn.Module],
      params: Sequence[Any],
      kvs: Sequence[Sequence[attention.KeysValues] | None],
    ) -> tuple[chex.Array, list[Any]]:
      new = []
      for i, (block, own) in enumerate(zip(blocks, params)):
        x, out = layer(block, own, x, [kv and kv[i] for kv in kvs])
        new.append(out)
      return x, new

    x, new = jax.lax.scan(
      lambda x, group: run(x, blocks, *group),
      x,
      (list(groups.values()), [kv and kv.scanned for kv in kvs]),
      length=end // period,
    )
    rest = [params[block.name] for block in self.blocks[end:]]
    x, rest = run(x, blocks[end:], rest, [kv and kv.unrolled for kv in kvs])
    return x, KVCache(new, rest)

  @property
  def num_scanned(self) -> int:
    """How many layers, from the first, run as a scan in training."""
    if self.remat == "none":
      return 0
    kinds = self.config.attention_types
    return len(kinds) // _period(kinds) * _period(kinds)

  def stack_layers(self, params: Params) -> Params:
    """Stacks what the layers of the scan have alike.

    Args:
      params: parameters or some of them, such as the adapters of LoRA.

    Returns:
      The same, where `layer_i` of all i that are scanned are "scanned": one
      subtree for each layer of the pattern, whose arrays have the repetitions
      of the pattern as their first dimension. As it is if it is so already.
    """
    period = _period(self.config.attention_types)
    layers = [f"layer_{i}" for i in range(self.num_scanned)]
    if not params or not layers or _SCANNED in params:
      return params
    return {name: x for name, x in params.items() if name not in layers} | {
      _SCANNED: {
        str(i): jax.tree.map(
          lambda *x: jnp.stack(x), *(params[name] for name in layers[i::period])
        )
        for i in range(period)
      }
    }

  def unstack_layers(self, params: Params) -> Params:
    """Undoes `stack_layers`."""
    if _SCANNED not in params:
      return params
    period = _period(self.config.attention_types)
    return {name: x for name, x in params.items() if name != _SCANNED} | {
      f"layer_{i}": jax.tree.map(
        lambda x, i=i: x[i // period], params[_SCANNED][str(i % period)]
      )
      for i in range(self.num_scanned)
    }


def _recomputed(layer: _Layer, policy: Callable[..., bool] | None) -> _Layer:
  """Wraps a layer in `jax.checkpoint`, so that it is computed again."""

  def apply(block, params, x, kvs):
    run = jax.checkpoint(
      lambda *args: layer(block, *args), policy=policy, prevent_cse=False
    )
    return run(params, x, kvs)

  return apply


def _period(kinds: Sequence[Any]) -> int:
  """Returns after how many layers the pattern of attention repeats."""
  kinds = list(kinds)
  return next(
    p for p in range(1, len(kinds) + 1) if kinds[p:] == kinds[: len(kinds) - p]
  )


def constrain_kv(kv: attention.KeysValues) -> attention.KeysValues:
  """Holds keys and values to the devices of their rows and of their heads."""
  return jax.tree.map(lambda x: sharding.constrain_rows(x, "tensor"), kv)


def constrain_cache(cache: KVCache) -> KVCache:
  """Does what `constrain_kv` does, in all layers."""
  return KVCache(
    [jax.vmap(constrain_kv)(kv) for kv in cache.scanned],
    [constrain_kv(kv) for kv in cache.unrolled],
  )
