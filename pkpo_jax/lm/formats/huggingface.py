"""Gemma checkpoints in and out: Hugging Face's folders and gemma's own.

Names, shapes and types are checked first, from headers alone. Hugging Face's
are streamed: one parameter at a time is read, laid out as gemma has it, placed
on its devices and dropped by the host. Gemma's own are left to orbax.
"""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from gemma import gm
from jax.experimental import multihost_utils
from orbax import checkpoint as ocp

from pkpo_jax.lm import models, sharding, transformer
from pkpo_jax.lm.formats import huggingface_config, tensor_files

Shapes = Mapping[str, tuple[int, ...]]

_MODEL = "model.json"  # beside gemma's own files: which model they are of
_FLOATS = ("F32", "BF16", "F16")


def load_huggingface(
  folder: str | os.PathLike,
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: Any = None,
  param_dtype: Any = "float32",
) -> tuple[transformer.Transformer, models.Params]:
  """Reads a Gemma 2, or a Gemma 3 of text alone, from a Hugging Face folder.

  Args:
    folder: config.json and *.safetensors, in one file or in several with
      their index.
    mesh: where to place the parameters, by the rules of `sharding`; a process
      reads what its devices hold. None: all on one device.
    dtype: in which the model computes; by default the checkpoint's.
    param_dtype: in which the parameters are kept. float32 is what training
      needs: bfloat16 would round small updates away.

  Returns:
    The model and its parameters.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a model that gemma cannot represent; or tensors that are
      missing, left over or of another shape, before any of them is read.
  """
  folder = pathlib.Path(folder)
  config = tensor_files.read_json(folder / "config.json")
  model = huggingface_config.read_config(config, dtype)
  like = _abstract(model, mesh, param_dtype)
  with tensor_files.open_folder(folder) as stored:
    _check_headers(model, like, stored)

    def load(path, param) -> jax.Array:
      tensors = huggingface_config.tensors(model, sharding.name_of(path))
      return _load(param, [(tensor, stored[tensor.name]) for tensor in tensors])

    return model, jax.tree_util.tree_map_with_path(load, like)


def _abstract(
  model: nn.Module, mesh: jax.sharding.Mesh | None, dtype: Any
) -> models.Params:
  """The parameters as shapes of that dtype, with their shardings."""
  tree = models.abstract_params(model)
  if mesh is None:
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shardings = jax.tree.map(lambda _: one, tree)
  else:
    shardings = sharding.param_shardings(mesh, tree)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype), sharding=s),
    tree,
    shardings,
  )


def _check_headers(
  model: gm.nn.Transformer, like: models.Params, stored: Mapping[str, Any]
) -> None:
  expected = _stored_shapes(model, like)
  found = {name: tuple(x.get_shape()) for name, x in stored.items()}
  _check_same(expected, found, "The checkpoint")
  for name, x in stored.items():
    if x.get_dtype() not in _FLOATS:
      raise ValueError(
        f"{name} is of type {x.get_dtype()}; known: {', '.join(_FLOATS)}."
      )


def _stored_shapes(
  model: gm.nn.Transformer, params: models.Params
) -> dict[str, tuple[int, ...]]:
  """The shapes of Hugging Face's tensors, in the order they are written."""
  return {
    tensor.name: tensor.form.shape(shape if tensor.piece is None else shape[1:])
    for name, shape in _shapes(params).items()
    for tensor in huggingface_config.tensors(model, name)
  }


