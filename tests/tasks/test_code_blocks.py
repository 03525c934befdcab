import time

import pytest

from pkpo_jax.tasks import code_blocks

GOOD = "def add(a, b): return a + b"
BAD = "def add(a, b): return None"
OTHER = "def other(): return None"
STUBS = {
  "dots": "def add(a, b): ...",
  "pass": "def add(a, b):\n  pass",
  "docstring": 'def add(a: int, b: int) -> int:\n  """Adds.\n\n  More.\n  """',
  "comment": "def add(\n  a={1: 2},\n  b=(3, [4]),\n):\n  # to do\n  pass",
  "not implemented": "def add(a, b):\n  'Adds.'\n  raise NotImplementedError()",
  "cut off": "def add(a, b):",
  "in its head": "def add(a, b",
}


def fenced(*codes, tag="python"):
  return "\n".join(f"Text:\n```{tag}\n{code}\n```" for code in codes)


@pytest.mark.parametrize(
  ("completion", "source"),
  [
    (GOOD, GOOD),
    (fenced(GOOD), f"{GOOD}\n"),
    (f"```\n{BAD}\n```\nNo:\n```py\n{GOOD}\n```\nDone.", f"{GOOD}\n"),
    (f"```\n{GOOD}\n```\nTry it:\n```\nprint(add(1, 2))\n```", f"{GOOD}\n"),
    (f"- a list:\n  ```python\n  {GOOD}\n  ```", f"{GOOD}\n"),
    (f"1. ```Python3\n   {GOOD}\n   ```", f"{GOOD}\n"),
    (f"```python\n{GOOD}\n", f"{GOOD}\n\n"),  # cut short
    (f"```\n{GOOD}\n```\nBetter:\n```\n{BAD[:15]}", f"{GOOD}\n"),
    (f"{GOOD}\n```\nThe prompt opened it.", f"{GOOD}\n"),
    ("add = lambda a, b: a + b", "add = lambda a, b: a + b"),
    ("add: object = max", "add: object = max"),
    ("from operator import add", "from operator import add"),
    ("async def add(a, b): pass", "async def add(a, b): pass"),
    ("class add: pass", "class add: pass"),
    ("", None),
    ("I cannot add.", None),
    ("add: adds two numbers", None),
    ("add == 3", None),
    (fenced(OTHER), None),
    ("def addition(a, b): return a + b", None),
  ],
)
def test_which_code_is_taken(completion, source):
  found = code_blocks.find(completion, "add")
  assert found == (None if source is None else (source,))


@pytest.mark.parametrize(
  "later",
  [
    fenced("from solution import add\nassert add(1, 2) == 3"),
    fenced("add = None"),
    fenced("add: the sum", tag="yaml"),
    fenced(BAD, tag="javascript"),
    fenced("import unittest\nclass Test(unittest.TestCase):\n"
           "  def add(self):\n    self.fail()"),
    *map(fenced, STUBS.values()),
  ],
)  # fmt: skip
def test_a_mention_does_not_beat_a_definition(later):
  assert code_blocks.find(f"{fenced(GOOD)}\n{later}", "add") == (f"{GOOD}\n",)
  assert code_blocks.find(f"{fenced(GOOD)}\n{later}\n{fenced(BAD)}", "add")[
    -1
  ] == (f"{BAD}\n")


@pytest.mark.parametrize("stub", STUBS.values(), ids=STUBS)
def test_a_stub_has_no_body(stub):
  assert code_blocks.strength(stub, "add") == code_blocks.MENTIONS
  assert code_blocks.strength(f"{stub}\n{GOOD}", "add") == code_blocks.DEFINES


@pytest.mark.parametrize(
  "code",
  [
    "def add(a, b):\n  for _ in []: pass\n  pass",
    "def add(a, b=':'):\n  return a + b",
    "def add(a: {1: 2}, b) -> 'dict[str, int]': return a",
    'def add(a, b):\n  """Adds."""\n  return a + b',
    "import x\n\nasync def add(a):\n  return 1",
    "def add(a, b): pass\ndef add(a, b): return a + b",
  ],
)
def test_a_definition_with_a_body(code):
  assert code_blocks.strength(code, "add") == code_blocks.DEFINES


def test_a_program_may_be_split_over_blocks():
  parts = "import math", "def half(x): return x / 2"
  found = code_blocks.find(fenced(*parts, GOOD, "print(add(1, 2))"), "add")
  assert found == tuple(f"{code}\n" for code in (*parts, GOOD))


def test_an_earlier_version_does_not_come_back():
  found = code_blocks.find(fenced("import math", GOOD, BAD), "add")
  assert found == ("import math\n", f"{BAD}\n")


DOCSTRING = 'def add(a, b):\n  """Adds.\n\n  ```\n  add(1, 2)\n  ```\n  """\n'


