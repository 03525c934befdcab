"""Copy words: the task that even a random policy earns something with.

A prompt is a few of eight words, the answer is to repeat them. The reward is
the fraction of places with the right word, of the prompt's or of the answer's
if that has more: so the rewards of a group differ from the first step on, and a
run without pretraining, data and a vocabulary has a gradient.
"""

import random
from collections.abc import Iterator

from pkpo_jax.tasks import base

WORDS = ("red", "green", "blue", "white", "one", "two", "three", "four")


class CopyWords(base.BaseTask):
  """Sequences of words, fixed by their seed.

  Attributes:
    words: the eight words, for a tokenizer.
    max_answer_words: how many words a prompt has.
  """

  def __init__(
    self,
    *,
    length: int = 4,
    num_train: int = 64,
    num_test: int = 16,
    seed: int = 0,
  ):
    """Draws the problems.

    Args:
      length: how many words a prompt has.
      num_train: how many training problems.
      num_test: how many held-out problems.
      seed: another seed, other problems.

    Raises:
      ValueError: a number is below 1.
    """
    if min(length, num_train, num_test) < 1:
      raise ValueError(
        f"length={length}, num_train={num_train} and num_test={num_test} must"
        " be at least 1."
      )
    self.words = WORDS
    self.max_answer_words = length
    rng = random.Random(seed)
    texts = [self._draw(rng) for _ in range(num_train + num_test)]
    problems = [
      base.Problem(id=str(i), prompt=text, tier=f"length={length}", data=text)
      for i, text in enumerate(texts)
    ]
    super().__init__(
      {"train": problems[:num_train], "test": problems[num_train:]}
    )

  def grade(self, problem: base.Problem, completion: str) -> base.Grade:
    """The fraction of places, of the longer of the two, with the right word."""
    given, sought = completion.split(), problem.data.split()
    if given == sought:
      return base.Grade(1.0, True, "right")
    right = sum(a == b for a, b in zip(given, sought))
    reward = right / max(len(given), len(sought))
    return base.Grade(reward, True, "partly right" if right else "wrong")

  def demonstrations(
    self, seed: int, *, wrong: float
  ) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs; a fraction `wrong` is answered at random.

    Args:
      seed: fixes the sequence.
      wrong: the fraction.
    """
    rng = random.Random(seed)
    while True:
      prompt = answer = self._draw(rng)
      if rng.random() < wrong:
        answer = self._draw(rng)
      yield prompt, answer

  def _draw(self, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=self.max_answer_words))
