"""pkpo_jax.lm.chat_template: which frame a template gives to a turn."""

import pytest
from helpers.templates import CHATML, GEMMA, SYSTEM, TRAINING

from pkpo_jax.lm import chat_template

SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>"}

LOOP = """{% for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}
[{{ m.content }}]{% endfor %}"""


@pytest.mark.parametrize(
  ("template", "frame"),
  [
    (GEMMA, chat_template.GEMMA),
    (chat_template.GEMMA_TEMPLATE, chat_template.GEMMA),
    (
      CHATML,
      ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", False),
    ),
    (SYSTEM, ("<bos>You think first.\n\nQ: ", "\nA:", True)),
    (LOOP, ("[", "]", False)),
    (TRAINING, ("<bos>Q: ", "\nA:", False)),
    ("{{ messages[0]['content'] }}{{ eos_token }}", ("", "<eos>", False)),
    # As transformers has it, which renders an unknown name as nothing.
    ("{{ bos_tokn }}{{ messages[0]['content'] }}:", ("", ":", False)),
  ],
)
def test_the_frame_of_a_template(template, frame):
  assert chat_template.find_frame(template, SPECIAL) == frame


@pytest.mark.parametrize(
  ("template", "message"),
  [
    ("{{ raise_exception('no user role') }}", "no user role"),
    ("{% for m in messages %}", "for"),
    ("{{ messages[0].content | upper }}", "show the turn once"),
    ("{{ messages[0].content * 2 }}", "show the turn once"),
    ("no turn", "show the turn once"),
    ("{{ messages[0].content.lstrip() }}", "show the turn once"),
    (
      "{{ messages[0].content }} {{ messages[0].content | length }}",
      "turn once",
    ),
    ("{{ messages[0].content | replace('<', '') }}", "depends on it"),
    (
      "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% endif %}"
      "{{ messages[0].content }}",
      "shows the day",
    ),
    (
      "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}",
      "SecurityError",
    ),
    ("{% for i in range(10**9) %}{% endfor %}", "OverflowError"),
    ("{{ 1 // 0 }}{{ messages[0].content }}", "ZeroDivisionError"),
  ],
)
def test_a_template_that_is_no_frame_is_refused(template, message):
  with pytest.raises(ValueError, match=f"{message}.*turns=False"):
    chat_template.find_frame(template, SPECIAL)
