"""Chat templates in the ways that published ones are written."""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' -%}
{{ raise_exception('no system role') }}{%- endif %}
{% for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim
 + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
CHATML = """{% for m in messages %}
{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' -}}
{% endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
SYSTEM = """{{ bos_token }}You think first.

Q: {{ messages[-1].content | trim }}
A:"""
TRAINING = """{{ bos_token }}{% for m in messages %}
{%- if m['role'] == 'assistant' %}
{% generation %}{{ m['content'] }}{% endgeneration %}
{%- else %}{{ 'Q: ' + m['content'] + '\\n' }}{% endif %}
{%- endfor %}{{ 'A:' }}"""
