"""Names of tensors in Hugging Face's folders: which belong to the text model.

The same weights come under several names: with what wrapped the model when it
was saved, out of a multimodal model, or without the model around the layers.
Some tensors are no part of a text model, or say what another one says.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pkpo_jax.lm.formats import tensor_files

_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
# What torch.compile, DataParallel, FSDP and remat put around a module.
_WRAPPERS = re.compile(
  r"(?<![^.])(?:_orig_mod|module|_fsdp_wrapped_module"
  r"|_checkpoint_wrapped_module)\."
)
_OUTER = re.compile(
  r"(?:base_model\.model\.)?(?:language_model\.(?=lm_head\.))?"
)
_TOWER = re.compile(
  r"(?:model\.language_model|language_model\.model|language_model)\."
  r"|(?=(?:layers|embed_tokens|norm)\.)"
)
_VISION = re.compile(r"(?:model\.)?(?:vision_tower|multi_modal_projector)\.")
_ADAPTER = re.compile(r"\.(?:lora_|base_layer\.|modules_to_save\.)")


class Chosen(NamedTuple):
  """The tensors of a text model in a folder.

  Attributes:
    tensors: maps names as `transformers` has them to stored tensors.
    ignored: maps names in the files to why these tensors are not read.
  """

  tensors: dict[str, Any]
  ignored: dict[str, str]


def canonical(name: str) -> str:
  """Maps a tensor's name in a file to the one that `transformers` has."""
  name = _OUTER.sub("", _WRAPPERS.sub("", name), count=1)
  return _TOWER.sub("model.", name, count=1) if _TOWER.match(name) else name


def choose(stored: Mapping[str, Any], *, tied: bool) -> Chosen:
  """Chooses the tensors of a text model.

  Args:
    stored: maps names in the files to stored tensors.
    tied: whether config.json says that the head is the table of embeddings.

  Raises:
    ValueError: the tensors are those of an adapter, two names of the same
      tensor have different values, or the head is not the table.
  """
  chosen = Chosen({}, {})
  names: dict[str, str] = {}
  for name, tensor in stored.items():
    if _ADAPTER.search(name):
      raise ValueError(f"{name} is part of an adapter. {MERGE}")
    known = canonical(name)
    if name.endswith("rotary_emb.inv_freq"):
      chosen.ignored[name] = "computed from config.json"
    elif _VISION.match(known):
      chosen.ignored[name] = "of the vision tower; text alone is read"
    elif known not in names:
      names[known], chosen.tensors[known] = name, tensor
    elif tensor_files.same_values(chosen.tensors[known], tensor):
      chosen.ignored[name] = f"equal to {names[known]}"
    else:
      raise ValueError(
        f"{names[known]} and {name} are the same tensor with different"
        " values; remove the one that is not the model's."
      )
  _tie(chosen, names, tied=tied)
  return chosen


MERGE = (
  "Merge it into its base with PEFT, model.merge_and_unload()"
  ".save_pretrained(NEW), and load that folder; or move the adapter's files"
  " away to load the base alone."
)


def _tie(chosen: Chosen, names: Mapping[str, str], *, tied: bool) -> None:
  """Takes out the head, which has to be the table of embeddings."""
  tensors = chosen.tensors
  head = tensors.pop(_HEAD, None)
  if head is None:
    if not tied:
      raise ValueError(
        "config.json has tie_word_embeddings=False, but there is no"
        f" {_HEAD}: set it to true if the model was trained so."
      )
  elif _TABLE not in tensors and tied:
    tensors[_TABLE] = head
  elif _TABLE in tensors:
    if not tensor_files.same_values(tensors[_TABLE], head):
      raise ValueError(
        f"{names[_HEAD]} differs from {names[_TABLE]}: gemma has one table for"
        " both, so this model cannot be read."
      )
    chosen.ignored[names[_HEAD]] = f"equal to {names[_TABLE]}"
