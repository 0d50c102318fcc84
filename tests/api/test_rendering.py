"""Chat templates are rendered as transformers renders them, whatever form their content has."""

import asyncio
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from api.errors import ApiError
from api.rendering import LONGEST_TEMPLATE, Renderer, Sandbox
from pooling.chat_template import ChatTemplate

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

FLAT = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] + eos_token }}{% endfor %}"
STRIPPED = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
STRUCTURED = (
    "{% for m in messages %}[{{ m.role }}]"
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
BOTH = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part['text'] }}{% endfor %}{% endif %}{% endfor %}"
)
RICH = """\
{%- set ns = namespace(seen=0) %}
{%- for m in messages if m.role != 'system' %}
    {%- if loop.index > 3 %}{% break %}{% endif %}
    {%- set ns.seen = ns.seen + 1 %}
    {%- generation %}
{{ ns.seen }}: {{ m | tojson }}
    {%- endgeneration %}
{%- endfor %}
{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
  {% if add_generation_prompt %}
next{{ unk_token }}, {{ mood | default('calm') }}
  {% endif %}
"""

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "<b>&\"'水</b>"},
    {"role": "user", "content": "where to?"},
    {"role": "assistant", "content": "  the mill \n", "reasoning": "think"},
]


class Rendering:
    """A renderer for tests, which wait."""

    def __init__(self, runner: asyncio.Runner, renderer: Renderer) -> None:
        self._runner = runner
        self._renderer = renderer

    def render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        return self._runner.run(self._renderer.render(messages, **options))


Rendered = Callable[[str], Rendering]


@pytest.fixture
def renderer(runner: asyncio.Runner, sandbox: Sandbox) -> Rendered:
    """Makes renderers of templates."""

    def made(source: str) -> Rendering:
        template = ChatTemplate(source, SPECIAL, Path("chat_template.jinja"))
        return Rendering(runner, Renderer(sandbox, template, SPECIAL, takes_templates=True))

    return made


def parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        *product([FLAT, STRIPPED, BOTH, RICH], [{}, {"add_generation_prompt": True}]),
        *product([FLAT, STRIPPED, BOTH], [{"continue_final_message": True}]),
    ],
)
@pytest.mark.parametrize("variables", [{}, {"mood": "wild", "tools": [{"name": "<a>"}], "bos_token": "!"}])
def test_a_template_gives_what_it_gives_in_transformers(
    renderer: Rendered, source: str, options: dict[str, bool], variables: dict[str, Any]
) -> None:
    (wanted,), _ = render_jinja_template([MESSAGES], chat_template=source, **options, **{**SPECIAL, **variables})
    assert renderer(source).render(MESSAGES, variables=variables, **options) == wanted


@pytest.mark.parametrize("source", [FLAT, STRIPPED, STRUCTURED, BOTH])
def test_content_reaches_the_template_in_the_form_that_it_reads(renderer: Rendered, source: str) -> None:
    made = renderer(source)
    as_text = made.render([{"role": "user", "content": "the mill"}])
    assert "[user]" in as_text
    assert "the mill" in as_text
    assert made.render([{"role": "user", "content": parts("the mill")}]) == as_text


def test_parts_are_joined_by_the_template_or_else_by_a_line_break(renderer: Rendered) -> None:
    content = [*parts("the mill"), *parts("pond")]
    assert renderer(BOTH).render([{"role": "user", "content": content}]) == "[user]the millpond"
    assert renderer(FLAT).render([{"role": "user", "content": content}]) == "<s>[user]the mill\npond</s>"


def test_a_message_of_parts_is_continued_at_its_last_one(renderer: Rendered) -> None:
    content = [*parts("the mill"), *parts("pond ")]
    for source, wanted in ((BOTH, "[user]the millpond "), (STRIPPED, "[user] the mill\npond")):
        assert renderer(source).render([{"role": "user", "content": content}], continue_final_message=True) == wanted


