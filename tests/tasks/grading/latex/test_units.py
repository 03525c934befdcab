r"""Units and other words behind a number."""

import pytest

from pkpo_jax.tasks.grading.latex import units


@pytest.mark.parametrize(
  ("text", "split"),
  [
    ("5", ("5", "")),
    ("5 cm", ("5", "cm")),
    ("5cm^2", ("5", "cm2")),
    (r"5\text{ cm}^{2}", ("5", "cm2")),
    (r"5\text{ centimeters}", ("5", "cm")),
    (r"5\text{ feet}", ("5", "ft")),
    ("5 apples", ("5", "")),
    (r"5\text{ miles per hour}", ("5", "mi/h")),
    (r"50\%", ("50", "")),
    (r"5^\circ", ("5", "")),
    (r"5^{\circ}\text{ degrees}", ("5", "degree")),
    # An angle keeps its degrees, a variable is no unit, a hedge is no unit.
    (r"\sin 60^\circ", (r"\sin 60^\circ", "")),
    ("5x", ("5x", "")),
    ("5 or more", ("5 or more", "")),
    (r"5\text{ or more}", (r"5\text{ or more}", "")),
  ],
)
def test_splits_off_the_unit(text, split):
  assert units.split(text)[:2] == split
