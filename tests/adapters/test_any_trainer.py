"""adapters.any_trainer: advantages for rows, in the mean convention."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import bits, exact

from pkpo_jax import transforms
from pkpo_jax.adapters import any_trainer, group_advantages

GROUPS = np.array([[0.5, 2.0, 0.5, -1.0], [0.0, 0.0, 96.0, 1.0]], np.float32)


def n_times(reference, groups, *args):
  return [
    [len(group) * float(w) for w in reference(tuple(group.tolist()), *args)]
    for group in groups
  ]


@pytest.mark.parametrize("name", ["sloo_minus_one", "scloo"])
def test_n_times_the_weights(name):
  for k in (1, 3):
    expected = n_times(getattr(exact, name), GROUPS, k)
    advantages = group_advantages(GROUPS, 4, k, transform=name)
    np.testing.assert_allclose(advantages, expected, rtol=1e-5, atol=1e-5)


def test_rows_or_groups_of_numpy_or_jax():
  expected = n_times(exact.sloo_minus_one, GROUPS, 2)
  for flat in (False, True):
    shape = (8,) if flat else (2, 4)
    rewards = GROUPS.reshape(shape)
    for given in (rewards, rewards.tolist(), jnp.asarray(rewards)):
      advantages = group_advantages(given, 4, 2)
      assert isinstance(advantages, jax.Array) == isinstance(given, jax.Array)
      assert isinstance(advantages, np.ndarray | jax.Array)
      assert advantages.dtype == np.float32
      np.testing.assert_allclose(
        advantages, np.reshape(expected, shape), rtol=1e-5
      )


def test_numpy_gives_what_can_be_written_to():
  assert group_advantages(GROUPS, 4, 2).flags.writeable


def test_the_mean_over_rows_is_the_gradient_of_a_batch():
  """Ungraded rows count as rows: the factor is n, not the number graded."""
  rewards = np.array([[np.nan, 1.0, 0.0, 3.0], [2.0, 1.0, np.nan, np.nan]])
  advantages = group_advantages(rewards, 4, 2)
  expected = np.zeros((2, 4))
  expected[0, 1:] = exact.floats(exact.sloo_minus_one((1.0, 0.0, 3.0), 2))
  expected[1, :2] = exact.floats(exact.sloo_minus_one((2.0, 1.0), 2))
  np.testing.assert_allclose(advantages, 4 * expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.array, jnp.array])
def test_nan_none_and_where_are_ungraded(kind):
  ungraded = np.array([0.0, np.nan, 1.0, 0.0, np.nan, 1.0, 3.0, 0.5])
  where = np.arange(8) != 7
  expected = group_advantages(
    np.where(where, ungraded, np.nan), 4, 2, transform="scloo"
  )
  assert not np.any(expected[[1, 4, 7]]) and np.any(expected)
  masked = [kind(x) for x in (ungraded, where)]
  advantages = group_advantages(
    masked[0], 4, 2, transform="scloo", where=masked[1]
  )
  np.testing.assert_array_equal(advantages, expected)
  listed = [None if np.isnan(g) else g for g in ungraded.tolist()]
  np.testing.assert_array_equal(
    group_advantages(listed, 4, 2, transform="scloo", where=where), expected
  )


def test_what_is_masked_may_be_infinite():
  rewards = np.array([1.0, np.inf, 0.0, 0.0])
  where = np.array([True, False, True, True])
  advantages = group_advantages(rewards, 4, 2, where=where)
  expected = 4 * np.array(
    exact.floats(exact.sloo_minus_one((1.0, 0.0, 0.0), 2))
  )
  np.testing.assert_allclose(advantages, np.insert(expected, 1, 0), rtol=1e-5)


def test_a_k_for_each_problem():
  advantages = group_advantages(GROUPS, 4, np.array([1, 4]))
  for row, group, k in zip(advantages, GROUPS, (1, 4)):
    (expected,) = n_times(exact.sloo_minus_one, [group], k)
    np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


def test_one_compilation_serves_all_k():
  traces = []

  def transform(rewards, k, *, where=None):
    traces.append(where)
    return transforms.s(rewards, k, where=where)

  for k in (1, 2, 3, np.int64(4), jnp.int32(2), np.array([1, 3])):
    group_advantages(GROUPS, 4, k, transform=transform)
  compiled = [where for where in traces if where is not None]
  assert len(compiled) == 1
  # Besides, each k is checked once, by a trace without a compilation.
  assert len(traces) - len(compiled) == 4


def test_a_transform_that_ignores_k():
  advantages = group_advantages(GROUPS, 4, None, transform="rloo")
  expected = n_times(exact.rloo, GROUPS)
  np.testing.assert_allclose(advantages, expected, rtol=1e-5, atol=1e-5)
  with pytest.raises(ValueError, match="k must be an integer scalar"):
    group_advantages(GROUPS, 4, None)


@pytest.mark.parametrize("k", [0, 5, -1, np.array([1, 5]), jnp.int32(5)])
def test_k_is_checked_on_the_host(k):
  with pytest.raises(ValueError, match=r"group_advantages: k=.* 1\.\.4"):
    group_advantages(GROUPS, 4, k)


def test_k_is_checked_by_the_transform():
  with pytest.raises(ValueError, match=r"^scloo: k=4 .* n=4 .* 1\.\.3"):
    group_advantages(GROUPS, 4, 4, transform="scloo")


@pytest.mark.parametrize("k", [2.0, True, "2", np.array([1.0, 2.0])])
def test_k_of_a_wrong_type(k):
  with pytest.raises(ValueError, match="k must be an integer"):
    group_advantages(GROUPS, 4, k)


def test_k_of_a_wrong_shape():
  with pytest.raises(ValueError, match=r"\[B\] with B = 2, .* \(3,\)"):
    group_advantages(GROUPS, 4, np.array([1, 2, 3]))


@pytest.mark.parametrize(
  ("shape", "n"), [((7,), 4), ((2, 3), 4), ((2, 2, 4), 4), ((0,), 4), ((4,), 0)]
)
def test_rewards_of_a_wrong_shape(shape, n):
  with pytest.raises(ValueError, match=rf"num_samples = {n}.*have shape"):
    group_advantages(np.zeros(shape), n, 1)


@pytest.mark.parametrize("kind", [np.array, jnp.array])
def test_infinite_rewards(kind):
  with pytest.raises(ValueError, match=r"rewards\[6\] is -inf"):
    group_advantages(kind([0.0] * 6 + [-np.inf, 1.0]), 4, 2)


def test_numbers_too_large_for_a_float():
  with pytest.raises(ValueError, match=r"rewards\[0\] is inf"):
    group_advantages(np.array([1e60, 0.0]), 2, 1)
  large = group_advantages(np.array([2**40, 0]), 2, 2)
  np.testing.assert_array_equal(large, [2.0**41, 0])


FAR = {
  "float64": 1e6 + np.array([0.0, 0.01, 0.02, 0.0, 0.0, 0.04, 0.01, 0.0]),
  "int64": 10**9 + np.array([0, 1, 2, 0, 0, 4, 1, 0]),
  "beyond float64": 2**60 + np.array([0, 1, 2, 0, 0, 4, 1, 0]),
}


@pytest.mark.parametrize("kind", FAR)
@pytest.mark.parametrize("name", ["grpo", "sloo_minus_one", "scloo"])
def test_large_numbers_that_differ_by_little_stay_apart(name, kind):
  """The weights of each group by itself, of an array and a list."""
  rewards, transform = FAR[kind], transforms.get_transform(name)
  where = np.arange(8) != 5
  for given in (rewards, rewards.tolist()):
    found = group_advantages(given, 4, 2, transform=name, where=where)
    for b in (slice(0, 4), slice(4, 8)):
      expected = transform(rewards[b], 2, where=where[b])
      np.testing.assert_allclose(found[b], 4 * expected, rtol=1e-6)
      assert np.any(found[b])


@pytest.mark.parametrize("name", sorted(transforms._TRANSFORMS))
def test_what_ignores_shifts_is_known(name):
  """Whose weights are the same with the smallest reward taken off."""
  transform = transforms.get_transform(name)
  near = np.array([0.0, 1.0, 1.0, 0.0])
  same = np.allclose(transform(near, 2), transform(near + 4, 2), atol=1e-5)
  assert same == (transform in any_trainer._SHIFT_FREE)


def test_a_list_with_none_keeps_its_integers():
  rewards = [10**9, None, 10**9 + 1, 10**9 + 2]
  small = group_advantages([0, None, 1, 2], 4, 2)
  np.testing.assert_array_equal(group_advantages(rewards, 4, 2), small)


@pytest.mark.parametrize("kind", FAR)
def test_close_rewards_where_a_shift_matters(kind):
  for transform in ("s", lambda g, k, *, where=None: g):
    with pytest.raises(
      ValueError, match=r"problem 0: rewards 1.* are the same"
    ):
      group_advantages(FAR[kind], 4, 2, transform=transform)
  # Neither the rounding of a sum nor two that are close among others.
  for rewards in ([0.3, 0.1 + 0.2, 0.3, 0.3], [0.1, 0.1 + 1e-10, 0.9, 0.5]):
    group_advantages(rewards, 4, 2, transform="s")


def test_masked_arrays():
  rewards = np.ma.array(GROUPS, mask=GROUPS > 1)
  with pytest.raises(ValueError, match=r"^group_advantages: .*~rewards\.mask"):
    group_advantages(rewards, 4, 2)


def test_rewards_that_devices_share():
  """With axes that are explicit, where jax has those."""
  devices = np.array(jax.devices()[:1])
  explicit = getattr(jax.sharding, "AxisType", None)
  types = {"axis_types": (explicit.Explicit,)} if explicit else {}
  mesh = jax.sharding.Mesh(devices, ("d",), **types)
  spec = jax.sharding.PartitionSpec("d")
  sharding = jax.sharding.NamedSharding(mesh, spec)
  for given in (GROUPS, GROUPS.reshape(-1)):
    found = group_advantages(jax.device_put(given, sharding), 4, 2)
    assert found.sharding == sharding
    np.testing.assert_array_equal(found, group_advantages(given, 4, 2))


def test_rewards_that_are_no_numbers():
  with pytest.raises(ValueError, match="must be numbers"):
    group_advantages(["right", "wrong"], 2, 1)


@pytest.mark.parametrize("where", [np.ones(8), np.ones((2, 4), bool)])
def test_a_wrong_mask(where):
  with pytest.raises(ValueError, match=r"where must be bool of shape \(8,\)"):
    group_advantages(GROUPS.reshape(8), 4, 2, where=where)


def test_not_inside_jit():
  with pytest.raises(ValueError, match="rewards is traced"):
    jax.jit(lambda g: group_advantages(g, 4, 2))(GROUPS)
  with pytest.raises(ValueError, match="k is traced"):
    jax.jit(lambda k: group_advantages(GROUPS, 4, k))(2)
  with pytest.raises(ValueError, match="where is traced"):
    jax.jit(lambda ok: group_advantages(GROUPS, 4, 2, where=ok))(GROUPS > 0)


def test_float64_stays_wide():
  with bits.enable_x64(True):
    assert group_advantages(np.zeros(4), 4, 2).dtype == np.float64
    assert group_advantages(np.zeros(4, np.float32), 4, 2).dtype == np.float32


def test_the_example_runs():
  assert doctest.testmod(any_trainer).failed == 0
