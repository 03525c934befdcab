"""What the files beside a vocabulary say about prompts and their ends."""

import pathlib
from typing import Any, NamedTuple

from pkpo_jax.lm.formats import tensor_files

# What `read` looks at, beside a vocabulary; templates in their order.
_TEMPLATES = ("chat_template.jinja", "additional_chat_templates/default.jinja")
FILES = (
  *_TEMPLATES,
  "added_tokens.json",
  "chat_template.json",
  "config.json",
  "generation_config.json",
  "special_tokens_map.json",
  "tokenizer_config.json",
)
_SPECIAL = {
  "bos_token": "<bos>",
  "eos_token": "<eos>",
  "pad_token": "<pad>",
  "unk_token": "<unk>",
}


class Said(NamedTuple):
  """What a folder says about text.

  Attributes:
    stops: maps ids or pieces that end a completion to who names them.
    special: names of special tokens in templates, such as "bos_token", and
      their texts.
    added: ids and texts of tokens that were added to the vocabulary.
    template: a chat template in Jinja; None if there is none.
    begins: whether nothing speaks against beginning a text with BOS alone.
    folder: that folder; None where a vocabulary lies in none.
  """

  stops: dict[int | str, str]
  special: dict[str, str]
  added: dict[int, str]
  template: str | None = None
  begins: bool = True
  folder: pathlib.Path | None = None


def read(
  path: pathlib.Path | None,
  *,
  turns: bool = True,
  model: pathlib.Path | None = None,
) -> Said:
  """Reads the files beside a vocabulary, where there are any.

  Args:
    path: a vocabulary or the folder of one; None says nothing.
    turns: whether a chat template is looked for.
    model: the model's folder, which may be another: what its config.json and
      generation_config.json name ends a completion too.

  Raises:
    ValueError: a file is damaged, or has a value of the wrong kind; or there
      are chat templates, but none to take.
  """
  theirs = _stop_ids(model, str(model)) if model else {}
  if path is None:
    return Said(theirs, dict(_SPECIAL), {})
  folder = path if path.is_dir() else path.parent
  config = _json(folder / "tokenizer_config.json")
  tokens = _json(folder / "special_tokens_map.json")
  special = _SPECIAL | _special(config, tokens)
  return Said(
    theirs | _stops(folder, config, tokens),
    {name: text for name, text in special.items() if text},
    _added(folder, config),
    _template(folder, config) if turns else None,
    _begins(config, special["bos_token"]),
    folder,
  )


def _special(config: dict[str, Any], tokens: dict[str, Any]) -> dict[str, str]:
  """Names and texts of special tokens, as `transformers` gives to templates."""
  extra = config.get("extra_special_tokens")
  named = {
    **{x: y for x, y in config.items() if x.endswith("_token")},
    **(extra if isinstance(extra, dict) else {}),
    **tokens,
  }
  # add_bos_token and its like are no tokens, but flags.
  return {x: _text_of(y) for x, y in named.items() if not isinstance(y, bool)}


def _begins(config: dict[str, Any], bos: str) -> bool:
  """Whether nothing speaks against BOS; see `Said.begins`."""
  without = config.get("add_bos_token") is False or config.get("add_eos_token")
  return bos == _SPECIAL["bos_token"] and not without


def _json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object; an empty one if there is no file."""
  return tensor_files.read_json(path) if path.is_file() else {}


def _text_of(token: Any) -> str:
  """The text of a special token: a string, or an object with it; "" if null."""
  token = token.get("content") if isinstance(token, dict) else token
  return token if isinstance(token, str) else ""


def _stops(
  folder: pathlib.Path, config: dict[str, Any], tokens: dict[str, Any]
) -> dict[int | str, str]:
  """Tokens that end a completion, by id or by text."""
  stops = _stop_ids(folder)
  named = {"tokenizer_config.json": config, "special_tokens_map.json": tokens}
  for file, said in named.items():
    if eos := _text_of(said.get("eos_token")):
      stops.setdefault(eos, f"{file}, eos_token")
  return stops


def _stop_ids(folder: pathlib.Path, where: str = "") -> dict[int | str, str]:
  """Tokens that end a completion, as two files about the model name them."""
  stops: dict[int | str, str] = {}
  for file in ("config.json", "generation_config.json"):
    whole = _json(folder / file)
    text = whole.get("text_config")
    for part in (whole, text if isinstance(text, dict) else {}):
      ids = part.get("eos_token_id")
      for i in ids if isinstance(ids, list) else [ids]:
        if i is None:
          continue
        if isinstance(i, bool) or not isinstance(i, int):
          raise ValueError(f"{folder / file} has eos_token_id={ids!r}: no ids.")
        stops.setdefault(i, f"{pathlib.PurePath(where, file)}, eos_token_id")
  return stops


def _added(folder: pathlib.Path, config: dict[str, Any]) -> dict[int, str]:
  """Tokens that were added to the vocabulary, by id."""
  older, key = "added_tokens.json", "added_tokens_decoder"
  added = [(older, i, text) for text, i in _json(folder / older).items()]
  newer = config.get(key) or {}
  where = f"tokenizer_config.json, {key},"
  if not isinstance(newer, dict):
    raise ValueError(f"{folder / where} is no object: {newer!r}.")
  added += [(where, i, _text_of(token)) for i, token in newer.items()]
  for file, i, text in added:
    if isinstance(i, bool) or not str(i).isdecimal():
      raise ValueError(
        f"{folder / file} gives {text!r} the id {i!r}, which is none: copy the"
        " file again, or save the tokenizer anew with transformers."
      )
  return {int(i): text for _, i, text in added}


def _template(folder: pathlib.Path, config: dict[str, Any]) -> str | None:
  """The chat template, from the first place that `transformers` looks in."""
  for file in _TEMPLATES:
    if (folder / file).is_file():
      return (folder / file).read_text(encoding="utf-8")
  said = {
    "tokenizer_config.json": config,
    "chat_template.json": _json(folder / "chat_template.json"),
  }
  for file, values in said.items():
    if template := values.get("chat_template"):
      return _default_of(template, folder / file)
  return None


def _default_of(template: Any, path: pathlib.Path) -> str:
  """The template of a text, of name -> text, or of a list of names and texts.

  Raises:
    ValueError: it has none that is named "default".
  """
  if isinstance(template, list):
    some = [x for x in template if isinstance(x, dict)]
    template = {x.get("name"): x.get("template") for x in some}
  if isinstance(template, dict):
    names = ", ".join(map(str, template)) or "none"
    template = template.get("default")
  else:
    names = repr(template)
  if not isinstance(template, str):
    raise ValueError(
      f"{path} has no chat_template with the name 'default' (it has {names});"
      f" write the one to use to {path.with_name(_TEMPLATES[0])}."
    )
  return template
