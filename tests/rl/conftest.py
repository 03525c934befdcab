"""Lets the tests here import the references of tests/ and tests/lm/."""

import pathlib
import sys

_TESTS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "lm")]
