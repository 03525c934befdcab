"""What a folder holds that is none of the kind that was asked for."""

import pathlib

from etils import epath

# What each kind of folder holds, and the `config.base.source` that reads it.
_RUN = ("starts.jsonl",)
_HUGGINGFACE = ("config.json", "*.safetensors")
_GEMMA = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")

_CONVERT = (
  "where you trust it, transformers converts it: AutoModelForCausalLM"
  ".from_pretrained(FOLDER{}).save_pretrained(NEW)"
)
# Weights in other forms than safetensors, and what to do with them.
_OTHER_WEIGHTS = (
  (
    ("zero_to_fp32.py", "global_step*", "*/global_step*"),
    "a checkpoint of DeepSpeed is not read; its zero_to_fp32.py makes weights"
    " of it, with --safe_serialization",
  ),
  (
    ("*.gguf",),
    "GGUF is not read; take the safetensors that it was made from, or "
    + _CONVERT.format(", gguf_file=..."),
  ),
  (
    ("*.msgpack", "*.h5"),
    "weights of Flax or Keras are not read; take the model's safetensors",
  ),
  (
    ("*.distcp", "*/*.distcp"),
    "a distributed checkpoint of PyTorch is not read; save it with"
    " save_pretrained in what trained it",
  ),
  (
    ("*.bin", "*.pth", "*.pt", "*.ckpt"),
    "pickled weights are not read; " + _CONVERT.format(""),
  ),
)


def _holds(folder: pathlib.Path | epath.Path, names: tuple[str, ...]) -> bool:
  return any(any(folder.glob(name)) for name in names)


def refuse_other(folder: pathlib.Path | epath.Path, wanted: str) -> None:
  """Raises ValueError for a folder that another `config.base.source` reads.

  Args:
    folder: where a model was looked for.
    wanted: "huggingface" or "gemma".
  """
  line = [folder, *folder.parents]
  for above in line[:4]:
    within = above == folder or above / "checkpoints" in line
    if within and _holds(above, _RUN):
      raise ValueError(
        f"{folder} is of a training run: set config.base.source='run' and"
        f" config.base.path={above}, or make a model folder of it with"
        " experiments.export."
      )
  kinds = {"huggingface": _HUGGINGFACE, "gemma": _GEMMA}
  if _holds(folder, kinds.pop(wanted)):
    return
  ((other, names),) = kinds.items()
  if _holds(folder, names):
    whose = (
      "Hugging Face's" if other == "huggingface" else "the gemma package's"
    )
    raise ValueError(
      f"{folder} is a folder of {whose}: set config.base.source={other!r}, or"
      f" load it with load_{other}."
    )


def other_weights(folder: pathlib.Path) -> str:
  """What to do with weights that are no safetensors; "" if there are none."""
  for names, remedy in _OTHER_WEIGHTS:
    if _holds(folder, names):
      return f" {remedy[0].upper()}{remedy[1:]}."
  return ""
