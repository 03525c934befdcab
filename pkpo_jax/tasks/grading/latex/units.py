r"""Units and other words behind a number: what they change, and what not.

The unit of an answer is what the question names. Words behind a number neither
change nor free it, with these exceptions: a known unit that contradicts the
reference or the question is wrong; number words such as "dozen" and "thousand"
multiply, unless the question asks for dozens or thousands; words such as "or",
"not" and "factorial" are no mere words; and a.m. is not p.m., nor left right.
"""

import functools
import re
from fractions import Fraction
from typing import NamedTuple

from pkpo_jax.tasks.grading.latex.spelling import formulas

# Dimension -> unit -> other names of it, in the singular.
_DIMENSIONS = {
  "length": {
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "in": "inch inche",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
  },
  "mass": {
    "mg": "milligram",
    "g": "gram",
    "kg": "kilogram kilo",
    "ton": "tonne",
    "lb": "pound lbs",
    "oz": "ounce",
  },
  "volume": {
    "ml": "mL milliliter millilitre",
    "l": "L liter litre",
    "gal": "gallon",
    "qt": "quart",
    "pt": "pint",
    "cup": "",
  },
  "time": {
    "s": "sec second",
    "min": "minute",
    "h": "hr hour",
    "d": "day",
    "wk": "week",
    "mo": "month",
    "yr": "year",
    "decade": "",
    "century": "centurie",
  },
  "money": {"dollar": "buck usd", "cent": "penny pennie", "euro": "eur"},
  "angle": {"degree": "deg", "rad": "radian"},
  "speed": {"mph": "", "kph": "kmh", "mi/h": "", "km/h": "", "m/s": ""},
}
_SAME = {"mph": "mi/h", "kph": "km/h"}
_CANONICAL = {
  word: _SAME.get(unit, unit)
  for units in _DIMENSIONS.values()
  for unit, others in units.items()
  for word in (unit, *others.split())
}
_DIMENSION_OF = {
  _SAME.get(unit, unit): dimension
  for dimension, units in _DIMENSIONS.items()
  for unit in units
}
_FACTORS = {
  "pair": Fraction(2),
  "dozen": Fraction(12),
  "gross": Fraction(144),
  "hundred": Fraction(100),
  "thousand": Fraction(1_000),
  "grand": Fraction(1_000),
  "lakh": Fraction(100_000),
  "crore": Fraction(10**7),
  "million": Fraction(10**6),
  "billion": Fraction(10**9),
  "trillion": Fraction(10**12),
  "cent": Fraction(1, 100),
}
_ONES = re.findall(
  r"\w+",
  "zero one two three four five six seven eight nine ten eleven twelve"
  " thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
)
_TENS = re.findall(
  r"\w+",
  "twenty thirty forty fifty sixty seventy eighty ninety",
)
_NUMBERS = {
  **{word: i for i, word in enumerate(_ONES)},
  **{word: 10 * i for i, word in enumerate(_TENS, 2)},
}
# Unless the question asks for them: "5 or more" is not 5, nor is "5 halves".
_NOT_MERE_WORDS = frozenset(
  re.findall(
    r"\w+",
    "or and not if more less fewer than least most about approximately"
    " around roughly nearly almost to no nor minus plus times over only"
    " except either neither but between up below under"
    " beyond negative positive factorial squared cubed square cube root"
    " power double twice triple thrice half halves third quarter fifth"
    " sixth seventh eighth ninth tenth hundredth thousandth score mod"
    " modulo divided multiplied point infinity infinite unknown wrong"
    " incorrect false both any all none remainder ratio choose"
    " sine cosine log ln exp sin cos tan sqrt pi tau phi theta alpha beta",
  )
) | {*_NUMBERS}
# Short words that may stand behind the first.
_SMALL = frozenset(
  re.findall(
    r"\w+",
    "a an the at in of on by per he she it we i his her each as so us my",
  )
)
# Words of which one excludes the others: 7 p.m. is not 7 a.m.
_OPPOSITES = (
  "am pm",
  "north south east west northeast northwest southeast southwest",
  "left right",
  "up down",
  "above below",
  "before after",
  "clockwise counterclockwise anticlockwise",
  "increase decrease",
  "profit gain loss",
  "more less fewer",
)
_EXTRA = frozenset({"additional", "extra", "further"})
_PHRASE = r"[A-Za-z][A-Za-z/. ,'()-]*"
_POWER = r"(?:\s*\^\s*\{?(?P<power>[23])\}?)?"
_TEXT_UNIT = re.compile(
  r"(?P<value>.*?[\d}).A-Za-z])\s*\\text\s*\{\s*/?\s*"
  rf"(?P<unit>{_PHRASE}){_POWER}\s*\}}{_POWER.replace('power', 'power2')}"
  rf"(?P<more>\s*{_PHRASE})?"
)
_BARE_UNIT = re.compile(
  rf"(?P<value>.*[\d}})])(?P<gap>\s*/?\s*)(?P<unit>{_PHRASE}){_POWER}"
)
_IN_WORDS = re.compile(
  r"(?P<value>-?[\d.]+)\s*(?:\\text\s*\{\s*)?"
  r"\(\s*(?P<words>[A-Za-z][A-Za-z -]*)\)(?P<rest>[^}]*)\}?"
)
_INCHES = re.compile(r'(?P<value>[\d}])\s*"$')
_SIGN = re.compile(
  r"\s*(?:\\?%|\\text\s*\{\s*%\s*\}|\^\s*\{?\s*\\circ\s*\}?)\s*$"
)
_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)\s*[({]?\s*\d")
_HOW_MANY = re.compile(
  r"\b(?:how\s+(?:many|much)|number\s+of)\s+(?=((?:[A-Za-z]+\s?){1,3}))"
)
# What comes after it is not asked for: how much money does Penny have?
_VERB = re.compile(
  r"\b(?:do|does|did|is|are|was|were|has|have|had|can|could|will|would|must)\b"
)
_EXPRESSED_IN = re.compile(r"\bin\s+(?:terms\s+of\s+)?(?=((?:[a-z]+\s?){1,3}))")
_WORD = re.compile(r"[A-Za-z]+")


class Asked(NamedTuple):
  """What a question says about the unit of its answer.

  Attributes:
    words: words that it asks , in the singular: dozen, cent.
    units: the known units that it asks .
    named: all known units that it names.
    letters: letters that stand in its formulas: variables, not units.
  """

  words: frozenset[str] = frozenset()
  units: frozenset[str] = frozenset()
  named: frozenset[str] = frozenset()
  letters: frozenset[str] = frozenset()

  def with_words(self, reference: str) -> "Asked":
    """Adds the words of a reference, whose unit is asked for as well."""
    found = {
      _singular(w) for w in re.findall(r"(?<!\\)[A-Za-z]{3,}", reference)
    }
    return self._replace(words=self.words | found)


NOTHING = Asked()


@functools.lru_cache(maxsize=1024)
def asked(question: str) -> Asked:
  """Reads what unit a question asks ."""
  inside, text = formulas(question[:10_000])
  letters = {
    x for f in inside for x in re.findall(r"(?<![\\A-Za-z])[A-Za-z]", f)
  }
  lower = text.lower()
  phrases = _HOW_MANY.findall(lower)
  if not phrases:
    phrases = _EXPRESSED_IN.findall(lower)
  else:
    phrases += [
      p
      for p in _EXPRESSED_IN.findall(lower)
      if _singular(p.split()[0]) in _FACTORS
    ]
  words = {
    _singular(w) for p in phrases for w in _WORD.findall(_VERB.split(p)[0])
  }
  words |= {"more"} if words & _EXTRA else set()
  names = {_known(w) for w in _WORD.findall(lower) if len(w) > 2}
  names |= {_known(w) for w in re.findall(r"\d\s*([A-Za-z]{1,3})\b", text)}
  if re.search(r"\$\s*\.?\d", text) or re.search(r"\\\$\s*\.?\d", question):
    names.add("dollar")
  return Asked(
    frozenset(words - {""}),
    frozenset(u for u in map(_known, words) if u),
    frozenset(names - {""}),
    frozenset(letters),
  )


def _singular(word: str) -> str:
  lower = word.lower()
  if lower.endswith("s") and not lower.endswith("ss") and len(lower) > 3:
    return lower[:-1]
  return lower


def _known(word: str) -> str:
  """The known unit that a word names, or ""."""
  for form in (word, word.lower(), word.lower().rstrip("s")):
    if form in _CANONICAL:
      return _CANONICAL[form]
  return ""


def changes_a_number(words: str) -> bool:
  """Tells whether words behind a number may say another number."""
  found = {_singular(w) for w in _WORD.findall(words)}
  return bool(
    re.search(r"[\d\\=<>]", words)
    or found & (_NOT_MERE_WORDS - {"is", "are"})
    or found & {*_FACTORS}
    or re.search(r"\bnot\b|\bor\b", words)
  )


class Quantity(NamedTuple):
  """A value with its unit.

  Attributes:
    value: the LaTeX of the value.
    unit: a known unit, or "".
    factor: what number words multiply the value by.
  """

  value: str
  unit: str = ""
  factor: Fraction = Fraction(1)


def split(text: str, about: Asked = NOTHING) -> Quantity:
  """Splits words off a value: a unit, a percent sign, a degree sign.

  A text whose last words are more than that is returned whole.
  """
  text = _INCHES.sub(r"\g<value>\\text{ in}", text.strip())
  bare = _SIGN.sub("", text)
  if bare != text and not _ANGLE.search(text):
    return Quantity(bare)
  spelled = _IN_WORDS.fullmatch(text)
  if spelled and _spelled(spelled["words"]) == spelled["value"]:
    return split(spelled["value"] + spelled["rest"], about)
  match = _TEXT_UNIT.fullmatch(text)
  is_bare = match is None
  if match is None:
    match = _BARE_UNIT.fullmatch(text)
  if match is None:
    return Quantity(text)
  found = match.groupdict()
  phrase = found["unit"] + (found.get("more") or "")
  words = _WORD.findall(phrase)
  if is_bare and not _are_words(words, found["gap"], about):
    return Quantity(text)
  power = found.get("power") or found.get("power2") or ""
  read = _read(words, phrase, power, about)
  if read is None:
    return Quantity(text)
  unit, factor = read
  inner = split(found["value"], about) if is_bare else Quantity(found["value"])
  return Quantity(_SIGN.sub("", inner.value), unit, factor * inner.factor)


def _are_words(words: list[str], gap: str, about: Asked) -> bool:
  """Tells bare words from variables: 5 apples, 5 cm, but 5x and 5xyz."""
  for place, word in enumerate(words):
    if place and word.lower() in _SMALL:
      continue
    known = _known(word)
    if known and place and _known(words[place - 1]):
      continue  # km/h
    if len(word) == 1:
      is_named = known and known in about.named
      if word in about.letters or not (is_named or (gap and word in "mg")):
        return False
    elif not known and (len(word) == 2 or not (gap or place)):
      return False
  return True


def _read(
  words: list[str], phrase: str, power: str, about: Asked
) -> tuple[str, Fraction] | None:
  """Unit and factor of the words behind a number; None if they are more."""
  factor = Fraction(1)
  left = list(words)
  while left and _singular(left[0]) in _FACTORS:
    word = _singular(left.pop(0))
    if word not in about.words:
      factor *= _FACTORS[word]
  singulars = [_singular(word) for word in left]
  squares = [w for w in singulars if w in ("square", "squared", "sq", "cubic")]
  if squares and len(left) == 2:
    keep = next(w for w in left if _singular(w) not in squares)
    return f"{_known(keep)}{3 if squares == ['cubic'] else 2}", factor
  if len(words) == 1 and len(words[0]) == 1 and not _known(words[0]):
    return None  # 5\text{ x} is no number of things.
  for word, lower, before in zip(
    singulars, map(str.lower, left), ["", *singulars]
  ):
    if {word, lower} & about.words or (before, lower) == ("left", "over"):
      continue
    if lower == "points":  # 5 points, but not 5 point 2.
      continue
    if {word, lower} & (_NOT_MERE_WORDS | {*_FACTORS}):
      return None
  unit = _known(left[0]) if left else ""
  if _singular(words[0]) == "cent":
    unit = "cent" if factor == 1 else "dollar"
  if len(left) > 1 and (per := re.search(r"/\s*(\w+)|per\s+(\w+)", phrase)):
    below = _known(per[1] or per[2])
    unit = f"{unit}/{below}" if unit and below else ""
  return (f"{unit}{power}" if unit else ""), factor


def contradict(gold: str, answer: str, about: Asked) -> bool:
  """Tells whether the unit of an answer is another than what was asked ."""
  if not answer:
    return False
  if gold:
    return gold != answer
  dimension = _DIMENSION_OF.get(answer)
  if dimension is None or answer in about.units:
    return False
  for units in (about.units, about.named):
    same = {u for u in units if _DIMENSION_OF.get(u) == dimension}
    if same:
      return answer not in same
  return False


def oppose(gold: str, answer: str) -> bool:
  """Tells whether two texts have words that exclude each other."""
  texts = [
    _WORD.findall(re.sub(r"(?<=\b[ap])\.\s?(?=m\b)", "", text.lower()))
    for text in (gold, answer)
  ]
  for group in _OPPOSITES:
    ours, theirs = ({*text} & {*group.split()} for text in texts)
    if ours and theirs and ours != theirs:
      return True
  return False


def _spelled(words: str) -> str:
  """The number that words spell, below 1000, as text; "" if they do not."""
  total = 0
  found = [w for w in _WORD.findall(words.lower()) if w != "and"]
  for word in found:
    if word == "hundred":
      total *= 100
    elif word in _NUMBERS:
      total += _NUMBERS[word]
    else:
      return ""
  return str(total) if found else ""
