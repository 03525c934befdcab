"""How long does `sloo_minus_one` take, next to a sort and next to numpy?

Three comparisons, each of contenders that take turns in one process:
  sort: jit(vmap(sloo_minus_one)) with a traced k, against jit(jnp.argsort) of
    the same array. Target: at most twice the time of the sort. The other
    transforms run along without a target; mixtures with weights up to k.
  numpy: the same, against a loop over groups in numpy, in the manner of the
    paper's listing: every binomial afresh, as a product of ratios. Target: at
    least 200 times as fast. A leaner loop, with binomials from logarithms,
    runs along without a target.
  size: 65,536 rewards in groups of 8 to 1024, against the same in vectorised
    numpy; and `scloo` against its equal in ordergrad's JAX backend, if that
    package can be imported (github.com/paavo5/ordergrad). Without a target.

A minute on two cores.
"""

import argparse
import functools
import importlib.util
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pkpo_jax
from experiments import command_line
from experiments.benchmarks import timing

Contenders = dict[str, Callable[[], Any]]
Ratio = Callable[[int, int, int, int], float]
SIZES = (8, 16, 64, 256, 1024)
MAX_SORT_RATIO = 2.0
MIN_NUMPY_SPEEDUP = 200.0


def numpy_sloo_minus_one(
  rewards: np.ndarray, k: int, ratio: Ratio
) -> np.ndarray:
  """[G, n] -> [G, n], one group at a time: eq 18-34, 2 <= k <= n.

  Args:
    rewards: [G, n].
    k: the k of pass@k.
    ratio: how to compute C(a, b) / C(n, k) from a, b, n, k.
  """
  weights = np.empty(rewards.shape)
  for group, out in zip(rewards, weights):
    order = np.argsort(group)
    in_order = group[order].astype(float)
    baseline = k / len(group) * _left_out(in_order, k - 1, ratio)
    out[order] = _s(in_order, k, ratio) - baseline
  return weights


def _s(rewards: np.ndarray, k: int, ratio: Ratio) -> np.ndarray:
  """`s` of sorted rewards, as the row sums of the matrix of eq 18-28.

  The k-subsets that contain i and have their best at j > i number
  C(j-2, k-2); those whose best is i itself, C(i-1, k-1).
  """
  n = len(rewards)
  ranks = range(1, n + 1)
  diagonal = np.array([ratio(i - 1, k - 1, n, k) for i in ranks])
  above = np.array([ratio(j - 2, k - 2, n, k) for j in ranks]) * rewards
  best_above = np.append(np.cumsum(above[:0:-1])[::-1], 0)
  return diagonal * rewards + best_above


def _left_out(rewards: np.ndarray, k: int, ratio: Ratio) -> np.ndarray:
  """max@k without each of the sorted rewards (eq 31-32, index put right)."""
  n = len(rewards)
  ranks = range(1, n)
  weights = np.array([ratio(r - 1, k - 1, n - 1, k) for r in ranks])
  below = np.append(0, np.cumsum(weights * rewards[:-1]))
  above = np.append(np.cumsum((weights * rewards[1:])[::-1])[::-1], 0)
  return below + above


def ratio_by_product(a: int, b: int, n: int, k: int) -> float:
  """C(a, b) / C(n, k), b <= k, as a product of ratios: nothing overflows."""
  if not 0 <= b <= a:
    return 0.0
  shared = np.arange(a - b + 1, a + 1) / np.arange(n - b + 1, n + 1)
  rest = np.arange(b + 1, k + 1) / np.arange(n - k + 1, n - b + 1)
  return np.prod(shared) * np.prod(rest)


def ratio_by_logarithm(a: int, b: int, n: int, k: int) -> float:
  """C(a, b) / C(n, k), from logarithms of factorials."""
  if not 0 <= b <= a:
    return 0.0
  return math.exp(_log_choose(a, b) - _log_choose(n, k))


def _log_choose(a: int, b: int) -> float:
  return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)


def vectorised_numpy(rewards: np.ndarray, k: int) -> np.ndarray:
  """`numpy_sloo_minus_one` of all groups at once, by the gaps of eq 34."""
  n = rewards.shape[1]
  order = np.argsort(rewards, axis=1)
  climb = [ratio_by_logarithm(r, k - 1, n, k) for r in range(1, n)]
  gaps = np.diff(np.take_along_axis(rewards, order, axis=1), axis=1)
  in_order = np.cumsum(gaps * np.array(climb, rewards.dtype), axis=1)
  weights = np.zeros_like(rewards)
  np.put_along_axis(weights, order[:, 1:], in_order, axis=1)
  return weights


