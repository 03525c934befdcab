"""pkpo_jax.schedules: exact values at every step, inside and outside of jit."""

import itertools
import pickle
from fractions import Fraction

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import bits

import pkpo_jax

properties = hypothesis.settings(
  deadline=None, derandomize=True, max_examples=30
)

SCHEDULES = {
  "constant": pkpo_jax.constant_k(4),
  "piecewise": pkpo_jax.piecewise_k([8, 1], [1500]),
  "linear": pkpo_jax.linear_k(8, 1, 1000),
}


def values(schedule, steps):
  return np.asarray(jax.jit(schedule)(np.array(steps)))


def test_constant_k():
  np.testing.assert_array_equal(values(pkpo_jax.constant_k(3), [0, 9]), [3, 3])


def test_the_annealed_run_of_the_paper():
  """Fig 3: k = 8 until step 1500, then 1; a hard step."""
  schedule = pkpo_jax.piecewise_k([8, 1], [1500])
  steps = [0, 1, 1499, 1500, 1501, 10**9]
  np.testing.assert_array_equal(values(schedule, steps), [8, 8, 8, 1, 1, 1])


def test_piecewise_k_at_every_step():
  schedule = pkpo_jax.piecewise_k([16, 2, 5, 1], [1, 4, 5])
  expected = [16, 2, 2, 2, 5, 1, 1]
  np.testing.assert_array_equal(values(schedule, range(7)), expected)


def test_piecewise_k_of_one_piece():
  schedule = pkpo_jax.piecewise_k([3], [])
  np.testing.assert_array_equal(values(schedule, [0, 100]), [3, 3])


def test_linear_k_by_hand():
  schedule = pkpo_jax.linear_k(1, 9, 4)
  expected = [1, 3, 5, 7, 9, 9, 9]
  np.testing.assert_array_equal(values(schedule, range(7)), expected)
  schedule = pkpo_jax.linear_k(8, 1, 3)  # 8, 5 2/3, 3 1/3, 1
  np.testing.assert_array_equal(values(schedule, range(5)), [8, 6, 3, 1, 1])


@properties
@hypothesis.given(
  st.integers(1, 64), st.integers(1, 64), st.integers(1, 10_000)
)
def test_linear_k_is_within_a_half_of_the_line(first, last, duration):
  steps = np.unique(np.linspace(0, 2 * duration, 200).astype(int))
  steps = np.resize(steps, 200)  # One shape: one compilation of each operation.
  ks = np.asarray(pkpo_jax.linear_k(first, last, duration)(steps))
  for step, k in zip(steps.tolist(), ks.tolist()):
    done = min(Fraction(step, duration), Fraction(1))
    line = first + done * (last - first)
    assert abs(k - line) <= Fraction(1, 2)
  assert ks[0] == first
  assert pkpo_jax.linear_k(first, last, duration)(duration) == last


