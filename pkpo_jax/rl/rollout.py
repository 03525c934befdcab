"""Problems -> Rollout: encode, sample, decode, grade."""

import json
import time
from collections.abc import Callable, Sequence

import chex
import flax.linen as nn
import flax.struct
import jax
import numpy as np

from pkpo_jax import multihost
from pkpo_jax.lm import models, sampler, stop_strings, tokenizers
from pkpo_jax.tasks import base


@flax.struct.dataclass
class Rollout:
  """n graded completions of each of B problems.

  Attributes:
    prompts: [B, P] int32, padded at the right.
    prompt_lengths: [B] int32.
    completions: tokens, log-probs, entropy and mask; each [B, n, T].
    rewards: [B, n] float32.
    valid: [B, n] bool, False where grading itself failed.
    truncated: [B, n] bool, True where a completion was cut off at T tokens.
  """

  prompts: chex.Array
  prompt_lengths: chex.Array
  completions: sampler.Completions
  rewards: chex.Array
  valid: chex.Array
  truncated: chex.Array


def samples_that_count(some: Rollout, mask_truncated: bool) -> chex.Array:
  """[B, n] bool: the others are as if they had never been drawn."""
  return some.valid & ~some.truncated if mask_truncated else some.valid


_TRUNCATED = base.Grade(0.0, True, "truncated")

# What a worker returns: a rollout, the reasons [B][n] of its grades, which are
# text and so no arrays for devices, and seconds by phase.
Rolled = tuple[Rollout, list[list[str]], dict[str, float]]


