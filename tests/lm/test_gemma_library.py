"""lm.gemma_library: gemma comes without TensorFlow, which stays importable."""

import importlib
import subprocess
import sys

import pytest

from pkpo_jax.lm import gemma_library

PROGRAM = """
import sys
import pkpo_jax.lm.formats.huggingface, pkpo_jax.training.loop
from pkpo_jax.lm import gemma_library
gemma_library.gm.nn.LoRA, gemma_library.gm.text.Gemma2Tokenizer
gemma_library.gm.math.apply_rope, gemma_library.gm.peft.merge_params
assert "kauldron.typing" in sys.modules
assert not {"tensorflow", "keras", "sklearn", "pandas"} & set(sys.modules)
"""


@pytest.mark.slow
def test_a_run_does_not_import_tensorflow():
  subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_the_placeholder_leaves_with_its_block():
  name = "a_library_that_is_not_there"
  with gemma_library.placeholder(name, Tensor=int):
    assert importlib.import_module(name).Tensor is int
  with pytest.raises(ModuleNotFoundError):
    importlib.import_module(name)


def test_what_has_been_imported_stays():
  with gemma_library.placeholder("subprocess", run=int):
    assert importlib.import_module("subprocess").run is not int
  assert sys.modules["subprocess"] is subprocess
