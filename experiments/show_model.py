"""Says what is in a model folder, before a run of hours.

Example:
  python -m experiments.show_model --path=weights/gemma-3-1b-it --try="2 + 2 ="

Reads the headers of a Hugging Face folder alone: the architecture, what is
stored and what it is computed in, the vocabulary, the tokens that end a
completion, what is put around a prompt, and what of the folder is not read and
why. With --try, loads the parameters and samples ten greedy tokens.
"""

import argparse
import collections
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from experiments import command_line

if TYPE_CHECKING:
  from pkpo_jax.lm import tokenizers
  from pkpo_jax.lm.formats import huggingface

_NEW_TOKENS = 10
_GREEDY = 1e-4  # a temperature that leaves all to the likeliest token


def describe(
  path: pathlib.Path, turns: bool | None = None
) -> tuple[list[str], "tokenizers.GemmaTokenizer | None"]:
  """Describes a folder.

  Args:
    path: a Hugging Face folder.
    turns: whether prompts are turns; by default where there is a chat template.

  Returns:
    Lines for people; and the folder's tokenizer, if it has one.

  Raises:
    OSError, ValueError: the model or the tokenizer cannot be read.
  """
  from pkpo_jax.lm import models
  from pkpo_jax.lm.formats import huggingface

  with huggingface.open_checkpoint(path) as opened:
    lines = [f"{name:<12}{text}" for name, text in _of_model(opened)]
    rows, family = opened.model.config.num_embed, models.family(opened.model)
  tokenizer = _tokenizer(path, turns)
  if tokenizer is None:
    return [*lines, f"{'tokenizer':<12}none in this folder"], None
  lines += [f"{name:<12}{text}" for name, text in _of_text(path, tokenizer)]
  if tokenizer.vocab_size > rows:
    lines.append(
      f"{'':<12}{tokenizer.vocab_size - rows:,} of its ids have no embedding:"
      " this is not the model's tokenizer"
    )
  if tokenizer.family not in (None, family):
    lines.append(
      f"{'':<12}it is the vocabulary of {tokenizer.family}, and the model a"
      f" {family}: their ids differ, this is not the model's tokenizer"
    )
  return lines, tokenizer


def _of_model(opened: "huggingface.Checkpoint") -> Iterator[tuple[str, str]]:
  """What there is to say about a model and its tensors."""
  from pkpo_jax.lm import models

  model = opened.model
  config = model.config
  count = models.num_params(models.abstract_params(model))
  kinds = collections.Counter(x.name for x in config.attention_types)
  yield "model", f"{_name(model)}, {count:,} parameters"
  yield (
    "layers",
    f"{config.num_layers} ({_counted(kinds)}, window"
    f" {config.sliding_window_size}), width {config.embed_dim}, hidden"
    f" {config.hidden_dim}, {config.num_heads} heads and"
    f" {config.num_kv_heads} for keys and values, of {config.head_dim}",
  )
  factor = config.global_scale_factor
  yield (
    "positions",
    f"base {config.local_base_frequency:,.0f} local,"
    f" {config.global_base_frequency:,.0f} global; global ones divided by"
    f" {factor or 1:g}",
  )
  stored = collections.Counter(x.get_dtype() for x in opened.tensors.values())
  yield "stored as", _counted(stored)
  yield "computed in", f"{model.dtype} (config.model.dtype may change it)"
  yield "embeddings", f"{config.num_embed:,} rows"
  for why, names in _by_reason(opened.ignored).items():
    yield "not read", f"{len(names)} tensors, {why}: {', '.join(names[:3])}"


def _name(model: Any) -> str:
  """The preset that has the model's size, or its family."""
  from pkpo_jax.lm import models

  rows = model.config.num_embed
  for name in models.PRESETS:
    if models.get_model(name, num_embed=rows).config == model.config:
      return f"config.model.name={name!r}, config.model.num_embed={rows}"
  return f"a {models.family(model)} of no preset's size"


def _counted(counts: Mapping[str, int]) -> str:
  """For example "5 LOCAL_SLIDING, 1 GLOBAL"."""
  return ", ".join(f"{n} {name}" for name, n in counts.items())


