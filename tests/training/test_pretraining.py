"""pkpo_jax.training.pretraining: a base policy is trained once."""

import errno
import fcntl
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import disks, tiny_config

from pkpo_jax.lm import logprobs, models, tokenizers
from pkpo_jax.training import build_run, pretraining

STEPS = 60


def make_config(**changes):
  config = tiny_config.get_config()
  config.update_from_flattened_dict(
    {
      "task.numbers": (2,),
      "model.num_layers": 1,
      "base.num_steps": STEPS,
      "base.learning_rate": 1e-2,
      "base.wrong": 0.0,
    }
    | changes
  )
  return config


def base_policy(config, folder):
  return pretraining.train_or_load(config, build_run.build(config), folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("base")
  return base_policy(make_config(), folder), folder


@pytest.fixture
def no_training(monkeypatch):
  """Training raises; so who gets there was not satisfied with the disk."""

  def refuse(*_):
    raise InterruptedError

  monkeypatch.setattr(pretraining, "_pretrain", refuse)


def nats_per_token(params, config):
  """Of demonstrated answers and EOS, other ones than were trained on."""
  parts = build_run.build(config)
  pairs = itertools.islice(parts.task.demonstrations(99, wrong=0.0), 200)
  tokenizer = parts.tokenizer
  prompts, answers = zip(
    *(
      (tokenizer.encode(prompt), [*tokenizer.encode_completion(answer), 1])
      for prompt, answer in pairs
    )
  )
  answers = tokenizers.pad(answers, config.max_new_tokens)[:, None]
  score = jax.jit(logprobs.completion_log_probs, static_argnums=0)
  log_probs, _ = score(
    parts.model,
    params,
    tokenizers.pad(prompts, config.max_prompt_tokens),
    np.array([len(prompt) for prompt in prompts]),
    answers,
    answers != 0,
    temperature=1.0,
  )
  return -np.sum(log_probs) / np.sum(answers != 0)


@pytest.mark.slow
def test_the_base_policy_has_learned_the_format(trained):
  """From log 105 = 4.7 nats; the format alone leaves (2 log 13 + log 3) / 4."""
  config = make_config()
  vocabulary = build_run.build(config).tokenizer.vocab_size
  assert math.log(vocabulary) > 4.6
  assert nats_per_token(trained[0], config) < 2.0


@pytest.mark.slow
def test_the_second_call_loads_the_same_bits(trained, no_training):
  params, folder = trained
  again = base_policy(make_config(), folder)
  assert jax.tree.structure(again) == jax.tree.structure(params)
  for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(params)):
    assert x.dtype == y.dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.slow
def test_the_words_it_has_learned_must_be_those_of_the_task(trained):
  """In their order, which that of a set is not."""
  config = make_config()
  parts = build_run.build(config)
  parts.task.words = parts.task.words[::-1]
  with pytest.raises(ValueError, match="has learned other words than"):
    pretraining.train_or_load(config, parts, trained[1])


@pytest.mark.slow
def test_the_config_lies_beside(trained):
  (path,) = trained[1].glob("*.json")
  described = json.loads(path.read_text())
  assert described["base"]["num_steps"] == STEPS
  assert (trained[1] / path.stem).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"learning_rate": 0.5},
    {"seed": 7},
    {"k_opt": (4,)},
    {"checkpoint.every": 1},
    {"loss.kl_coef": 0.1},
  ],
)
def test_what_does_not_matter_is_not_trained_anew(
  trained, no_training, changes
):
  base_policy(make_config(**changes), trained[1])


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"base.num_steps": STEPS + 1},
    {"base.seed": 7},
    {"base.wrong": 0.5},
    {"model.embed_dim": 40},
    {"task.seed": 3},
    {"task.numbers": (2, 3)},
    {"max_new_tokens": 7},
  ],
)
def test_another_config_is_trained_anew(trained, no_training, changes):
  with pytest.raises(InterruptedError):
    base_policy(make_config(**changes), trained[1])


