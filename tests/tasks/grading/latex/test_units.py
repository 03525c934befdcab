r"""Units and other words behind a number."""

import fractions

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


@pytest.mark.parametrize(
  ("text", "question", "value", "unit", "factor"),
  [
    ("7 dozen", "", "7", "", 12),
    ("7 dozen eggs", "How many dozen eggs are there?", "7", "", 1),
    ("7 dozen", "How many eggs are there?", "7", "", 12),
    ("7 cents", "How many dollars does he pay?", "7", "dollar", "1/100"),
    ("7 cents", "How many cents does he pay?", "7", "cent", 1),
    ("3 million", "How many people?", "3", "", 10**6),
    ("3 million", "How many million people?", "3", "", 1),
    ("60 km/h", "", "60", "km/h", 1),
    ("60 mph", "", "60", "mi/h", 1),
    ("25000/year", "", "25000", "yr", 1),
    ("18 dollars every day at the market", "", "18", "dollar", 1),
    ('67"', "", "67", "in", 1),
    ("70 (seventy)", "", "70", "", 1),
    ("33 more", "How many more are there?", "33", "", 1),
    ("33 more", "How many additional ones are there?", "33", "", 1),
    ("3 grand", "How much?", "3", "", 1000),
    ("3 lakh", "How much?", "3", "", 10**5),
    (r"14\text{ left over}", "How much money is left over?", "14", "", 1),
    ("98 points", "What score does she need?", "98", "", 1),
    ("4 points", "How many points does he win?", "4", "", 1),
  ],
)
def test_the_question_says_what_words_do(text, question, value, unit, factor):
  found = units.split(text, units.asked(question))
  assert found == (value, unit, fractions.Fraction(factor))


@pytest.mark.parametrize(
  "text",
  [
    "7 factorial", "7 squared", "7 halves", "7 or more", "70 (seventeen)",
    "7 point", r"7\text{ pi}", r"7\text{ x}", "7 over",
    "5x", "5xyz", "6s^2", "3m", "5 is", "7 twenty", "7 apples or 8",
  ],
)  # fmt: skip
def test_more_than_words_stays(text):
  assert units.split(text).value == text


@pytest.mark.parametrize(
  ("gold", "answer", "question", "verdict"),
  [
    ("", "km", "How many miles is it?", True),
    ("", "mi", "How many miles is it?", False),
    ("", "min", "How many hours are 120 minutes?", True),
    ("", "h", "How many hours are 120 minutes?", False),
    ("", "cm", "How much is it?", False),
    ("", "dollar", "Penny has $20 and pays $1. How much has Penny?", False),
    ("", "dollar", "A fine of 25 cents and $2. What must he pay?", False),
    ("", "dollar", "A fine of 25 cents. What must he pay?", True),
    ("cm", "m", "", True),
    ("cm2", "cm", "", True),
    ("cm", "", "How many miles is it?", False),
  ],
)
def test_units_contradict(gold, answer, question, verdict):
  about = units.asked(question)
  assert units.contradict(gold, answer, about) is verdict


def test_prices_are_no_formulas():
  about = units.asked("It costs $4 a dozen, and he has $20. How many dozen?")
  assert "dozen" in about.words and not about.letters
  assert units.asked("Find $m$ in meters.").letters == {"m"}


@pytest.mark.parametrize(
  ("gold", "answer", "verdict"),
  [
    (r"7\text{ p.m.}", r"7\text{ a.m.}", True),
    (r"7\text{ p.m.}", "7 PM", False),
    (r"7\text{ p.m.}", "7", False),
    (r"5\text{ km north}", r"5\text{ km South}", True),
    (r"5\text{ km north}", r"5\text{ kilometers north}", False),
    (r"5\text{ units left}", r"5\text{ units right}", True),
  ],
)
def test_some_words_exclude_each_other(gold, answer, verdict):
  assert units.oppose(gold, answer) is verdict