@pytest.mark.parametrize(
  ("first", "last", "duration"),
  [(8, 1, 14), (1, 8, 14), (16, 1, 10), (7, 2, 90), (64, 1, 1000), (3, 3, 4)],
)
def test_linear_k_is_the_same_in_every_call(first, last, duration):
  """A half goes towards the last; in fractions."""
  schedule = pkpo_jax.linear_k(first, last, duration)
  steps = np.arange(0, duration + 2, max(1, duration // 30))
  sign, expected = (1 if last > first else -1), []
  for step in np.minimum(steps, duration).tolist():
    moved = Fraction(step * abs(last - first), duration) + Fraction(1, 2)
    expected.append(first + sign * (moved.numerator // moved.denominator))
  np.testing.assert_array_equal(schedule(steps), expected)
  np.testing.assert_array_equal(values(schedule, steps), expected)
  assert [int(schedule(step)) for step in steps.tolist()] == expected


def test_linear_k_that_overflows():
  with pytest.raises(ValueError, match=r"from 1 to 100000 .* overflows int32"):
    pkpo_jax.linear_k(1, 10**5, 10**5)


@pytest.mark.parametrize("step", [2**31, 2**33, 2**70, np.int64(2**40)])
def test_a_step_beyond_int32(step):
  assert [int(SCHEDULES[name](step)) for name in SCHEDULES] == [4, 1, 1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_can_be_pickled_and_compared(name):
  schedule = SCHEDULES[name]
  again = pickle.loads(pickle.dumps(schedule))
  assert again == schedule and hash(again) == hash(schedule)
  assert sum(schedule == other for other in SCHEDULES.values()) == 1
  assert again(1500) == schedule(1500)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_plain_jitted_and_vmapped_agree(name):
  schedule = SCHEDULES[name]
  steps = np.array([0, 1, 499, 1499, 1500, 2000])
  expected = [int(schedule(step)) for step in steps.tolist()]
  for function in (
    lambda steps: np.stack([jax.jit(schedule)(step) for step in steps]),
    jax.vmap(schedule),
    jax.jit(jax.vmap(schedule)),
    schedule,
  ):
    np.testing.assert_array_equal(function(steps), expected)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("x64", [False, True])
def test_returns_an_int32_scalar(name, x64):
  with bits.enable_x64(x64):
    for step in (0, np.int64(1500), jnp.int32(7)):
      k = SCHEDULES[name](step)
      chex.assert_shape(k, ())
      chex.assert_type(k, jnp.int32)


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_trace_serves_the_whole_run(name):
  traces = []

  @jax.jit
  def train_step(step):
    traces.append(step)
    return SCHEDULES[name](step)

  for step in range(5):
    train_step(step)
  assert len(traces) == 1


def test_can_be_built_inside_jit():
  build = jax.jit(lambda step: pkpo_jax.piecewise_k([4, 2], [10])(step))
  assert [int(build(step)) for step in (9, 10)] == [4, 2]


@pytest.mark.parametrize(
  "k", [0, -1, 2.5, True, "2", float("nan"), float("inf"), None, 2**31]
)
def test_k_must_be_an_integer_from_1_on(k):
  builders = (
    lambda: pkpo_jax.constant_k(k),
    lambda: pkpo_jax.piecewise_k([4, k], [10]),
    lambda: pkpo_jax.linear_k(k, 1, 10),
    lambda: pkpo_jax.linear_k(1, k, 10),
  )
  for build in builders:
    with pytest.raises(ValueError, match="integer"):
      build()


def test_numpy_integers_are_integers():
  assert pkpo_jax.constant_k(np.int64(3))(0) == 3


@pytest.mark.parametrize("boundaries", [[], [1, 2]])
def test_piecewise_k_needs_a_boundary_between_pieces(boundaries):
  with pytest.raises(ValueError, match="2 values of k need 1 boundaries"):
    pkpo_jax.piecewise_k([8, 1], boundaries)


@pytest.mark.parametrize("boundaries", [[0, 5], [5, 5], [5, 4], [-1, 3]])
def test_piecewise_k_needs_increasing_boundaries(boundaries):
  with pytest.raises(ValueError, match="boundaries must increase"):
    pkpo_jax.piecewise_k([8, 4, 1], boundaries)


@pytest.mark.parametrize(
  ("ks", "boundaries"), [([8, 1], 1500), (8, []), ("81", [1]), ([8, 1], None)]
)
def test_piecewise_k_takes_sequences(ks, boundaries):
  with pytest.raises(ValueError, match=r"sequences, as in piecewise_k\(\["):
    pkpo_jax.piecewise_k(ks, boundaries)


@pytest.mark.slow
def test_max_k_is_known_before_a_run():
  """Inside jit a k beyond n gives NaN; here it can be compared with n."""
  for schedule, expected in (
    (pkpo_jax.constant_k(np.int64(3)), 3),
    (pkpo_jax.piecewise_k([2, 16, 1], np.array([5, 9])), 16),
    (pkpo_jax.linear_k(8, 1, 1000), 8),
    (pkpo_jax.linear_k(1, 12, 3), 12),
  ):
    assert schedule.max_k == expected and isinstance(schedule.max_k, int)
    assert int(jnp.max(schedule(jnp.arange(1001)))) == expected


def test_piecewise_k_needs_a_piece():
  with pytest.raises(ValueError, match="piecewise_k"):
    pkpo_jax.piecewise_k([], [])


@pytest.mark.parametrize("steps", [0, -1])
def test_linear_k_needs_a_transition(steps):
  with pytest.raises(ValueError, match=f"transition_steps .* {steps}"):
    pkpo_jax.linear_k(8, 1, steps)


def test_linear_k_never_turns_back():
  for first, last in itertools.product((1, 3, 16), repeat=2):
    steps = np.diff(pkpo_jax.linear_k(first, last, 37)(np.arange(50)))
    assert np.all(steps >= 0) or np.all(steps <= 0)
