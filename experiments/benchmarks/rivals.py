"""The other contenders: google-tunix, in its own environment, and gemma."""

import enum
import json
import os
import pathlib
import subprocess
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import timing, tunix_environment, workloads
from pkpo_jax.lm import models
from pkpo_jax.lm.gemma_library import gm

_WORKER = pathlib.Path(__file__).with_name("tunix_worker.py")


class Worker:
  """A process that waits for its turns: it answers lines with lines."""

  def __init__(self, *command: str | pathlib.Path, **settings: str):
    """Starts a command, with settings added to its environment."""
    self._command = command
    self._process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      env=os.environ | settings,
    )

  def send(self, line: str) -> None:
    """Writes a line to it."""
    assert self._process.stdin
    self._process.stdin.write(line + "\n")
    self._process.stdin.flush()

  def answer(self, start: str) -> list[str]:
    """The words of its next line that starts so, after the first.

    Raises:
      RuntimeError: it has ended.
    """
    assert self._process.stdout
    for line in self._process.stdout:
      if line.startswith(start):
        return line.split()[1:]
    raise RuntimeError(
      f"{' '.join(map(str, self._command))} ended; run it by hand to see why:"
      " the lines it takes are in its docstring."
    )

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.wait()


class Tunix(Worker):
  """GRPO and sampling of google-tunix, see tunix_worker.py."""

  def __init__(self, workload: workloads.Workload, microbatch: int = 4):
    """Updates by that many prompts. Compiles nothing yet."""
    super().__init__(
      tunix_environment.python(), _WORKER, JAX_PLATFORMS=jax.default_backend()
    )
    spec = {
      "model": workloads.MODEL,
      "window": workloads.WINDOW,
      "micro_batch": microbatch,
    }
    self.send(json.dumps(workload._asdict() | spec))
    self.versions = " ".join(self.answer("ready"))

  def sample(self) -> float:
    """Seconds."""
    self.send("sample")
    return float(*self.answer("seconds"))

  def step(self, rate: float) -> dict[str, float]:
    """Seconds of a step of GRPO."""
    self.send(f"step {rate}")
    return {"seconds": float(*self.answer("seconds"))}


class GemmaSampler:
  """`gm.text.Sampler`, which returns no log-probs."""

  def __init__(self, workload: workloads.Workload):
    """Compiles nothing yet."""
    B, n, P, T, stop_tokens = workload
    ours = models.get_model(
      "gemma2_tiny",
      sliding_window_size=workloads.WINDOW,
      **workloads.MODEL,
    )
    self._sampler: Any = gm.text.Sampler(
      model=gm.nn.Transformer(
        config=ours.config, dtype=ours.dtype, tokens="batch.tokens"
      ),
      params=models.init_params(ours, jax.random.key(0)),
      tokenizer=_Numbers(),
      sampling=gm.text.RandomSampling(),
      stop_tokens=stop_tokens,
      cache_length=P + T,
      max_out_length=T,
      pad_length=P,
    )
    rng = np.random.default_rng(0)
    rows = rng.integers(3, workloads.MODEL["num_embed"], (B, P - 1))
    self._prompts = [" ".join(map(str, row)) for row in rows for _ in range(n)]
    self._turn = 0

  def sample(self) -> float:
    """Seconds."""
    self._turn += 1
    seconds, _ = timing.timed(
      lambda: self._sampler.sample(self._prompts, rng=self._turn)
    )
    return seconds


class _Numbers:
  """A tokenizer of numbers between spaces, as gemma's sampler wants it."""

  VERSION = None
  FORMAT = None
  FORBIDDEN_TOKENS = (0,)
  special_tokens = enum.IntEnum(
    "special_tokens",
    {
      "PAD": 0,
      "BOS": 2,
      "EOS": workloads.NEVER,
      "END_OF_TURN": workloads.NEVER + 1,
      "BEGIN_OF_TOOL_RESPONSE": workloads.NEVER + 2,
    },
  )

  def encode(self, text: str, *, add_bos: bool) -> list[int]:
    return [2] * add_bos + [int(word) for word in text.split()]

  def decode(self, ids: Any) -> str:
    return " ".join(map(str, np.asarray(ids).tolist()))
