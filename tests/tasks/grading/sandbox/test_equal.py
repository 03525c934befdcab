import inspect

import pytest

from pkpo_jax.tasks.grading.sandbox import equal


@pytest.mark.parametrize(
  ("value", "expected", "same"),
  [
    (1.0, 1, True),
    (True, 1, True),
    ([1], (1,), False),
    ({1, 2}, {2, 1}, True),
    ([1, 2], [2, 1], False),
    ("1", 1, False),
    (None, None, True),
    (float("nan"), float("nan"), False),
    # Floats, but for rounding.
    (0.1 + 0.2, 0.3, True),
    (2 * 3.1415 * 10, 62.830000000000005, True),
    ([1, (0.1 + 0.2,)], [1, (0.3,)], True),
    ({"a": 0.1 + 0.2}, {"a": 0.3}, True),
    ({"a": 0.1 + 0.2}, {"b": 0.3}, False),
    ([0.1 + 0.2], [0.3, 0.3], False),
    ([0.1 + 0.2], (0.3,), False),
    (0.3001, 0.3, False),
    (3.0000000000000004, 3, False),
    (1e-12, 0.0, False),
    (10**400, 1.5, False),
    (float("inf"), float("inf"), True),
    (float("inf"), 1e308, False),
  ],
)
def test_equal(value, expected, same):
  assert equal.equal(value, expected) == same


def test_its_text_needs_nothing_of_this_project():
  names = {}
  exec(inspect.getsource(equal), names)
  assert names["equal"]([0.1 + 0.2, {"a": (1,)}], [0.3, {"a": (1,)}])
  assert "pkpo_jax" not in inspect.getsource(equal)
