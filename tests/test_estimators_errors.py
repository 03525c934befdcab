"""pkpo_jax.estimators: what is turned away, with its value and the remedy."""

import jax
import numpy as np
import pytest

import pkpo_jax

ON_REWARDS = {
  "max_at_k": pkpo_jax.max_at_k,
  "max_at_k_standard_error": pkpo_jax.max_at_k_standard_error,
}


@pytest.mark.parametrize("k", [-1, 0, 5])
def test_static_k_out_of_range(k):
  message = rf"pass_at_k: k={k} .*n=4 .*1\.\.4"
  with pytest.raises(ValueError, match=message):
    pkpo_jax.pass_at_k(2, 4, k)
  with pytest.raises(ValueError, match=rf"max_at_k: k={k} .*n=4 .*1\.\.4"):
    pkpo_jax.max_at_k(np.ones(4), k)


@pytest.mark.parametrize("k", [0, 4])
def test_static_k_out_of_range_for_the_standard_errors(k):
  message = rf"at_k_standard_error: k={k} .*n=4 .*1\.\.3"
  if k:
    with pytest.raises(ValueError, match="pass_" + message):
      pkpo_jax.pass_at_k_standard_error(2, 4, k)
  with pytest.raises(ValueError, match="max_" + message):
    pkpo_jax.max_at_k_standard_error(np.ones(4), k)


def test_one_sample_has_no_standard_error():
  message = r"at_k_standard_error: k=.* n=1 .*none"
  with pytest.raises(ValueError, match=message):
    pkpo_jax.max_at_k_standard_error(np.ones(1), 1)
  with pytest.raises(ValueError, match=message):
    jax.jit(pkpo_jax.max_at_k_standard_error)(np.ones(1), 1)
  with pytest.raises(ValueError, match=message):
    pkpo_jax.pass_at_k_standard_error(1, 1, 1)


@pytest.mark.parametrize("c", [-1, 5])
def test_static_c_out_of_range(c):
  with pytest.raises(ValueError, match=rf"num_correct={c} .*0\.\.4"):
    pkpo_jax.pass_at_k(c, 4, 2)


@pytest.mark.parametrize("n", [16.5, -3, float("nan"), float("inf")])
def test_n_must_be_whole(n):
  with pytest.raises(ValueError, match=rf"num_samples={n:g} is not an integer"):
    pkpo_jax.pass_at_k(2, n, 8)
  found = pkpo_jax.pass_at_k(2, np.array([n, 16]), 8)
  np.testing.assert_array_equal(np.isnan(found), [True, False])


@pytest.mark.parametrize(("c", "n"), [("2", 4), (2, "4"), (None, 4), (2j, 4)])
def test_counts_must_be_numbers(c, n):
  with pytest.raises(ValueError, match=r"num_.* must be real numbers"):
    pkpo_jax.pass_at_k(c, n, 2)


def test_no_problems_have_no_estimates():
  none = np.array([], int)
  assert pkpo_jax.pass_at_k(none, none, 1).shape == (0,)
  assert pkpo_jax.pass_at_k_standard_error(none, none, 1).shape == (0,)


def test_n_must_be_concrete():
  with pytest.raises(ValueError, match="num_samples must be concrete"):
    jax.jit(pkpo_jax.pass_at_k)(1, 4, 2)


def test_k_must_be_an_integer():
  for function in ON_REWARDS.values():
    with pytest.raises(ValueError, match=r"k must be an integer.*n=4"):
      function(np.ones(4), 2.0)


@pytest.mark.parametrize("k", [2.0, 1.5, True, np.float32(2)])
def test_k_of_pass_at_k_must_be_an_integer(k):
  for function in (pkpo_jax.pass_at_k, pkpo_jax.pass_at_k_standard_error):
    with pytest.raises(ValueError, match=r"k must be .*integer.*n=4"):
      function(2, 4, k)


@pytest.mark.parametrize("name", ON_REWARDS)
def test_checks_its_group(name):
  """By `check_rewards`, where every mistake is tried."""
  function = ON_REWARDS[name]
  with pytest.raises(ValueError, match=rf"^{name}: rewards must be one group"):
    function(np.ones((2, 4)), 1)
  with pytest.raises(ValueError, match=rf"^{name}: where must be bool"):
    function(np.ones(4), 1, where=np.ones(4))
