"""Gemma checkpoints as Hugging Face's folders: config.json and safetensors.

Loading first checks the names, shapes and types of all tensors from the files'
headers. Then it streams: one parameter at a time is read, laid out as gemma
has it, placed on its devices, and dropped from host memory.

The second half of the file says how the tensors are laid out: a parameter of
gemma is one tensor or a stack of several (keys and values, gate and up), and a
`Layout` maps the dimensions of one to those of the other.
"""

import contextlib
import functools
import logging
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from pkpo_jax.lm import models, sharding, tokenizers, transformer
from pkpo_jax.lm.formats import (
  folder_kinds,
  huggingface_config,
  huggingface_names,
  huggingface_texts,
  param_trees,
  tensor_files,
)
from pkpo_jax.lm.gemma_library import gm

_FLOATS = ("F32", "BF16", "F16", "F64")
_log = logging.getLogger(__name__)


def load_huggingface(
  folder: str | os.PathLike,
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: Any = None,
  param_dtype: Any = "float32",
) -> tuple[transformer.Transformer, models.Params]:
  """Loads a Gemma 2, or the text model of a Gemma 3, from a folder.

  What `transformers` would read differently is refused.

  Args:
    folder: a folder of Hugging Face's, with config.json and *.safetensors, in
      one file or in several.
    mesh: where to place the parameters, by the rules of `sharding`; a process
      reads only what its devices hold. None places all on one device.
    dtype: the type the model computes in; by default the checkpoint's, or
      float32 where that is float16, whose range Gemma exceeds.
    param_dtype: the type the parameters are kept in. Training needs float32:
      bfloat16 would round small updates away.

  Returns:
    The model and its parameters.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the model is one that gemma cannot represent; tensors are
      missing, left over or of another shape; or the folder says two things at
      once, such as a second set of weights or an adapter. This is found before
      any parameter is read.
  """
  with open_checkpoint(folder, dtype=dtype) as opened:
    model = opened.model
    like = param_trees.placed_shapes(model, mesh, param_dtype)
    _check_headers(model, like, opened.tensors)
    if vision := sum("vision" in why for why in opened.ignored.values()):
      _log.warning(
        "%s: %d tensors of its vision tower left out", folder, vision
      )

    def load(path, param) -> jax.Array:
      tensors = tensors_of_param(model, sharding.name_of(path))
      parts = [(tensor, opened.tensors[tensor.name]) for tensor in tensors]
      return _load(param, parts)

    return model, jax.tree_util.tree_map_with_path(load, like)


class Checkpoint(NamedTuple):
  """A folder whose tensors can be read.

  Attributes:
    config: the contents of its config.json.
    model: the model that it describes.
    tensors: maps names as `transformers` has them to stored tensors.
    ignored: maps names in the files to why these tensors are not read.
  """

  config: dict[str, Any]
  model: transformer.Transformer
  tensors: dict[str, Any]
  ignored: dict[str, str]


@contextlib.contextmanager
def open_checkpoint(
  folder: str | os.PathLike, *, dtype: Any = None
) -> Iterator[Checkpoint]:
  """Opens a folder, and reads its headers; see `load_huggingface`."""
  folder = pathlib.Path(folder).expanduser()
  _refuse_folder(folder)
  config = tensor_files.read_json(folder / "config.json")
  try:
    model = huggingface_config.read_config(config, dtype)
    tied = huggingface_config.text_config(config).get("tie_word_embeddings")
    with tensor_files.open_folder(folder) as stored:
      chosen = huggingface_names.choose(stored, tied=tied is not False)
      yield Checkpoint(config, model, *chosen)
  except ValueError as error:
    if str(folder) in str(error):
      raise
    raise ValueError(f"{folder}: {error}") from error


def _refuse_folder(folder: pathlib.Path) -> None:
  """Raises an error for a folder that is not a model's, and says whose."""
  if any(folder.glob("adapter_model.*")) or any(
    folder.glob("adapter_config.json")
  ):
    raise ValueError(
      f"{folder} holds an adapter, adapter_model or adapter_config.json."
      f" {huggingface_names.MERGE}"
    )
  folder_kinds.refuse_other(folder, "huggingface")
  snapshots = sorted(folder.glob("snapshots/*/config.json"))
  if snapshots and not (folder / "config.json").exists():
    raise FileNotFoundError(
      f"{folder} is a folder of the hub's cache; give the one within it:"
      f" {snapshots[-1].parent}."
    )
  others = folder_kinds.other_weights(folder)
  if others and not (folder / "config.json").exists():
    raise FileNotFoundError(f"{folder} has no config.json.{others}")


