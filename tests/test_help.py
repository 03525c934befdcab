"""The help of each public name is complete by itself, and its example runs."""

import doctest
import inspect

import pytest
from helpers import exact

import pkpo_jax

WEIGHTS = ("order_statistics", "k_mixture", *exact.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", pkpo_jax.__all__)
def test_the_example_runs(name):
  function = getattr(pkpo_jax, name)
  (test,) = doctest.DocTestFinder(recurse=False).find(function, globs={})
  assert 2 <= len(test.examples) <= 3
  assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("name", pkpo_jax.__all__)
def test_help_is_complete(name):
  function = getattr(pkpo_jax, name)
  text = inspect.getdoc(function)
  for parameter in inspect.signature(function).parameters:
    assert f"\n  {parameter}: " in text
  for part in ("Args:", "Raises:\n  ValueError: ", "Example:"):
    assert f"\n{part}" in text, part
  assert name == "get_transform" or "\nReturns:\n" in text


@pytest.mark.parametrize("name", WEIGHTS)
def test_help_of_a_transform_tells_its_convention(name):
  text = " ".join(inspect.getdoc(getattr(pkpo_jax, name)).split())
  assert "[n] weights for a *sum* over the samples" in text
  assert "times n for a mean" in text
