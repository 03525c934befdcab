"""The interaction of k_opt and k_eval against a plain least-squares fit."""

import dataclasses
import math

import numpy as np
import pytest
from helpers import drawn_study

from experiments.paper import from_studies, interaction
from experiments.studies import results
from experiments.studies.study import Run

K_OPT, K_EVAL = (1, 2, 8), (1, 2, 4, 16)
STUDY = dataclasses.replace(drawn_study.STUDY, k_eval=K_EVAL)


def fitted(table):
  """The last coefficient of numpy's least squares."""
  rows = [
    [1, math.log2(k), math.log2(j), math.log2(k) * math.log2(j)]
    for k in K_OPT
    for j in K_EVAL
  ]
  return np.linalg.lstsq(np.array(rows), np.ravel(table), rcond=None)[0][-1]


def data_of(tables, by_problem=None):
  """Results with the held-out table [arms, ks] of each seed.

  Args:
    tables: [seeds, arms, ks].
    by_problem: [seeds, arms, ks, problems].
  """
  names = [f"pass@{k}" for k in K_EVAL]
  by_arm = {"annealed": []}
  for i, k in enumerate(K_OPT):
    by_arm[f"k{k}"] = [
      results.Result(
        Run(f"k{k}", 1e-4, seed),
        "abc",
        1.0,
        {},
        {name: np.array([0.0, x]) for name, x in zip(names, table[i])},
        {}
        if by_problem is None
        else dict(zip(names, np.array(by_problem[seed][i]))),
      )
      for seed, table in enumerate(tables)
    ]
  return from_studies.Data(STUDY, by_arm)


def test_the_coefficient_is_that_of_least_squares():
  tables = np.random.default_rng(0).random((5, len(K_OPT), len(K_EVAL)))
  found = interaction.coefficient(tables, K_OPT, K_EVAL)
  np.testing.assert_allclose(found, [fitted(x) for x in tables])


def test_a_table_made_by_the_formula_has_its_d():
  x, z = np.log2(K_OPT)[:, None], np.log2(K_EVAL)
  table = 0.3 - 0.1 * x + 0.2 * z + 0.05 * x * z
  assert interaction.coefficient(table, K_OPT, K_EVAL) == pytest.approx(0.05)


def test_the_interval_over_seeds_is_students():
  """Two seeds: the mean, and 12.706 times half the difference about it."""
  tables = np.random.default_rng(1).random((2, len(K_OPT), len(K_EVAL)))
  first, second = map(fitted, tables)
  found = interaction.of_study(data_of(tables))
  assert found.mean == pytest.approx((first + second) / 2)
  low, high = found.over_seeds
  assert high - low == pytest.approx(12.7062 * abs(first - second), rel=1e-5)
  assert (low + high) / 2 == pytest.approx(found.mean)
  assert np.isnan(found.over_problems).all()  # their estimates were not kept
  assert np.isnan(interaction.of_study(data_of(tables[:1])).over_seeds).all()


def test_the_interval_over_problems_is_that_of_a_d_for_each():
  """And their mean is the d of the table."""
  by_problem = np.random.default_rng(2).random((2, len(K_OPT), len(K_EVAL), 40))
  found = interaction.of_study(data_of(by_problem.mean(-1), by_problem))
  d = [fitted(by_problem[..., i].mean(axis=0)) for i in range(40)]
  assert found.mean == pytest.approx(np.mean(d))
  half = 1.96 * np.std(d, ddof=1) / 40**0.5
  expected = (found.mean - half, found.mean + half)
  np.testing.assert_allclose(found.over_problems, expected, atol=half / 3)


def test_problems_that_are_all_alike_have_no_spread():
  table = np.random.default_rng(3).random((1, len(K_OPT), len(K_EVAL)))
  same = np.repeat(table[..., None], 3, axis=-1)
  found = interaction.of_study(data_of(table, same))
  np.testing.assert_allclose(found.over_problems, found.mean)


def test_the_best_row_of_each_column():
  """By the mean over seeds; arms of no constant k do not count."""
  table = np.full((len(K_OPT), len(K_EVAL)), 0.5)
  table[[0, 1, 2, 2], [0, 1, 2, 3]] = 0.6
  data = data_of([table, table])
  best = {1: "k1", 2: "k2", 4: "k8", 16: "k8"}
  assert interaction.best_rows(data) == best
  text = interaction.text(data)
  assert "k1 at 1, k2 at 2, k8 at 4, k8 at 16." in text
  assert "over problems unknown" in text


def test_what_is_not_there_has_no_number():
  table = np.full((len(K_OPT), len(K_EVAL)), 0.5)
  table[0, 0] = np.nan
  found = interaction.of_study(data_of([table]))
  assert np.isnan(found.mean)
  assert 1 not in interaction.best_rows(data_of([table]))
  data = data_of([table])
  single = {"k1": data.by_arm["k1"]}
  assert interaction.text(data._replace(by_arm=single)) == ""
