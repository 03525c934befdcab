"""The frame that a chat template puts around a user's turn."""

import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

_PROBE = "probe7 of a turn"
_OTHERS = (
  "Is 1 < 2?\n\n  {{ 3 }} {% x %} 'é' \"&amp;\" \\n",
  f"{_PROBE} {_PROBE}",
  "5",
)


class Frame(NamedTuple):
  """What comes before and after the text of a user's turn in a prompt.

  Attributes:
    before: text and control tokens, from the start of the prompt.
    after: text and control tokens, up to where the model begins its answer.
    strips: whether blanks and line ends around the turn are taken off.
  """

  before: str
  after: str
  strips: bool


GEMMA = Frame(
  "<bos><start_of_turn>user\n",
  "<end_of_turn>\n<start_of_turn>model\n",
  strips=True,
)

# Says turns as `GEMMA` does.
GEMMA_TEMPLATE = """{{ '<bos>' }}
{%- for message in messages -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{- '<start_of_turn>' + role + '\\n' + message.content | trim
    + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""


def find_frame(template: str, special: Mapping[str, str]) -> Frame:
  """Finds the frame that a chat template gives to a single turn.

  Args:
    template: in Jinja, as `transformers` has them; it is rendered in a sandbox.
    special: the names of special tokens in templates, such as "bos_token", and
      their texts.

  Raises:
    ValueError: the template cannot be rendered, or does more than to put a
      frame around the turn.
  """
  compiled = _compile(template)

  def render(text: str) -> str:
    try:
      return compiled.render(
        messages=[{"role": "user", "content": text}],
        add_generation_prompt=True,
        tools=None,
        documents=None,
        **special,
      )
    except Exception as error:  # a template may raise anything
      raise _unusable(f"{type(error).__name__}: {error}") from error

  before, found, after = render(_PROBE).partition(_PROBE)
  padded = f" \n{_PROBE}\n "
  frames = [Frame(before, after, strips) for strips in (True, False)]
  fitting = [
    frame for frame in frames if _around(frame, padded) == render(padded)
  ]
  if not found or not fitting:
    raise _unusable("it does not show the turn once, as it is or stripped")
  for text in _OTHERS:
    if _around(fitting[0], text) != render(text):
      raise _unusable(f"what is around a turn depends on it, as for {text!r}")
  return fitting[0]


def _around(frame: Frame, text: str) -> str:
  """Puts a frame around a text."""
  return frame.before + (text.strip() if frame.strips else text) + frame.after


def _compile(template: str) -> Any:
  """Compiles a template with what `transformers` gives to one."""
  from jinja2 import exceptions, ext, sandbox

  class Generation(ext.Extension):
    """{% generation %}, which marks what a fine-tune learns: no text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
      next(parser.stream)
      return parser.parse_statements(("name:endgeneration",), drop_needle=True)

  def refuse(message: str) -> NoReturn:
    raise exceptions.TemplateError(message)

  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, ext.loopcontrols],
  )
  environment.globals["raise_exception"] = refuse
  environment.globals["strftime_now"] = lambda _: refuse(
    "it shows the day (strftime_now), which prompts must not change with"
  )
  environment.filters["tojson"] = functools.partial(
    json.dumps, ensure_ascii=False
  )
  try:
    return environment.from_string(template)
  except exceptions.TemplateError as error:
    raise _unusable(str(error)) from error


def _unusable(why: str) -> ValueError:
  return ValueError(
    f"the chat template cannot be used: {why}. Mend it, or set turns=False"
    " (config.tokenizer.turns) and put the turns into the prompts."
  )
