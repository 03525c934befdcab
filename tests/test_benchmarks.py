"""experiments.benchmarks at sizes too small to time."""

import json
import statistics

import exact
import numpy as np
import pytest

from experiments.benchmarks import transforms

TINY = ["--groups=8", "--numpy-groups=4", "--samples=5", "--k=3"]


@pytest.mark.parametrize(
  "ratio", [transforms.ratio_by_product, transforms.ratio_by_logarithm]
)
@pytest.mark.parametrize("k", range(2, 8))
def test_the_loops_in_numpy_are_right(ratio, k):
  groups = exact.groups(7)
  expected = exact.floats([exact.sloo_minus_one(g, k) for g in groups])
  weights = transforms.numpy_sloo_minus_one(np.array(groups), k, ratio)
  np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=1e-12)


def test_prints_and_writes_what_it_measured(tmp_path, capsys):
  out = tmp_path / "folder" / "transforms.json"
  transforms.main([*TINY, "--repetitions=7", f"--out={out}"])
  printed, record = capsys.readouterr().out, json.loads(out.read_text())
  assert record["settings"]["k"] == 3
  assert f"jax {record['machine']['jax']}" in printed
  assert f"cores {record['machine']['cores']}" in printed
  for name, shape, over, under in (
    ("sort", [8, 5], "sloo_minus_one", "argsort"),
    ("numpy", [4, 5], "numpy", "sloo_minus_one"),
  ):
    measured = record["results"][name]
    assert measured["shape"] == shape
    assert all(len(s) == 7 and min(s) > 0 for s in measured["seconds"].values())
    medians = {f: statistics.median(s) for f, s in measured["seconds"].items()}
    assert measured["ratio"] == medians[over] / medians[under]
    assert f"ratio {measured['ratio']:.2f}; target" in printed


def test_contenders_take_turns():
  calls = []
  seconds = transforms.take_turns(
    {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
    repetitions=3,
    calls={"a": 2, "b": 1},
  )
  assert "".join(calls) == "ab" + 3 * "aab"  # The first of each warms up.
  assert {name: len(values) for name, values in seconds.items()} == {
    "a": 3,
    "b": 3,
  }


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--k=1", "--k 1 is not in 2..16"),
    ("--k=17", "--k 17 is not in 2..16"),
    ("--repetitions=6", "--repetitions 6 is less than 7"),
  ],
)
def test_refuses_what_it_cannot_measure(argument, message, capsys):
  with pytest.raises(SystemExit):
    transforms.main([argument])
  assert message in capsys.readouterr().err
