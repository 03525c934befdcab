"""Gemma's library, imported without TensorFlow.

Gemma names its arrays by `kauldron.typing`, which imports TensorFlow, and with
it Keras, for the annotation `tf.Tensor` alone: ten of the thirteen seconds that
a start would take. TensorFlow itself stays importable for whoever uses it.
"""

import contextlib
import sys
import types
from collections.abc import Iterator


@contextlib.contextmanager
def placeholder(name: str, **attributes: type) -> Iterator[None]:
  """Puts a module of these attributes in place of one not imported yet."""
  if name in sys.modules:
    yield
    return
  sys.modules[name] = module = types.ModuleType(name)
  vars(module).update(attributes)
  try:
    yield
  finally:
    del sys.modules[name]


with placeholder("tensorflow", Tensor=type("Tensor", (), {})):
  import kauldron.typing  # noqa: F401

from gemma import gm  # noqa: E402

__all__ = ["gm"]
