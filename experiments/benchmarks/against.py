"""Are the transforms slower than in another checkout of this project?

  git worktree add ../before 418c87d
  python -m experiments.benchmarks.against --checkout=../before

Both are loaded into one process. Each transform that both have takes its turn
here and there, again and again, on the same rewards, once they agree. What is
reported is the median, over the turns, of the time here by the time there: of
neighbours in time, so that a machine that is busy now and then does little
harm.

Two minutes on two cores.
"""

import contextlib
import functools
import importlib
import json
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pkpo_jax
from experiments import command_line
from experiments.benchmarks import timing

SHAPES = ((65536, 16), (64, 16), (64, 1024))
K = 4
WITHOUT_K = ("rloo", "grpo", "dr_grpo", "maxrl", "tailrl")
WITH_WEIGHTS = ("k_mixture", "order_statistics")
WITH_K = ("s", "sloo", "sloo_minus_one", "scloo", "passk_training", "max_at_k")
BINARY = ("maxrl", "passk_training")  # took 0 and 1 alone, once
NAMES = (*WITH_K, *WITH_WEIGHTS, *WITHOUT_K)


def load(checkout: pathlib.Path) -> ModuleType:
  """The `pkpo_jax` of another checkout, beside the one here.

  Raises:
    ValueError: there is none.
  """
  if not (checkout / "pkpo_jax/__init__.py").exists():
    raise ValueError(f"--checkout={checkout} has no pkpo_jax.")
  with _forgotten("pkpo_jax"):
    sys.path.insert(0, str(checkout))
    try:
      found = importlib.import_module("pkpo_jax")
    finally:
      sys.path.remove(str(checkout))
  if pathlib.Path(found.__file__ or "").parents[1] != checkout:
    raise ValueError(f"--checkout={checkout}: found {found.__file__} instead.")
  return found


@contextlib.contextmanager
def _forgotten(package: str) -> Iterator[None]:
  """A context in which a package is not imported yet; afterwards it is."""

  def take() -> dict[str, ModuleType]:
    names = [x for x in sys.modules if x.partition(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}

  ours = take()
  try:
    yield
  finally:
    take()
    sys.modules.update(ours)


def compiled(
  package: ModuleType, name: str, groups: jax.Array
) -> Callable[[], jax.Array]:
  """A transform of a package, of all groups [G, n] with a k that is traced."""
  transform = getattr(package, name)
  if name in WITHOUT_K:
    function = jax.jit(jax.vmap(transform))
    return lambda: function(groups)
  k: Any = jnp.int32(K)
  if name in WITH_WEIGHTS:
    k = jnp.full(K, 1 / K)
  function = jax.jit(jax.vmap(transform, (0, None)))
  return lambda: function(groups, k)


def compare(
  theirs: ModuleType, shape: tuple[int, int], repetitions: int
) -> dict[str, list[float]]:
  """The ratios of seconds, here by there, of every turn of every transform."""
  rewards = np.random.default_rng(0).random(shape, np.float32)
  ratios = {}
  for name in (x for x in NAMES if hasattr(theirs, x)):
    groups = jnp.asarray(rewards < 0.3 if name in BINARY else rewards)
    sides = [compiled(x, name, groups) for x in (pkpo_jax, theirs)]
    here, there = (np.asarray(run()) for run in sides)
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5, err_msg=name)
    calls = max(1, round(2e-3 / timing.timed(sides[1])[0]))
    turns = timing.alternate(
      {i: functools.partial(_seconds, x, calls) for i, x in enumerate(sides)},
      repetitions,
    )
    ratios[name] = [x / y for x, y in zip(turns[0], turns[1])]
    print(f"{shape}, {name}: {statistics.median(ratios[name]):.2f}", flush=True)
  return ratios


def _seconds(run: Callable[[], Any], calls: int) -> float:
  return timing.timed(lambda: [run() for _ in range(calls)])[0]


def table(results: dict[str, dict[str, list[float]]]) -> str:
  """Markdown: the median of the ratios, and the middle half of them."""
  shapes = list(results)
  lines = [
    f"| here / there | {' | '.join(shapes)} |",
    "|---" * (len(shapes) + 1),
  ]
  lines[1] += "|"
  for name in results[shapes[0]]:
    cells = [timing.middle_half(results[shape][name]) for shape in shapes]
    lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes --out."""
  p = command_line.parser(__doc__)
  p.add_argument("--checkout", type=command_line.path, required=True)
  p.add_argument("--repetitions", type=int, default=31, help="turns of each")
  p.add_argument(
    "--out",
    type=command_line.path,
    default=pathlib.Path("runs/benchmarks/against.json"),
    help="the JSON file to write (default: %(default)s)",
  )
  args = command_line.parse(p, argv)
  if args.repetitions < timing.MIN_REPETITIONS:
    p.error(
      f"--repetitions={args.repetitions} must be at least"
      f" {timing.MIN_REPETITIONS}."
    )
  try:
    theirs = load(args.checkout.absolute())
  except ValueError as error:
    p.error(str(error))
  results = {
    f"{groups} x {n}": compare(theirs, (groups, n), args.repetitions)
    for groups, n in SHAPES
  }
  print(table(results))
  record = {"machine": timing.machine(), "ratios": results}
  args.out.parent.mkdir(parents=True, exist_ok=True)
  args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
  main()