def _named(tree: models.Params) -> dict[str, Any]:
  """Leaves by their names, such as "layer_0/mlp/linear"."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {sharding.name_of(path): leaf for path, leaf in leaves}


def _shapes(tree: models.Params) -> dict[str, tuple[int, ...]]:
  return {name: tuple(x.shape) for name, x in _named(tree).items()}


def _check_same(expected: Shapes, found: Shapes, what: str) -> None:
  """Names and shapes must agree; the ValueError lists what does not."""
  problems = [
    *(f"{name} is missing" for name in expected if name not in found),
    *(f"{name} is left over" for name in found if name not in expected),
    *(
      f"{name} has shape {found[name]} and not {shape}"
      for name, shape in expected.items()
      if found.get(name, shape) != shape
    ),
  ]
  if problems:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise ValueError(
      f"{what} does not fit the model: {'; '.join(problems[:5])}{more}."
    )


def _load(
  param: jax.ShapeDtypeStruct,
  parts: Sequence[tuple[huggingface_config.Tensor, Any]],
) -> jax.Array:
  """One parameter, shard by shard, of the slices that each needs."""

  @functools.cache  # Several devices may hold the same shard.
  def read(index: tuple[slice, ...]) -> np.ndarray:
    index = tuple(slice(*i.indices(n)) for i, n in zip(index, param.shape))
    out = np.empty([i.stop - i.start for i in index], param.dtype)
    for tensor, stored in parts:
      if tensor.piece is None:
        out[...] = tensor.form.read(stored, param.shape, index)
      elif index[0].start <= tensor.piece < index[0].stop:
        piece = tensor.form.read(stored, param.shape[1:], index[1:])
        out[tensor.piece - index[0].start] = piece
    return out

  return jax.make_array_from_callback(param.shape, param.sharding, read)


def save_huggingface(
  model: nn.Module,
  params: models.Params,
  folder: str | os.PathLike,
  *,
  max_shard_bytes: int = 5 * 10**9,
) -> None:
  """Writes a folder that `transformers` loads, and `load_huggingface` too.

  The tokenizer's files and generation_config.json are not in it: copy them
  from the model's first folder. All processes have to call; the first writes.

  Args:
    model: a Gemma 2 or a Gemma 3 of text alone.
    params: its parameters, wherever they are. They are written in the dtype
      of the model, so a bfloat16 model's float32 parameters are rounded.
    folder: made anew; complete, or not there at all.
    max_shard_bytes: of one file, and of what host memory holds at a time.

  Raises:
    FileExistsError: the folder holds something.
    ValueError: the model or its parameters have no such form. LoRA adapters
      have none.
  """
  _check_params(model, params)
  config = huggingface_config.write_config(model)
  itemsize = jnp.dtype(model.dtype).itemsize
  sizes = {
    name: itemsize * math.prod(shape)
    for name, shape in _stored_shapes(model, params).items()
  }
  tensors = _tensors(model, params)
  if jax.process_index() == 0:
    with tensor_files.new_folder(pathlib.Path(folder)) as made:
      tensor_files.write_json(made / "config.json", config)
      tensor_files.write_tensors(made, tensors, sizes, max_shard_bytes)
  else:
    for _ in tensors:
      pass
  multihost_utils.sync_global_devices("save_huggingface")


def _check_params(model: nn.Module, params: models.Params) -> None:
  if not isinstance(model, gm.nn.Transformer):
    raise ValueError(
      f"Only a Transformer can be saved, not a {type(model).__name__}. Of a"
      " LoRA, save its .model with gemma.peft.split_params(params).original,"
      " and the adapters, which have no place in it, with"
      " gm.ckpts.save_params."
    )
  expected = _shapes(models.abstract_params(model))
  _check_same(expected, _shapes(params), "The tree of parameters")


def _tensors(
  model: gm.nn.Transformer, params: models.Params
) -> Iterator[tuple[str, np.ndarray]]:
  """Hugging Face's tensors, one parameter after the other."""
  for name, param in _named(params).items():
    whole = _to_host(param, model.dtype)
    for tensor in huggingface_config.tensors(model, name):
      piece = whole if tensor.piece is None else whole[tensor.piece]
      # safetensors writes the memory as it lies, whatever the strides.
      yield tensor.name, np.ascontiguousarray(tensor.form.write(piece))


def _to_host(param: Any, dtype: Any) -> np.ndarray:
  # A copy, where it is: an array keeps what np.asarray made of it.
  x = jnp.array(param, dtype)
  if not x.is_fully_addressable:
    x = multihost_utils.process_allgather(x, tiled=True)
  return np.asarray(x)


