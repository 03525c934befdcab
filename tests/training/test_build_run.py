"""training.build_run: the parts fit together, or it says what does not."""

import pytest
from helpers import tiny_config

from pkpo_jax.training import build_run


def make_config(**changes):
  config = tiny_config.get_config()
  config.update_from_flattened_dict(changes)
  return config


def test_the_model_has_a_row_for_every_word():
  parts = build_run.build(make_config())
  assert parts.tokenizer.vocab_size == 3 + len(parts.task.words)
  assert parts.model.config.num_embed == parts.tokenizer.vocab_size
  assert parts.model.config.embed_dim == 32
  assert len(parts.task.problems("train")) == 8


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"max_prompt_tokens": 5}, r"4 of 8 train .*max_prompt_tokens=5.* has 6"),
    ({"max_prompt_tokens": 4, "long_prompts": "drop"}, "No train prompt fits"),
    ({"tokenizer.name": "gemma2"}, "'gemma2' does not go .* needs 'words'"),
    ({"max_new_tokens": 5}, "max_new_tokens=5 is too small.*5 words"),
    ({"task.name": "sudoku"}, "Unknown task 'sudoku'"),
    ({"model.name": "llama"}, "Unknown model 'llama'"),
    ({"task.numbers": (1,)}, "2..6"),
  ],
)
def test_what_does_not_fit_is_an_error(changes, message):
  with pytest.raises(ValueError, match=message):
    build_run.build(make_config(**changes))


def test_a_missing_file_names_the_task_that_wants_it(tmp_path):
  config = tiny_config.get_config()
  with config.unlocked():
    config.task = {"name": "gsm8k", "path": str(tmp_path / "absent")}
  with pytest.raises(ValueError, match=r"config.task \(name='gsm8k'\).*absent"):
    build_run.build(config)