@pytest.mark.parametrize(
  ("text", "code"),
  [
    (f"Here is it: ```python\n{GOOD}\n```", GOOD),
    (f"````python\n{GOOD}\n# ```\n````", f"{GOOD}\n# ```"),
    (f"~~~\n{GOOD}\n~~~\nDone.", GOOD),
    (f"~~~python\n{GOOD}\n```\n~~~", f"{GOOD}\n```"),
    (f"```python\n{GOOD}```\nDone.", GOOD),
    (f"```{{.python .numberLines}}\n{GOOD}\n```", GOOD),
    (f'```python title="a.py"\n{GOOD}\n```', GOOD),
    (
      f"```python\n{DOCSTRING}  return a + b\n```",
      f"{DOCSTRING}  return a + b",
    ),
    (f"```python\n{BAD}\n```python\n{GOOD}\n```", GOOD),  # never closed
    (f"[BEGIN]\n{GOOD}\n[DONE]\n[BEGIN]\nx\n[DONE]", GOOD),
    (f"\ufeff```python\r\n{GOOD}\r\n```", GOOD),
  ],
)
def test_fences_of_all_kinds(text, code):
  assert code_blocks.find(text, "add") == (f"{code}\n",)


@pytest.mark.parametrize(
  "tag",
  ["python3.9", "python,ignore", "python:f.py", "tool_code", "code", "text",
   "pycon", "PYTHON", "py3", "ipython3", "plaintext", "{.python}"],
)  # fmt: skip
def test_tags_of_all_kinds(tag):
  """One that names something else will do if there is no other block."""
  assert code_blocks.find(fenced(GOOD, tag=tag), "add") == (f"{GOOD}\n",)
  parts = fenced("import math", GOOD, tag=tag)
  assert code_blocks.find(parts, "add") == ("import math\n", f"{GOOD}\n")
  stub = fenced("def add(a, b): ...")
  found = code_blocks.find(f"{stub}\n{fenced(GOOD, tag=tag)}", "add")
  assert found == (f"{GOOD}\n",)


@pytest.mark.parametrize("tag", ["text", "ruby", "diff"])
def test_a_block_of_python_comes_before_other_tags(tag):
  for python in ("python", ""):
    text = f"{fenced(GOOD, tag=python)}\n{fenced(BAD, tag=tag)}"
    assert code_blocks.find(text, "add") == (f"{GOOD}\n",)
  lines = fenced("add = lambda a, b: a + b", tag=tag)
  assert code_blocks.find(f"{GOOD}\n{lines}", "add") == (f"{GOOD}\nText:\n",)


SESSION = """>>> def add(a, b):
...     return a + b
...
>>> add(1, 2)
3
"""


@pytest.mark.parametrize("tag", ["", "python", "pycon"])
def test_sessions(tag):
  code = "def add(a, b):\n    return a + b\n\nadd(1, 2)\n"
  assert code_blocks.find(fenced(SESSION, tag=tag), "add") == (code,)


@pytest.mark.parametrize(
  "indent", ["\u00a0\u00a0", " \u00a0", "\u200b  ", "\u3000 ", "  \ufeff"]
)
@pytest.mark.parametrize("form", ["{}", "\u200b{}", "```python\n{}\n```"])
def test_indents_that_python_does_not_take(indent, form):
  text = f"def add(a, b):\n{indent}c = '\u00a0\u200b'\n  return a + b"
  code = "def add(a, b):\n  c = '\u00a0\u200b'\n  return a + b"
  (found,) = code_blocks.find(form.format(text), "add")
  assert found.rstrip("\n") == code


@pytest.mark.parametrize(
  ("text", "code"),
  [
    (f" {GOOD}", GOOD),
    (f"\n\n  {GOOD}\n  # end", f"{GOOD}\n# end"),
    (f"\ufeff{GOOD}", GOOD),
    (
      f"Sure, from the list we see:\n\nimport math\n{GOOD}",
      f"import math\n{GOOD}",
    ),
    (
      f"A class of its own.\n\nN = 3\n# Adds.\n{GOOD}",
      f"N = 3\n# Adds.\n{GOOD}",
    ),
    (f"N = 3\n{GOOD}", f"N = 3\n{GOOD}"),
    (f"{GOOD}\n[DONE]\nNow you.", f"{GOOD}\n"),
    (f"It is `add`.\n@cache\n{GOOD}\nDone.", f"@cache\n{GOOD}\nDone."),
  ],
)
def test_code_without_fences(text, code):
  assert [c.strip() for c in code_blocks.find(text, "add")] == [code.strip()]


@pytest.mark.slow
@pytest.mark.parametrize(
  "text",
  [
    "```\n" * 30_000,
    "``` `\n" * 10**5,
    " " * 10**6,
    "`" * 10**6,
    "`" * 10**6 + "x`",
    "~`" * 10**5,
    '"""\n' * 10**5,
    "def add(\n" * 10**5,
    "def add(a): pass\n" * 10**5,
    "def add" + "(" * 10**6,
    "import add" + " " * 10**6 + "!",
    "add" + " " * 10**6 + ":",
    "```\ndef add(a):" + '"""' * 10**5,
    " \u00a0" * 10**6,
    (" " * 999 + "x\n") * 1000,
    "```\n" + ">>> \n" * 10**5,
    "```" + "{." * 10**6,
  ],
  ids=range(17),
)
def test_no_answer_is_slow_to_read(text):
  start = time.process_time()
  code_blocks.find(text, "add")
  assert time.process_time() - start < 3
