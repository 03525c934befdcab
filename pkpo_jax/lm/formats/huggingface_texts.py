"""Files about text in an export: the tokenizer, its template, its stop tokens.

An export is served as its policy was trained: with the same ids, the same frame
around a prompt, and the same tokens at the end of a completion.
"""

import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from pkpo_jax.lm import chat_template, tokenizer_config, tokenizers
from pkpo_jax.lm.formats import tensor_files

_GENERATION = "generation_config.json"  # which is about the model
_OF_TOKENIZER = {*tokenizer_config.FILES, "tokenizer.json", "tokenizer.model"}
_OF_TOKENIZER -= {"config.json", _GENERATION}


def stops(tokenizer: tokenizers.GemmaTokenizer) -> dict[str, Any]:
  """The key that says where a completion ends, as a tokenizer has it."""
  first, *more = tokenizer.stop_tokens
  return {"eos_token_id": [first, *more] if more else first}


def write(
  made: pathlib.Path,
  source: pathlib.Path | None,
  tokenizer: tokenizers.GemmaTokenizer | None,
) -> None:
  """Writes all files about text but config.json.

  Args:
    made: the folder of the export.
    source: the folder that the model came from, if it came from one.
    tokenizer: the one that the policy was trained with; None: the source's.
  """
  beside = tokenizer.said.folder if tokenizer else None
  _copy(beside or source, made, _OF_TOKENIZER)
  _copy(source or beside, made, [_GENERATION])
  if tokenizer is None:
    return
  vocabulary = tokenizer.vocabulary
  (made / vocabulary.file).write_bytes(vocabulary.content())
  if tokenizer.frame and _frame_of(made) != tokenizer.frame:
    template = made / "chat_template.jinja"
    template.write_text(chat_template.GEMMA_TEMPLATE, encoding="utf-8")
  if (made / _GENERATION).exists():
    generation = tensor_files.read_json(made / _GENERATION)
    tensor_files.write_json(made / _GENERATION, generation | stops(tokenizer))


def _copy(
  folder: pathlib.Path | None, made: pathlib.Path, names: Iterable[str]
) -> None:
  """Copies those of the files that are there."""
  for name in names:
    if folder is not None and (folder / name).exists():
      (made / name).parent.mkdir(exist_ok=True)
      shutil.copyfile(folder / name, made / name)


def _frame_of(folder: pathlib.Path) -> chat_template.Frame | None:
  """The frame of a folder's chat template; None if it gives none."""
  try:
    said = tokenizer_config.read(folder)
    return chat_template.find_frame(said.template or "", said.special)
  except ValueError:
    return None