@pytest.mark.slow
def test_a_training_that_diverges_is_an_error_and_leaves_nothing(
  tmp_path, monkeypatch
):
  def make_step(*_):
    return lambda params, opt_state, *_: (params, opt_state, np.float32(np.nan))

  monkeypatch.setattr(pretraining, "_make_step", make_step)
  with pytest.raises(FloatingPointError, match=r"learning_rate=0\.01"):
    base_policy(make_config(), tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.fixture
def quick(monkeypatch):
  """Random parameters in place of trained ones."""
  monkeypatch.setattr(
    pretraining,
    "_pretrain",
    lambda config, parts: models.init_params(parts.model, jax.random.key(0)),
  )


@pytest.mark.slow
def test_who_comes_second_takes_what_is_there(quick, tmp_path, monkeypatch):
  """Two runs of a sweep that finish the same base policy together.

  As they do where a file system has no locks; else the second waits.
  """
  config = make_config()

  def no_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", no_locks)
  train = pretraining._pretrain

  def slow(*arguments):
    monkeypatch.setattr(pretraining, "_pretrain", train)
    base_policy(config, tmp_path)  # another run, which is faster
    return jax.tree.map(lambda x: x + 1, train(*arguments))

  monkeypatch.setattr(pretraining, "_pretrain", slow)
  params = base_policy(config, tmp_path)
  (path,) = tmp_path.glob("*.json")
  assert sorted(tmp_path.iterdir()) == [path.with_suffix(""), path]
  again = base_policy(config, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, params, again)
  expected = train(config, build_run.build(config))
  jax.tree.map(np.testing.assert_array_equal, params, expected)


WRITERS = """
import pathlib, sys, time
import numpy as np
from pkpo_jax.training import pretraining
folder, start = pathlib.Path(sys.argv[1]), float(sys.argv[2])
pretraining._save(folder / "first", {"w": np.ones(3)}, "{}", ())  # imports all
time.sleep(max(0, start - time.time()))
for i in range(10):
  pretraining._save(folder / f"policy_{i}", {"w": np.ones(9999)}, "{}", ())
"""


@pytest.mark.verify("pkpo_jax/training/pretraining.py")
def test_many_write_the_same_policies_at_once(tmp_path):
  start = str(time.time() + 15)
  writers = [
    subprocess.Popen([sys.executable, "-c", WRITERS, str(tmp_path), start])
    for _ in range(2)
  ]
  assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
  names = ["first", *(f"policy_{i}" for i in range(10))]
  expected = sorted([*names, *(f"{name}.json" for name in names)])
  assert sorted(path.name for path in tmp_path.iterdir()) == expected
  for name in names[1:]:
    like = {"w": jax.ShapeDtypeStruct((9999,), np.float32)}
    params = pretraining._load(tmp_path / name, like, ())
    np.testing.assert_array_equal(params["w"], np.ones(9999))


def test_a_folder_that_cannot_be_written_is_found_before_training(
  no_training, tmp_path
):
  (tmp_path / "base").touch()  # no folder
  with pytest.raises(OSError, match=r"written to .*/base/.* --base_dir"):
    base_policy(make_config(), tmp_path / "base")


def test_a_full_disk_is_an_error_that_names_the_policy(quick, tmp_path):
  with disks.small(tmp_path / "disk", "100k") as folder:
    with pytest.raises(OSError, match=r"written to .*/disk/.* --base_dir"):
      base_policy(make_config(), folder)
    assert not list(folder.iterdir())


def flip(path):
  """One bit of it."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 16
  path.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, os.remove])
def test_no_damaged_policy_is_loaded(quick, damage, tmp_path):
  """Any file of it: an error that names it, or the numbers are right."""
  config = make_config()
  params = base_policy(config, tmp_path / "whole")
  (whole,) = [p for p in (tmp_path / "whole").iterdir() if p.is_dir()]
  errors = {}
  for i, path in enumerate(p for p in whole.rglob("*") if p.is_file()):
    copy = tmp_path / str(i) / whole.name
    shutil.copytree(whole, copy)
    damage(copy / path.relative_to(whole))
    try:
      found = base_policy(config, copy.parent)
    except ValueError as error:
      errors[copy] = str(error)
    else:
      jax.tree.map(np.testing.assert_array_equal, found, params)
  assert len(errors) > 2
  for copy, error in errors.items():
    assert f"The base policy {copy}" in error
    assert "is damaged. Delete this folder" in error or "other words" in error


@pytest.mark.slow
def test_no_policy_with_permuted_arrays_is_loaded(quick, tmp_path):
  config = make_config()
  params = base_policy(config, tmp_path)
  (path,) = [p for p in tmp_path.iterdir() if p.is_dir()]
  sums = (path / "checksums.json").read_text()
  shutil.rmtree(path)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, jax.tree.map(lambda x: x[::-1], params))
  (path / "checksums.json").write_text(sums)
  with pytest.raises(ValueError, match=r"is damaged\. Delete this folder"):
    base_policy(config, tmp_path)


def test_remains_of_killed_writers_go(quick, tmp_path):
  config = make_config()
  path = pretraining._path(
    tmp_path, pretraining._describe(config, build_run.build(config))
  )
  old, new = (tmp_path / f"{path.name}.{age}" for age in ("old", "new"))
  old.mkdir()
  new.mkdir()
  os.utime(old, (0, 0))
  base_policy(config, tmp_path)
  assert new.exists() and not old.exists()


def test_batches_hold_the_demonstrations_with_eos():
  config = make_config(**{"base.batch_size": 3})
  parts = build_run.build(config)
  prompts, lengths, answers = next(pretraining._batches(config, parts))
  pairs = parts.task.demonstrations(config.base.seed, wrong=config.base.wrong)
  for (prompt, answer), row, length, out in zip(
    itertools.islice(pairs, 3), prompts, lengths, answers, strict=True
  ):
    assert row[0] == 2 and np.all(row[length:] == 0)
    assert parts.tokenizer.decode(row[1:length]) == prompt
    end = len(answer.split())
    assert out[end] == 1 and np.all(out[end + 1 :] == 0)
    assert parts.tokenizer.decode(out[:end]) == answer
