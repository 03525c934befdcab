"""Forms that a model folder has: right ones, wrong ones, each its own cause.

A form is a tiny checkpoint of `transformers` that a function edits. FORMS says
of each what has to become of it.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from helpers import gemma_fixtures, templates, vocabulary

TABLE, HEAD, NORM = (
  "model.embed_tokens.weight",
  "lm_head.weight",
  "model.norm.weight",
)
INDEX = "model.safetensors.index.json"
TAGS = ("<|im_start|>", "<|im_end|>")
ROWS = 272  # of a table that has a row for each id of the tiny vocabulary


class Box:
  """A folder in the making.

  Attributes:
    files: each file's tensors; most forms have one file.
    config: config.json.
    texts: contents of other files by name, JSON values or bytes.
  """

  def __init__(self, base: str, *, text: bool = False):
    fixture = gemma_fixtures.FOLDER / base
    self.files = {"model.safetensors": gemma_fixtures.read_tensors(fixture)}
    self.config = json.loads((fixture / "config.json").read_text())
    self.config["dtype"] = "float32"
    self.texts: dict[str, Any] = {}
    self.tokens: dict[str, Any] | None = {} if text else None
    if text:
      width = self.tensors[TABLE].shape[1]
      rng = np.random.default_rng(0)
      self.tensors[TABLE] = 0.3 * rng.standard_normal(
        (ROWS, width), dtype=np.float32
      )
      self.config["vocab_size"] = ROWS

  @property
  def tensors(self) -> dict[str, np.ndarray]:
    return self.files["model.safetensors"]

  def rename(self, rule: Callable[[str], str]) -> None:
    for name in list(self.tensors):
      self.tensors[rule(name)] = self.tensors.pop(name)

  def split(self, *, index: bool = True) -> tuple[str, str]:
    """Into two shards; returns their names."""
    names = sorted(self.tensors)
    files = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    whole = self.files.pop("model.safetensors")
    for file, half in zip(files, halves):
      self.files[file] = {name: whole[name] for name in half}
    if index:
      weights = {n: file for file, half in zip(files, halves) for n in half}
      self.texts[INDEX] = {"metadata": {}, "weight_map": weights}
    return files[0], files[1]

  def save(self, path: pathlib.Path) -> None:
    path.mkdir(parents=True)
    for file, tensors in self.files.items():
      tensors = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
      safetensors.numpy.save_file(tensors, path / file, {"format": "pt"})
    for file, content in {"config.json": self.config, **self.texts}.items():
      if isinstance(content, str):
        content = content.encode()
      if not isinstance(content, bytes):
        content = json.dumps(content).encode()
      (path / file).write_bytes(content)
    if self.tokens is not None:
      vocabulary.make_huggingface(path, **self.tokens)


class Form(NamedTuple):
  """A form, and what has to become of it.

  Attributes:
    edit: makes it of a copy of `base`.
    base: "gemma2" or "gemma3".
    refusal: what the error says; "" where it has to be read, as `transformers`
      reads it.
    silent: whether a loader that looks at the tensors and at the sizes in
      config.json alone would read something else, without a word.
    like: the form that `transformers` is asked about instead of one that it
      cannot read.
    turns: whether prompts are turns; None for a folder without a tokenizer.
  """

  edit: Callable[[Box], Any]
  base: str = "gemma3"
  refusal: str = ""
  silent: bool = False
  like: str = ""
  turns: bool | None = None

  def save(self, path: pathlib.Path) -> None:
    """Writes the folder."""
    box = Box(f"{self.base}_tiny", text=self.turns is not None)
    self.edit(box)
    box.save(path)


def config(*drop: str, **changes: Any) -> Callable[[Box], Any]:
  """Drops keys of config.json, and sets others."""

  def edit(box: Box) -> None:
    for key in drop:
      box.config.pop(key)
    box.config |= changes

  return edit


def old_rope(**changes: Any) -> Callable[[Box], Any]:
  """The positions of Gemma 3 as older versions say them."""
  return config("rope_parameters", rope_theta=1e6, **changes)


def both(*edits: Callable[[Box], Any]) -> Callable[[Box], Any]:
  return lambda box: [edit(box) for edit in edits]


def renamed(rule: Callable[[str], str]) -> Callable[[Box], Any]:
  return lambda box: box.rename(rule)


def added(name: str, tensor: np.ndarray) -> Callable[[Box], Any]:
  return lambda box: box.tensors.update({name: np.float32(tensor)})


def copied(name: str, new: str, step: float = 0) -> Callable[[Box], Any]:
  return lambda box: box.tensors.update(
    {new: box.tensors[name] + np.float32(step)}
  )


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Box], Any]:
  return lambda box: box.tensors.update({name: change(box.tensors[name])})


def without(name: str) -> Callable[[Box], Any]:
  return lambda box: box.tensors.pop(name)


def as_type(dtype: Any, name: str) -> Callable[[Box], Any]:
  def edit(box: Box) -> None:
    for tensor, x in box.tensors.items():
      box.tensors[tensor] = x.astype(dtype)
    box.config["dtype"] = name

  return edit


def whole(box: Box) -> None:
  """The text tower of a multimodal folder, as they were published."""
  box.rename("language_model.{}".format)
  for name in ("vision_tower.embeddings", "multi_modal_projector.norm"):
    box.tensors[f"{name}.weight"] = np.ones(16, np.float32)
  text = box.config
  box.config = {"model_type": "gemma3", "text_config": text, "dtype": "float32"}


def newer_whole(box: Box) -> None:
  whole(box)
  box.rename(
    lambda x: x.replace("language_model.model", "model.language_model")
  )


def one_shard_less(box: Box) -> None:
  del box.files[box.split()[1]]


def twice(step: float) -> Callable[[Box], Any]:
  """The last norm stands in both shards, and the index names the first."""

  def edit(box: Box) -> None:
    files = box.split()
    (right,) = (file for file in files if NORM in box.files[file])
    (other,) = (file for file in files if file != right)
    box.files[other][NORM] = box.files[right][NORM] + np.float32(step)

  return edit


def two_sets(step: float) -> Callable[[Box], Any]:
  """Shards with their index beside one file."""

  def edit(box: Box) -> None:
    tensors = dict(box.tensors)
    box.split()
    box.files["model.safetensors"] = {
      name: x + np.float32(step) for name, x in tensors.items()
    }

  return edit


def old_part(box: Box) -> None:
  """A shard of an earlier export beside one file."""
  tensors = {NORM: box.tensors[NORM] + 1}
  box.files["model-00002-of-00003.safetensors"] = tensors


def beside(**texts: Any) -> Callable[[Box], Any]:
  return lambda box: box.texts.update(texts)


def instead(name: str, content: bytes) -> Callable[[Box], Any]:
  """Another file in the place of the tensors'."""

  def edit(box: Box) -> None:
    box.files.clear()
    box.texts[name] = content

  return edit


def cut(box: Box) -> None:
  file = safetensors.numpy.save(box.files.pop("model.safetensors"))
  box.texts["model.safetensors"] = file[:-64]


def said(**changes: Any) -> Callable[[Box], Any]:
  """A tokenizer_config.json with these values, beside Gemma's template."""
  values = SPECIAL | {"chat_template": templates.GEMMA} | changes
  return beside(**{"tokenizer_config.json": values})


def tags(*pieces: str) -> Callable[[Box], Any]:
  def edit(box: Box) -> None:
    box.tokens = {"beyond": pieces}
    said()(box)

  return edit


def chat(template: str, *, special: bool = True) -> Callable[[Box], Any]:
  """A fine-tune with tags and a template of its own."""

  def edit(box: Box) -> None:
    turns = (*vocabulary.TURNS, *TAGS)
    box.tokens = {"beyond": TAGS} if special else {"turns": turns}
    said(eos_token=TAGS[1], chat_template=template)(box)

  return edit


SPECIAL = {
  "tokenizer_class": "PreTrainedTokenizerFast",
  "bos_token": "<bos>",
  "eos_token": "<eos>",
  "pad_token": "<pad>",
  "unk_token": "<unk>",
}