def load_gemma(
  folder: str | os.PathLike,
  *,
  model: nn.Module | None = None,
  mesh: jax.sharding.Mesh | None = None,
  param_dtype: Any = "float32",
) -> tuple[nn.Module, models.Params]:
  """Reads a checkpoint in gemma's own form: by `save_gemma`, or published.

  Args:
    folder: a path, or the address of a published checkpoint, such as
      `gm.ckpts.CheckpointPath.GEMMA2_2B_IT`.
    model: which model it is of. By default what `save_gemma` wrote beside it;
      without that the preset of the same size, which computes in bfloat16.
    mesh: where to place the parameters, as in `load_huggingface`.
    param_dtype: in which the parameters are kept.

  Returns:
    The model and its parameters.

  Raises:
    FileNotFoundError: there is no checkpoint.
    ValueError: no preset has that size; or parameters that are missing, left
      over or of another shape, before any of them is read.
  """
  path = _absolute(folder)
  if not path.exists():
    raise FileNotFoundError(f"There is no folder {path}.")
  found = _shapes_in(path)
  if model is None and (path / _MODEL).exists():
    model = _parse_model(tensor_files.read_json(path / _MODEL))
  elif model is None:
    model = _preset(found)
  like = _abstract(model, mesh, param_dtype)
  _check_same(_shapes(like), found, "The checkpoint")
  return model, gm.ckpts.load_params(path, params=like)


def _absolute(folder: str | os.PathLike) -> epath.Path:
  """Orbax refuses other paths; addresses of a cloud are absolute."""
  path = epath.Path(folder)
  return path if path.is_absolute() else epath.Path(pathlib.Path.cwd()) / path


def _shapes_in(path: epath.Path) -> dict[str, tuple[int, ...]]:
  """The shapes in a checkpoint, by the names that the model has for them.

  Published ones are flat: "transformer/layer_0/mlp/linear" and then "w".
  """
  metadata = ocp.StandardCheckpointer().metadata(path).item_metadata
  if metadata is None:
    raise FileNotFoundError(f"{path} holds no checkpoint of gemma's form.")
  shapes = {}
  for name, shape in _shapes(metadata.tree).items():
    name = name.removeprefix("transformer/")
    shapes[name.removesuffix("/w") if "/mlp/" in name else name] = shape
  return shapes


def _preset(found: Shapes) -> nn.Module:
  """The preset of that size, with as many embeddings as there are."""
  num_embed, width = found.get("embedder/input_embedding", (0, 0))
  size = {
    "embed_dim": width,
    "hidden_dim": found.get("layer_0/mlp/linear", (0, 0))[0],
    "num_layers": sum(name.endswith("/mlp/linear") for name in found),
  }
  for name in models.PRESETS:
    model = models.get_model(name, num_embed=num_embed)
    if all(getattr(model.config, key) == size[key] for key in size):
      return model
  raise ValueError(
    f"No preset has the size of the checkpoint, {size}; give its model."
  )


def save_gemma(
  model: nn.Module, params: models.Params, folder: str | os.PathLike
) -> None:
  """Writes a checkpoint in gemma's own form, which `gm.ckpts` loads too.

  All processes have to call.

  Args:
    model: is written beside the parameters, for `load_gemma`.
    params: its parameters, kept as they are.
    folder: made anew.

  Raises:
    FileExistsError: the folder holds something.
    ValueError: not a Transformer of text, or not its parameters.
  """
  _check_params(model, params)
  described = _describe_model(model)
  path = _absolute(folder)
  if jax.process_index() == 0:
    tensor_files.refuse_existing(path)
  gm.ckpts.save_params(params, path, wait_until_finished=True)
  if jax.process_index() == 0:
    tensor_files.write_json(path / _MODEL, described)
  multihost_utils.sync_global_devices("save_gemma")


def _describe_model(model: gm.nn.Transformer) -> dict[str, Any]:
  if model.config.vision_encoder is not None:
    raise ValueError("A model with a vision encoder cannot be saved.")
  config = dataclasses.asdict(model.config)
  config["attention_types"] = [t.name for t in model.config.attention_types]
  config["query_pre_attn_norm"] = model.config.query_pre_attn_norm.name
  return {"dtype": str(jnp.dtype(model.dtype)), "config": config}


def _parse_model(described: Mapping[str, Any]) -> transformer.Transformer:
  """The inverse of `_describe_model`."""
  enums = gm.nn.config
  config = dict(described["config"])
  config["attention_types"] = tuple(
    enums.AttentionType[name] for name in config["attention_types"]
  )
  config["query_pre_attn_norm"] = enums.QueryPreAttentionNormalisation[
    config["query_pre_attn_norm"]
  ]
  return transformer.Transformer(
    config=enums.TransformerConfig(**config),
    dtype=jnp.dtype(described["dtype"]),
    tokens="batch.tokens",
  )
