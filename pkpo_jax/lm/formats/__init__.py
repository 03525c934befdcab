"""Parameters in and out of files: one module for each format.

`load_huggingface`, `save_huggingface`, `load_gemma` and `save_gemma` are the
public names. They are imported when they are first used, because they need
gemma and orbax, which take seconds to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from pkpo_jax.lm.formats.gemma import load_gemma, save_gemma
  from pkpo_jax.lm.formats.huggingface import load_huggingface, save_huggingface

__all__ = ("load_gemma", "load_huggingface", "save_gemma", "save_huggingface")


def __getattr__(name: str) -> Any:
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  module = importlib.import_module(f"{__name__}.{name.split('_')[1]}")
  return getattr(module, name)
