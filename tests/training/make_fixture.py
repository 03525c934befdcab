"""Makes the run of this format that test_workdir.py continues.

Usage, once the format has risen, from the root of the repository:

  PYTHONPATH=.:tests python tests/training/make_fixture.py

It takes half a minute. The folder fixtures/formatN is to be committed.
"""

import pathlib
import shutil
import tempfile

import ml_collections
from helpers import tiny_config

from pkpo_jax.training import loop, workdir

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def get_config() -> ml_collections.ConfigDict:
  """Six steps of two minibatches, with k = 3 and then 1."""
  config = tiny_config.get_config()
  with config.unlocked():
    config.model.update(embed_dim=16, hidden_dim=32, num_heads=2)
    config.model.num_kv_heads = 1
  config.task.update(numbers=(2,), num_train=16, num_test=4)
  config.base.update(num_steps=300, batch_size=128, learning_rate=1e-2)
  config.update(num_steps=6, minibatches=2, logits_chunk=4)
  config.update(k_opt=(3, 1), k_boundaries=(5,), decay_steps=4)
  config.loss.update(entropy_coef=1e-3, kl_coef=0.0)
  config.eval.update(every=3, n=4, num_problems=4)
  config.checkpoint.every = 3
  return config


def main() -> None:
  """Trains to the end and keeps the checkpoint in the middle."""
  out = FIXTURES / f"format{workdir.FORMAT}"
  with tempfile.TemporaryDirectory() as folder:
    run = pathlib.Path(folder, "run")
    loop.train(get_config(), run, pathlib.Path(folder, "base"))
    shutil.rmtree(run / "checkpoints" / "6")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name in ("config.json", "metrics.jsonl"):
      shutil.copy(run / name, out)
    shutil.copytree(run / "checkpoints", out / "checkpoints")
  for mark in out.rglob("commit_success.txt"):  # orbax names the folder in it
    mark.write_text("made by make_fixture.py\n")
  print(f"Wrote {out}")


if __name__ == "__main__":
  main()