def _by_reason(ignored: Mapping[str, str]) -> dict[str, list[str]]:
  """Groups what is not read by the reason."""
  reasons = collections.defaultdict(list)
  for name, why in ignored.items():
    reasons[why].append(name)
  return reasons


def _tokenizer(
  path: pathlib.Path, turns: bool | None
) -> "tokenizers.GemmaTokenizer | None":
  """Loads the folder's tokenizer, if it has one."""
  from pkpo_jax.lm import tokenizer_config, tokenizers

  if turns is None:
    turns = tokenizer_config.read(path).template is not None
  if (path / "tokenizer.json").exists():
    return tokenizers.get_tokenizer("huggingface", path=path, turns=turns)
  if (path / "tokenizer.model").exists():
    file = path / "tokenizer.model"
    return tokenizers.get_tokenizer("gemma3", path=file, turns=turns)
  return None


def _of_text(
  path: pathlib.Path, tokenizer: "tokenizers.GemmaTokenizer"
) -> Iterator[tuple[str, str]]:
  """What there is to say about prompts and their ends."""
  from pkpo_jax.lm import tokenizer_config

  yield "tokenizer", f"{tokenizer.vocab_size:,} ids"
  named = "; ".join(
    f"{stop} in {who}"
    for stop, who in tokenizer_config.read(path, turns=False).stops.items()
  )
  stops = ", ".join(map(str, tokenizer.stop_tokens))
  yield "stops at", f"{stops} ({named or 'none named, so those of Gemma'})"
  if tokenizer.frame is None:
    yield "prompts", "plain text after <bos> (config.tokenizer.turns=False)"
    return
  whose = "its chat template"
  if tokenizer_config.read(path).template is None:
    whose = "Gemma, since there is no chat template"
  example = f"{tokenizer.frame.before}What is 2 + 2?{tokenizer.frame.after}"
  yield "prompts", f"turns (config.tokenizer.turns=True), as {whose} has them:"
  for line in example.split("\n"):
    yield "", f"| {line}"


def answer(
  path: pathlib.Path, tokenizer: "tokenizers.GemmaTokenizer", text: str
) -> str:
  """Samples ten greedy tokens after a prompt.

  Raises:
    ValueError: the prompt has ids that the model has no embedding for.
  """
  import jax
  import numpy as np

  from pkpo_jax.lm import formats, sampler
  from pkpo_jax.lm.formats import huggingface

  with huggingface.open_checkpoint(path) as opened:
    dtype = opened.model.dtype  # what is kept need be no more than is computed
  model, params = formats.load_huggingface(path, param_dtype=dtype)
  ids = tokenizer.encode(text)
  completions = sampler.sample(
    model,
    params,
    np.array([ids], np.int32),
    np.array([len(ids)], np.int32),
    jax.random.key(0),
    n=1,
    max_new_tokens=_NEW_TOKENS,
    temperature=_GREEDY,
    stop_tokens=tokenizer.stop_tokens,
  )
  if not np.isfinite(completions.log_probs).all():
    raise ValueError(f"{path} has log-probs that are not finite.")
  return tokenizer.decode(np.asarray(completions.tokens)[0, 0].tolist())


def main() -> None:
  """Describes a folder, and tries it if asked to."""
  parser = command_line.parser(__doc__)
  add = parser.add_argument
  add("--path", type=command_line.path, required=True, help="a model folder")
  add(
    "--turns",
    action=argparse.BooleanOptionalAction,
    help="prompts are turns (default: where there is a chat template)",
  )
  add("--try", dest="text", metavar="TEXT", help="ten greedy tokens after TEXT")
  args = command_line.parse(parser)
  with command_line.mistakes(parser):
    lines, tokenizer = describe(args.path, args.turns)
    print("\n".join(lines))
    if args.text is not None:
      if tokenizer is None:
        raise ValueError(f"--try needs a tokenizer, and {args.path} has none.")
      print(f"{'answer':<12}{answer(args.path, tokenizer, args.text)!r}")


if __name__ == "__main__":
  main()
