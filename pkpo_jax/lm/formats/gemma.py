"""Checkpoints in gemma's own format: saved by this module, or published.

Names and shapes are checked first; then orbax reads or writes the arrays. A
checkpoint saved here has a model.json beside gemma's files, so that it loads
without being told which model it is of.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from etils import epath
from jax.experimental import multihost_utils
from orbax import checkpoint as ocp

from pkpo_jax.lm import models, transformer
from pkpo_jax.lm.formats import folder_kinds, param_trees, tensor_files
from pkpo_jax.lm.gemma_library import gm

_MODEL = "model.json"
_TABLE = "embedder/input_embedding"
_DAMAGED = "files of it are missing or damaged: download the whole folder anew"
_VISION = (
  "SigLiPFromPatches_0/",
  "vision_encoder/",
  "embedder/mm_input_projection",
  "embedder/mm_soft_embedding_norm",
)


def load_gemma(
  folder: str | os.PathLike,
  *,
  model: nn.Module | None = None,
  mesh: jax.sharding.Mesh | None = None,
  param_dtype: Any = "float32",
) -> tuple[nn.Module, models.Params]:
  """Loads a checkpoint of `save_gemma`, or one that Google published.

  Args:
    folder: a path, or the address of a published checkpoint, such as
      `gm.ckpts.CheckpointPath.GEMMA2_2B_IT`.
    model: the model that the checkpoint is of. By default the one that
      `save_gemma` described in it; for published checkpoints, which have no
      description, the preset of the same size, which computes in bfloat16.
    mesh: where to place the parameters, as in `load_huggingface`.
    param_dtype: the type the parameters are kept in.

  Returns:
    The model and its parameters.

  Raises:
    FileNotFoundError: there is no checkpoint.
    ValueError: the checkpoint is damaged; no preset has that size; or
      parameters are missing, left over or of another shape, which is found
      before any of them is read.
  """
  path = _absolute(folder)
  if not path.exists():
    raise FileNotFoundError(f"There is no folder {path}.")
  if path.is_file():
    raise FileNotFoundError(f"{path} is a file; give its folder.")
  found = _shapes_in(path)
  if model is None and (path / _MODEL).exists():
    model = _read_model(path / _MODEL)
  elif model is None:
    model = _preset(found)
  like = param_trees.placed_shapes(model, mesh, param_dtype)
  expected = param_trees.shapes_by_name(like)
  param_trees.check_same(expected, found, "The checkpoint")
  with _naming(path):
    return model, gm.ckpts.load_params(path, params=like)


@contextlib.contextmanager
def _naming(path: epath.Path) -> Iterator[None]:
  """A context in which what orbax raises names the checkpoint."""
  try:
    yield
  except (MemoryError, jax.errors.JaxRuntimeError):
    raise  # which are not about files
  except Exception as error:  # orbax raises nothing more specific
    first = str(error).partition("\n")[0][:200]
    raise ValueError(
      f"{path} can't be read; {_DAMAGED}. ({type(error).__name__}: {first})"
    ) from error


def _absolute(folder: str | os.PathLike) -> epath.Path:
  """Makes a path absolute, as orbax wants it; cloud addresses are already."""
  path = epath.Path(folder).expanduser()
  return path if path.is_absolute() else epath.Path(pathlib.Path.cwd()) / path


def _shapes_in(path: epath.Path) -> dict[str, tuple[int, ...]]:
  """Maps the model's names for its parameters to the shapes in a checkpoint.

  Published checkpoints have other names: "transformer/layer_0/mlp/linear/w".
  Those of multimodal models also have a vision tower, which is left out.
  """
  with _naming(path):
    metadata = ocp.StandardCheckpointer().metadata(path).item_metadata
  if metadata is None or not hasattr(metadata, "tree"):
    folder_kinds.refuse_other(path, "gemma")
    if any(path.glob("ocdbt.process_*")) or any(path.glob("*METADATA")):
      raise ValueError(f"{path} can't be read; {_DAMAGED}.")
    within = [x.parent for x in path.glob("*/_METADATA")]
    found = f" Give the one within it: {within[0]}." if within else ""
    raise FileNotFoundError(
      f"{path} holds no checkpoint of gemma's format.{found}"
    )
  shapes = {}
  for name, shape in param_trees.shapes_by_name(metadata.tree).items():
    name = name.removeprefix("transformer/")
    if name.startswith(_VISION):
      continue
    shapes[name.removesuffix("/w") if "/mlp/" in name else name] = shape
  if _TABLE not in shapes:
    folder_kinds.refuse_other(path, "gemma")
    raise ValueError(
      f"{path} has no {_TABLE}, and so is no checkpoint of a Gemma; it has"
      f" {', '.join(list(shapes)[:3])}."
    )
  return shapes


def _preset(found: param_trees.Shapes) -> nn.Module:
  """Finds the preset of that size, and gives it as many embeddings."""
  num_embed, width = found[_TABLE]
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
  """Saves a checkpoint that `gm.ckpts` and `load_gemma` can load.

  All processes have to call this.

  Args:
    model: a Transformer of text alone; its description is saved too.
    params: its parameters, saved in the type they have.
    folder: a new one.

  Raises:
    FileExistsError: the folder holds something.
    ValueError: the model is no Transformer of text alone, or the parameters
      are not those of the model.
  """
  param_trees.check_params(model, params)
  described = _describe_model(model)
  path = _absolute(folder)
  if jax.process_index() == 0:
    tensor_files.refuse_existing(path)
  gm.ckpts.save_params(params, path, wait_until_finished=True)
  if jax.process_index() == 0:
    tensor_files.write_json(path / _MODEL, described)
  multihost_utils.sync_global_devices("save_gemma")


def _describe_model(model: gm.nn.Transformer) -> dict[str, Any]:
  """Describes a model in JSON's types."""
  if model.config.vision_encoder is not None:
    raise ValueError("A model with a vision encoder cannot be saved.")
  config = dataclasses.asdict(model.config)
  config["attention_types"] = [t.name for t in model.config.attention_types]
  config["query_pre_attn_norm"] = model.config.query_pre_attn_norm.name
  return {"dtype": str(jnp.dtype(model.dtype)), "config": config}


def _read_model(file: epath.Path) -> transformer.Transformer:
  """Reads the model that `save_gemma` described in a file."""
  described = tensor_files.read_json(file)
  try:
    return _parse_model(described)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{file} describes no model ({type(error).__name__}: {error}): copy it"
      " again, or remove it and give model=."
    ) from error


def _parse_model(described: Mapping[str, Any]) -> transformer.Transformer:
  """Makes the model that `_describe_model` described."""
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