def take_turns(
  contenders: Contenders, repetitions: int, calls: dict[str, int]
) -> dict[str, list[float]]:
  """Seconds a call, `repetitions` of each contender, one after the other."""

  def seconds(name: str) -> float:
    """The seconds of a call."""
    runs = calls[name]
    return (
      timing.timed(
        lambda: [jax.block_until_ready(contenders[name]()) for _ in range(runs)]
      )[0]
      / runs
    )

  return timing.alternate(
    {name: functools.partial(seconds, name) for name in contenders}, repetitions
  )


def against_sort(
  rewards: np.ndarray, k: int, repetitions: int
) -> dict[str, Any]:
  """Times the transform of [G, n] rewards against their argsort."""
  _check(rewards, k)
  groups, traced_k = jnp.asarray(rewards), jnp.int32(k)
  sort = jax.jit(jnp.argsort)
  contenders: Contenders = {
    "sloo_minus_one": lambda: _transform(groups, traced_k),
    "argsort": lambda: sort(groups),
    **_others(groups, k),
  }
  seconds = take_turns(contenders, repetitions, dict.fromkeys(contenders, 1))
  ratios = {
    name: _ratio_of_medians(seconds, name, "argsort") for name in contenders
  }
  ratio = ratios["sloo_minus_one"]
  return {
    "shape": rewards.shape,
    "seconds": seconds,
    "ratios": ratios,
    "ratio": ratio,
    "target": f"time / sort <= {MAX_SORT_RATIO:g}",
    "met": ratio <= MAX_SORT_RATIO,
  }


def _others(groups: jax.Array, k: int) -> Contenders:
  """Transforms of [G, n] rewards beside `sloo_minus_one`, by name."""
  blend = jnp.full(k, 1 / k)
  of_rewards: dict[str, Callable[..., jax.Array]] = {
    "scloo": lambda g, k, _: pkpo_jax.scloo(g, k),
    "tailrl": lambda g, *_: pkpo_jax.tailrl(g),
    "k_mixture": lambda g, _, blend: pkpo_jax.k_mixture(g, blend),
    "k_mixture, centred": lambda g, _, blend: pkpo_jax.k_mixture(
      g, blend, centred=True
    ),
    "order_statistics": lambda g, _, blend: pkpo_jax.order_statistics(g, blend),
  }
  if k == groups.shape[1]:  # which centred weights do not have
    of_rewards = {name: of_rewards[name] for name in ("tailrl", "k_mixture")}
  compiled = {
    name: jax.jit(jax.vmap(function, (0, None, None)))
    for name, function in of_rewards.items()
  }
  return {
    name: functools.partial(function, groups, jnp.int32(k), blend)
    for name, function in compiled.items()
  }


def against_numpy(
  rewards: np.ndarray, k: int, repetitions: int
) -> dict[str, Any]:
  """Times the transform of [G, n] rewards against the loop in numpy."""
  _check(rewards, k)
  groups, traced_k = jnp.asarray(rewards), jnp.int32(k)
  contenders: Contenders = {
    "sloo_minus_one": lambda: _transform(groups, traced_k),
    "numpy": lambda: numpy_sloo_minus_one(rewards, k, ratio_by_product),
    "leaner numpy": lambda: numpy_sloo_minus_one(
      rewards, k, ratio_by_logarithm
    ),
  }
  calls = {"sloo_minus_one": 20, "numpy": 1, "leaner numpy": 1}
  seconds = take_turns(contenders, repetitions, calls)
  ratio = _ratio_of_medians(seconds, "numpy", "sloo_minus_one")
  return {
    "shape": rewards.shape,
    "seconds": seconds,
    "ratio": ratio,
    "target": f"numpy / time >= {MIN_NUMPY_SPEEDUP:g}",
    "met": ratio >= MIN_NUMPY_SPEEDUP,
  }


def by_size(rewards: np.ndarray, k: int, repetitions: int) -> dict[str, Any]:
  """Times the transform of all [G, n] groups against vectorised numpy."""
  groups, traced_k = jnp.asarray(rewards), jnp.int32(k)
  np.testing.assert_allclose(
    vectorised_numpy(rewards, k), _transform(groups, traced_k), atol=1e-5
  )
  contenders: Contenders = {
    "sloo_minus_one": lambda: _transform(groups, traced_k),
    "vectorised numpy": lambda: vectorised_numpy(rewards, k),
  }
  if importlib.util.find_spec("ordergrad"):
    contenders |= _ordergrad(groups, k)
  seconds = take_turns(contenders, repetitions, dict.fromkeys(contenders, 1))
  return {"shape": rewards.shape, "seconds": seconds}