def _check_headers(
  model: gm.nn.Transformer, like: models.Params, stored: Mapping[str, Any]
) -> None:
  """Raises ValueError unless the tensors are those of the model."""
  expected = _stored_shapes(model, like)
  found = {name: tuple(x.get_shape()) for name, x in stored.items()}
  param_trees.check_same(expected, found, "The checkpoint")
  for name, x in stored.items():
    if x.get_dtype() not in _FLOATS:
      raise ValueError(
        f"{name} is of type {x.get_dtype()}; known: {', '.join(_FLOATS)}. A"
        " quantised model has to be dequantised first."
      )


def _stored_shapes(
  model: gm.nn.Transformer, params: models.Params
) -> dict[str, tuple[int, ...]]:
  """Shapes of Hugging Face's tensors by name, in the order of writing."""
  return {
    tensor.name: tensor.layout.shape(
      shape if tensor.piece is None else shape[1:]
    )
    for name, shape in param_trees.shapes_by_name(params).items()
    for tensor in tensors_of_param(model, name)
  }


def _load(
  param: jax.ShapeDtypeStruct,
  parts: Sequence[tuple["Tensor", Any]],
) -> jax.Array:
  """Loads one parameter shard by shard, reading only the slices of each.

  Args:
    param: its shape, type and sharding.
    parts: the tensors it consists of, each with the stored array.
  """

  @functools.cache  # Several devices may hold the same shard.
  def read(index: tuple[slice, ...]) -> np.ndarray:
    index = tuple(slice(*i.indices(n)) for i, n in zip(index, param.shape))
    out = np.empty([i.stop - i.start for i in index], param.dtype)
    for tensor, stored in parts:
      if tensor.piece is None:
        out[...] = tensor.layout.read(stored, param.shape, index)
      elif index[0].start <= tensor.piece < index[0].stop:
        piece = tensor.layout.read(stored, param.shape[1:], index[1:])
        out[tensor.piece - index[0].start] = piece
    return out

  return jax.make_array_from_callback(param.shape, param.sharding, read)


def save_huggingface(
  model: nn.Module,
  params: models.Params,
  folder: str | os.PathLike,
  *,
  source: str | os.PathLike | None = None,
  tokenizer: tokenizers.GemmaTokenizer | None = None,
  max_shard_bytes: int = 5 * 10**9,
) -> None:
  """Saves a folder that `transformers` and `load_huggingface` can load.

  All processes have to call this; the first one writes.

  Args:
    model: a Gemma 2 or a text-only Gemma 3.
    params: its parameters, wherever they are. They are written in the dtype
      of the model, so a bfloat16 model's float32 parameters are rounded.
    folder: a new one; if saving fails, nothing is left of it.
    source: the folder that the model came from. What the parameters do not
      determine is taken from there, so that the new one is served as the old
      one was: the tokens that end a text, the length of the context, the
      tokenizer and its chat template. Without it, a text ends at EOS alone, and
      there is no tokenizer.
    tokenizer: the one that the policy was trained with. Its files, its chat
      template and its stop tokens then stand in for those of the source.
    max_shard_bytes: the most that one file has, and that host memory holds at
      a time.

  Raises:
    FileExistsError: the folder holds something.
    FileNotFoundError: the source has no config.json.
    ValueError: Hugging Face has no form for the model or its parameters, such
      as for LoRA adapters; or the source is of another model.
  """
  param_trees.check_params(model, params)
  origin = theirs = None
  if source is not None:
    origin = pathlib.Path(source).expanduser()
    theirs = tensor_files.read_json(origin / "config.json")
  config = huggingface_config.write_config(model, theirs)
  if tokenizer is not None:
    config |= huggingface_texts.stops(tokenizer)
  itemsize = jnp.dtype(model.dtype).itemsize
  sizes = {
    name: itemsize * math.prod(shape)
    for name, shape in _stored_shapes(model, params).items()
  }
  tensors = _all_tensors(model, params)
  if jax.process_index() == 0:
    path = pathlib.Path(folder).expanduser()
    with tensor_files.new_folder(path) as made:
      tensor_files.write_json(made / "config.json", config)
      huggingface_texts.write(made, origin, tokenizer)
      tensor_files.write_tensors(made, tensors, sizes, max_shard_bytes)
  else:
    for _ in tensors:  # Gathering an array takes all processes.
      pass
  multihost_utils.sync_global_devices("save_huggingface")