def test_a_template_that_needs_more_than_a_user_gets_plain_text(renderer: Rendered) -> None:
    source = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[1].content }}"
    )
    assert renderer(source).render(MESSAGES) == "where to?"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must alternate."),
        ("{{ messages[0].tools.name }}", "refuses these messages: .*has no attribute 'tools'"),
        ("{{ messages[9].content + 'a' }}", "refuses these messages"),
        ("{{ 1 // 0 }}", "refuses these messages: .*zero"),
        ("{% for i in range(1000000) %}{% endfor %}", "refuses these messages: .*range"),
        ("{{ messages.__class__.__mro__ }}", "refuses these messages: .*unsafe"),
        ("{{ messages.append(1) }}", "refuses these messages: .*unsafe"),
        ("{% set ns = namespace() %}{% set ns.__html__ = 1 %}", "refuses these messages: .*must not begin with _"),
        ("{{ namespace(__call__=1) }}", "refuses these messages: .*must not begin with _"),
        ("{% if %}", r"chat_template\.jinja, line 1\) is broken"),
    ],
)
def test_what_goes_wrong_in_a_template_is_told_in_its_words(renderer: Rendered, source: str, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        renderer(source).render(MESSAGES)
    assert (caught.value.status, caught.value.param) == (400, "messages")


@pytest.mark.parametrize(
    ("source", "messages"), [(FLAT, [{"role": "user", "tool_calls": [1]}]), ("a constant", MESSAGES)]
)
def test_nothing_to_continue_is_said(renderer: Rendered, source: str, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(ApiError, match="continue_final_message is true, but"):
        renderer(source).render(messages, continue_final_message=True)


def test_the_time_of_day_is_known(renderer: Rendered) -> None:
    assert renderer("{{ strftime_now('%Y') }}").render(MESSAGES).startswith("20")


def test_a_callers_template_is_rendered_with_the_tokens_of_the_checkpoint(renderer: Rendered) -> None:
    template = "{{ bos_token }}{{ messages[0].content }}{{ mood }}"
    assert renderer(FLAT).render(MESSAGES[1:], template=template, variables={"mood": "!"}) == "<s>where to?!"


@pytest.mark.parametrize(
    ("template", "param", "message"),
    [
        ("{% if %}", "chat_template", r"template of this request \(chat_template, line 1\) is broken"),
        ("{{ raise_exception('no') }}", "messages", "template of this request refuses these messages: no"),
        ("a" * (LONGEST_TEMPLATE + 1), "chat_template", "100001 characters, over the limit of 100000"),
    ],
)
def test_what_is_wrong_with_a_callers_template_is_said_of_it(
    renderer: Rendered, template: str, param: str, message: str
) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        renderer(FLAT).render(MESSAGES, template=template)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("name", ["lipsum", "wordwrap", "striptags", "pprint", "named characters", "undefined"])
def test_what_jinja_and_python_import_late_is_there(renderer: Rendered, name: str) -> None:
    source, wanted = {
        "lipsum": ("{{ lipsum(1, false) | length > 9 }}", "True"),
        "wordwrap": ("{{ 'the mill' | wordwrap(4) }}", "the\nmill"),
        "striptags": ("{{ '<b>&amp;</b>' | striptags }}", "&"),
        "pprint": ("{{ {'a': 1} | pprint }}", "{'a': 1}"),
        "named characters": (r"{{ '\N{LATIN SMALL LETTER A}' }}", "a"),
        "undefined": ("{{ nothing }}", ""),
    }[name]
    assert renderer(source).render(MESSAGES) == wanted


def test_nesting_that_nothing_reads_is_refused(renderer: Rendered) -> None:
    nested: dict[str, Any] = {}
    for _ in range(1100):
        nested = {"a": nested}
    with pytest.raises(ApiError, match="nested more than a thousand times"):
        renderer(FLAT).render(MESSAGES, variables={"x": nested})


def test_a_long_conversation_comes_back_whole(renderer: Rendered) -> None:
    text = "水é " * 1_000_000
    assert renderer(BOTH).render([{"role": "user", "content": text}]) == f"[user]{text}"