def _ordergrad(groups: jax.Array, k: int) -> Contenders:
  """`scloo`, ours and theirs, which are the same."""
  from ordergrad import get_backend

  n = groups.shape[1]
  theirs = get_backend("jax").OrderStatTransform.precompute_lstat(
    n, k, "TopM:1", dtype=jnp.float32
  )
  advantages = jax.jit(jax.vmap(theirs.lstat_advantage))
  ours = jax.jit(jax.vmap(lambda g: pkpo_jax.scloo(g, k)))
  np.testing.assert_allclose(
    advantages(groups) * k / n, ours(groups), atol=1e-4
  )
  return {
    "scloo": lambda: ours(groups),
    "ordergrad": lambda: advantages(groups),
  }


_transform = jax.jit(jax.vmap(pkpo_jax.sloo_minus_one, in_axes=(0, None)))


def _check(rewards: np.ndarray, k: int) -> None:
  """Raises AssertionError unless all implementations agree."""
  weights = _transform(jnp.asarray(rewards), jnp.int32(k))
  for ratio in (ratio_by_product, ratio_by_logarithm):
    expected = numpy_sloo_minus_one(rewards[:64], k, ratio)
    np.testing.assert_allclose(weights[:64], expected, atol=1e-6)


def _ratio_of_medians(
  seconds: dict[str, list[float]], numerator: str, denominator: str
) -> float:
  medians = {
    name: statistics.median(values) for name, values in seconds.items()
  }
  return medians[numerator] / medians[denominator]


def report(results: dict[str, dict[str, Any]]) -> None:
  """Prints medians, the spread from least to most, and the targets."""
  print(", ".join(f"{key} {value}" for key, value in timing.machine().items()))
  for name, result in results.items():
    print(f"\n{name}: shape {result['shape']}")
    for contender, seconds in result["seconds"].items():
      low, middle, high = (
        f"{1e3 * f(seconds):.3f}" for f in (min, statistics.median, max)
      )
      ratio = result.get("ratios", {}).get(contender)
      share = "" if ratio is None else f", {ratio:.2f} x argsort"
      print(f"  {contender:18} {middle} ms ({low} to {high}){share}")
    if "target" not in result:
      continue
    verdict = "met" if result["met"] else "MISSED"
    print(
      f"  ratio {result['ratio']:.2f}; target {result['target']}: {verdict}"
    )


def parser() -> argparse.ArgumentParser:
  """The command line."""
  p = command_line.parser(__doc__)

  def add(name: str, default: int, text: str) -> None:
    help = f"{text} (default: {default})"
    p.add_argument(name, type=int, default=default, help=help)

  add("--groups", 65536, "groups in the comparison with the sort")
  add("--numpy_groups", 1024, "groups for the loop in numpy")
  add("--n", 16, "samples of a group")
  add("--k", 4, "the k of pass@k, 2 <= k <= n")
  add("--repetitions", 15, "turns of each contender, at least 7")
  add("--seed", 0, "of the rewards, uniform on [0, 1)")
  p.add_argument(
    "--out",
    type=command_line.path,
    default=pathlib.Path("runs/benchmarks/transforms.json"),
    help="the JSON file to write (default: runs/benchmarks/transforms.json)",
  )
  return p


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes --out."""
  arguments = parser()
  args = command_line.parse(arguments, argv)
  if not 2 <= args.k <= args.n:
    arguments.error(f"--k={args.k} must be in 2..{args.n}, up to --n.")
  if args.repetitions < 7:
    arguments.error(f"--repetitions={args.repetitions} must be at least 7.")
  draw = np.random.default_rng(args.seed).random

  def rewards(groups: int) -> np.ndarray:
    return draw((groups, args.n), dtype=np.float32)

  results = {
    "sort": against_sort(rewards(args.groups), args.k, args.repetitions),
    "numpy": against_numpy(
      rewards(args.numpy_groups), args.k, args.repetitions
    ),
  }
  for n in SIZES:
    groups = draw((max(args.groups // n, 1), n), dtype=np.float32)
    results[f"size {n}"] = by_size(groups, args.k, args.repetitions)
  report(results)
  args.out.parent.mkdir(parents=True, exist_ok=True)
  record = {
    "machine": timing.machine(),
    "settings": {**vars(args), "out": str(args.out)},
    "results": results,
  }
  args.out.write_text(json.dumps(record, indent=2) + "\n")
  print(f"\nWrote {args.out}.")


if __name__ == "__main__":
  main()