def _all_tensors(
  model: gm.nn.Transformer, params: models.Params
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields Hugging Face's tensors, one parameter after the other."""
  for name, param in param_trees.by_name(params).items():
    whole = _to_host(param, model.dtype)
    for tensor in tensors_of_param(model, name):
      piece = whole if tensor.piece is None else whole[tensor.piece]
      # safetensors writes the memory as it lies, whatever the strides.
      yield tensor.name, np.ascontiguousarray(tensor.layout.write(piece))


def _to_host(param: Any, dtype: Any) -> np.ndarray:
  """Copies a whole parameter to this host, in that dtype."""
  # First a copy on its devices: a jax array caches what np.asarray returns.
  x = jnp.array(param, dtype)
  if not x.is_fully_addressable:
    x = multihost_utils.process_allgather(x, tiled=True)
  return np.asarray(x)


class Layout(NamedTuple):
  """How Hugging Face stores an array of gemma's.

  Attributes:
    order: gemma's dimensions, in Hugging Face's order.
    merged: the place in `order` of the first of two neighbours that Hugging
      Face merges into one dimension; None if it merges none.
  """

  order: tuple[int, ...]
  merged: int | None = None

  def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
    """Maps gemma's shape to Hugging Face's."""
    sizes = [shape[i] for i in self.order]
    if (i := self.merged) is not None:
      sizes[i : i + 2] = [math.prod(sizes[i : i + 2])]
    return tuple(sizes)

  def write(self, x: np.ndarray) -> np.ndarray:
    """Maps gemma's array to Hugging Face's; a view where possible."""
    return x.transpose(self.order).reshape(self.shape(x.shape))

  def read(
    self, stored: Any, shape: Sequence[int], index: Sequence[slice]
  ) -> np.ndarray:
    """Reads a part of gemma's array.

    Args:
      stored: Hugging Face's array, or anything that is sliced like one; only
        the heads and columns of the part are read.
      shape: the shape of gemma's whole array.
      index: the part: for each of gemma's dimensions a slice without a step.

    Returns:
      The part, as gemma lays it out.
    """
    bounds = [index[i].indices(shape[i])[:2] for i in self.order]
    sizes: list[int] = [stop - start for start, stop in bounds]
    within: Any = ...
    if (i := self.merged) is not None:
      inner = shape[self.order[i + 1]]
      within = (*[slice(None)] * (i + 1), slice(*bounds[i + 1]))
      sizes[i + 1] = inner
      bounds[i : i + 2] = [(bounds[i][0] * inner, bounds[i][1] * inner)]
    part = stored[tuple(slice(*bound) for bound in bounds)].reshape(sizes)
    return part[within].transpose(np.argsort(self.order))


_SAME = Layout((0, 1))
_VECTOR = Layout((0,))
_TRANSPOSED = Layout((1, 0))
_HEADS_OUT = Layout((0, 2, 1), merged=0)  # [N, D, H] as [N H, D]
_HEADS_IN = Layout((2, 0, 1), merged=1)  # [N, H, D] as [D, N H]

# Parameter of a layer in gemma: the tensors it stacks, and their layout.
_LAYER = {
  "attn/q_einsum/w": ("self_attn.q_proj", _HEADS_OUT),
  "attn/kv_einsum/w": ("self_attn.k_proj self_attn.v_proj", _HEADS_OUT),
  "attn/qkv_einsum/w": (
    "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    _HEADS_OUT,
  ),
  "attn/attn_vec_einsum/w": ("self_attn.o_proj", _HEADS_IN),
  "attn/_query_norm/scale": ("self_attn.q_norm", _VECTOR),
  "attn/_key_norm/scale": ("self_attn.k_norm", _VECTOR),
  "mlp/gating_einsum": ("mlp.gate_proj mlp.up_proj", _TRANSPOSED),
  "mlp/linear": ("mlp.down_proj", _TRANSPOSED),
  "pre_attention_norm/scale": ("input_layernorm", _VECTOR),
  "post_attention_norm/scale": ("post_attention_layernorm", _VECTOR),
  "pre_ffw_norm/scale": ("pre_feedforward_layernorm", _VECTOR),
  "post_ffw_norm/scale": ("post_feedforward_layernorm", _VECTOR),
}


class Tensor(NamedTuple):
  """A tensor of Hugging Face, as part of a parameter of gemma's.

  Attributes:
    name: its name in the files.
    layout: how it is laid out.
    piece: its index in the parameter that stacks it with others; None if it
      is the whole parameter.
  """

  name: str
  layout: Layout
  piece: int | None


def tensors_of_param(model: gm.nn.Transformer, param: str) -> Iterator[Tensor]:
  """Yields the tensors of a parameter, such as "layer_0/attn/kv_einsum/w"."""
  if param == "embedder/input_embedding":
    yield Tensor("model.embed_tokens.weight", _SAME, None)
  elif param == "final_norm/scale":
    yield Tensor("model.norm.weight", _VECTOR, None)
  else:
    layer, name = param.split("/", 1)
    stacked, layout = _LAYER[name]
    if name == "mlp/gating_einsum" and model.config.transpose_gating_einsum:
      layout = _SAME
    names = stacked.split()
    prefix = f"model.layers.{layer.removeprefix('layer_')}"
    for i, tensor in enumerate(names):
      piece = i if len(names) > 1 else None
      yield Tensor(f"{prefix}.{tensor}.weight", layout, piece)