class RolloutWorker:
  """Samples and grades with one model, tokenizer and task."""

  def __init__(
    self,
    model: nn.Module,
    tokenizer: tokenizers.Tokenizer,
    task: base.Task,
    *,
    max_prompt_tokens: int,
    max_new_tokens: int,
    temperature: float,
    stop: Sequence[str] = (),
    truncated_is_wrong: bool = False,
    top_p: float | None = None,
  ):
    """Keeps what is the same in every step, so that nothing recompiles.

    Args:
      model: the policy.
      tokenizer: for prompts and completions.
      task: grades the completions.
      max_prompt_tokens: P.
      max_new_tokens: T.
      temperature: of sampling; 0 is greedy, see `sampler.sample`.
      stop: strings that end a completion beside those of the task. They and
        what follows are left out of the text that is graded.
      truncated_is_wrong: whether a completion that was cut off has reward 0,
        whatever the task says.
      top_p: of sampling, see `sampler.sample`; training has none.
    """
    self._model, self._tokenizer, self._task = model, tokenizer, task
    self._stop = (*base.stop_strings(task), *stop)
    self._stop_table = None
    if self._stop:
      self._stop_table = stop_strings.stop_table(
        tokenizer, self._stop, model.config.num_embed
      )
    self._truncated_is_wrong = truncated_is_wrong
    self._max_prompt_tokens = max_prompt_tokens
    self._max_new_tokens = max_new_tokens
    self._temperature, self._top_p = temperature, top_p

  def __call__(
    self,
    params: models.Params,
    problems: Sequence[base.Problem],
    key: chex.PRNGKey,
    *,
    n: int,
  ) -> Rolled:
    """Samples n answers to each problem and grades them.

    Args:
      params: parameters of the model.
      problems: B problems.
      key: one key; [B] keys, one for each problem; or [B, n] keys, one for each
        answer; see `sampler.sample`.
      n: answers per problem.

    Returns:
      The rollout and the reasons of its grades, whole on every host; and the
      seconds spent in sampling and grading. Each process grades its own share
      of the answers; what could not be graded, once more.

    Raises:
      ValueError: a prompt is longer than `max_prompt_tokens`, or the task gave
        a reward that is not finite to an answer that it calls valid.
      FloatingPointError: the policy is not finite.
    """
    return self.start(params, problems, key, n=n)()

  def start(
    self,
    params: models.Params,
    problems: Sequence[base.Problem],
    key: chex.PRNGKey,
    *,
    n: int,
  ) -> Callable[[], Rolled]:
    """Starts to sample; the function that it returns waits, and grades.

    Between the two, the devices work while the host is free: to grade what was
    sampled before, say. Arguments and results are those of a call.
    """
    start = time.perf_counter()
    prompts, lengths = encode_prompts(
      self._tokenizer, problems, self._max_prompt_tokens
    )
    on_device = sampler.sample(
      self._model,
      params,
      prompts,
      lengths,
      key,
      n=n,
      max_new_tokens=self._max_new_tokens,
      temperature=self._temperature,
      top_p=self._top_p,
      stop_tokens=self._tokenizer.stop_tokens,
      stop_table=self._stop_table,
    )

    def finish() -> Rolled:
      completions = multihost.fetch(on_device)
      sampled = time.perf_counter()
      _check_policy(problems, completions)
      truncated = find_truncated(self._tokenizer, completions, self._stop)
      grades = self._grade(problems, completions)
      if self._truncated_is_wrong:
        for row, sample in np.argwhere(truncated):
          grades[row][sample] = _TRUNCATED
      graded = time.perf_counter()
      rewards, valid = base.rewards_and_valid(grades, problems)
      rollout = Rollout(
        prompts, lengths, completions, rewards, valid, truncated
      )
      reasons = [[grade.reason for grade in row] for row in grades]
      seconds = {"sample": sampled - start, "grade": graded - sampled}
      return rollout, reasons, seconds

    return finish

  def _grade(
    self, problems: Sequence[base.Problem], completions: sampler.Completions
  ) -> list[list[base.Grade]]:
    """Grades [B][n] of all answers, each from the process that it falls to.

    Answers are shared, and not problems, of which there may be fewer than
    processes.
    """
    B, n, _ = completions.tokens.shape
    own = np.array(multihost.local_rows(range(B * n)), int)
    rows = np.unique(own // n)
    texts = []
    for row in rows:
      samples = own[own // n == row] % n
      some = jax.tree.map(lambda x, i=(row, samples): x[i][None], completions)
      texts += decode_completions(self._tokenizer, some, self._stop)
    grades = grade_twice(self._task, [problems[row] for row in rows], texts)
    plain = [
      (float(g.reward), bool(g.valid), g.reason) for row in grades for g in row
    ]
    shared = iter(
      base.Grade(*grade)
      for part in multihost.gather_texts(json.dumps(plain))
      for grade in json.loads(part)
    )
    return [[next(shared) for _ in range(n)] for _ in range(B)]


def grade_twice(
  task: base.Task,
  problems: Sequence[base.Problem],
  completions: Sequence[Sequence[str]],
) -> list[list[base.Grade]]:
  """Grades answers to each of B problems, and invalid ones again.

  A worker that did not start, say, need not fail twice; and a single answer
  without a grade takes pass@n from all problems.
  """
  grades = task.grades(problems, completions)
  invalid = [
    (b, i)
    for b, row in enumerate(grades)
    for i, grade in enumerate(row)
    if not grade.valid
  ]
  if invalid:
    again = task.grades(
      [problems[b] for b, _ in invalid],
      [[completions[b][i]] for b, i in invalid],
    )
    for (b, i), (grade,) in zip(invalid, again, strict=True):
      grades[b][i] = grade
  return grades


def encode_prompts(
  tokenizer: tokenizers.Tokenizer, problems: Sequence[base.Problem], length: int
) -> tuple[np.ndarray, np.ndarray]:
  """Prompts of B problems -> ids [B, length] and their lengths [B], int32."""
  rows = [tokenizer.encode(problem.prompt) for problem in problems]
  for problem, row in zip(problems, rows, strict=True):
    if len(row) > length:
      raise ValueError(
        f"The prompt of problem {problem.id!r} has {len(row)} tokens; raise"
        f" max_prompt_tokens={length} or drop the problem."
      )
  lengths = np.array([len(row) for row in rows], np.int32)
  return tokenizers.pad(rows, length), lengths


def decode_completions(
  tokenizer: tokenizers.Tokenizer,
  completions: sampler.Completions,
  stop: Sequence[str] = (),
) -> list[list[str]]:
  """Completions [B, n, T] -> B lists of n texts, up to a stop string."""
  lengths = np.sum(completions.mask, axis=-1)
  return [
    [
      base.text_before(tokenizer.decode(tokens[:length]), stop)
      for tokens, length in zip(rows, row_lengths)
    ]
    for rows, row_lengths in zip(np.asarray(completions.tokens), lengths)
  ]


def find_truncated(
  tokenizer: tokenizers.Tokenizer,
  completions: sampler.Completions,
  stop: Sequence[str] = (),
) -> np.ndarray:
  """Finds the completions that were cut off at T tokens: [B, n] bool.

  They have neither a stop token nor a stop string.
  """
  last = np.asarray(completions.tokens)[..., -1]
  truncated = np.asarray(completions.mask)[..., -1].copy()
  truncated &= ~np.isin(last, tokenizer.stop_tokens)
  if stop:
    for row, sample in np.argwhere(truncated):
      text = tokenizer.decode(completions.tokens[row, sample])
      truncated[row, sample] = text == base.text_before(text, stop)
  return truncated


def _check_policy(
  problems: Sequence[base.Problem], completions: sampler.Completions
) -> None:
  """Stops at a policy that is not finite: its completions mean nothing.

  All hosts hold all completions, and so they all stop.
  """
  log_probs, entropy = completions.log_probs, completions.entropy
  broken = np.argwhere(~(np.isfinite(log_probs) & np.isfinite(entropy)))
  if len(broken):
    row, sample, token = first = tuple(broken[0])
    num_completions = len(np.unique(broken[:, :2], axis=0))
    raise FloatingPointError(
      f"The policy is not finite: token {token} of sample {sample} of problem"
      f" {problems[row].id!r} has log-prob {log_probs[first]} and entropy"
      f" {entropy[first]}; {num_completions} of {log_probs[..., 0].size}"
      " completions are broken. Look for parameters that are NaN or infinite,"
      " for a type to compute in that overflows (float16), and for a learning"
      " rate that is too high."
    )
