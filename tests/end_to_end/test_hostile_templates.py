"""Templates that loop, allocate, or reach for what is not theirs are refused within a second, and slow nobody else."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.errors import checked
from tests.server import GOLDEN, Millpond, client_of, serving

FAMILIES = GOLDEN / "families"

SECONDS = 1.0
"""Within which each is answered."""

GROWTH_BYTES = 150 * 1024 * 1024
"""Of an api process, at most, over all of them: one of them could take gigabytes."""

OWN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% for a in range(times or 0) %}{% for b in range(times) %}{% for c in range(times) %}{% endfor %}{% endfor %}"
    "{% endfor %}{{ filler * times if filler and times }}"
)
"""Of a checkpoint whose author trusts the variables that callers bring."""

ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "nested loops that write": "{% for a in range(99999) %}{% for b in range(99999) %}a mill {% endfor %}{% endfor %}",
    "a range": "{% for a in range(10**9) %}{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 2) }}{% endmacro %}{{ f(0) }}",
    "a large power": "{% set n = 10 %}{{ (n ** (n ** 8)) % 7 }}",
    "a power as it is compiled": "{{ 10 ** (10 ** 8) }}",
    "words without end": "{{ lipsum(n=100000, min=1000, max=100000) }}",
    "a deep expression": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "a long expression": "{{ 1" + "+1" * 40_000 + " }}",
    "a chain of filters": "{{ 'a'" + "|upper" * 15_000 + " }}",
    "a list sorted": "{{ (range(99999) | list * 99) | sort | length }}",
}

LARGE = {
    "a string doubled": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a list doubled": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a string repeated": "{{ 'a' * 10**9 }}",
    "a long text": "{{ 'a' * 10**8 }}",
    "a width": "{{ '%1000000000d' % 1 }}",
    "a width of format": "{{ '{:1000000000}'.format(1) }}",
    "centred": "{{ 'a'.center(10**9) }}",
    "centred by a filter": "{{ 'a' | center(10**9) }}",
    "in batches": "{{ [1] | batch(10**9, 'x') | list }}",
    "in slices": "{{ [1] | slice(10**9, 'x') | list }}",
    "indented": "{{ ('a\n' * 100000) | indent(100000) }}",
    "replaced": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "wrapped": "{{ ('a' * 5000000) | wordwrap(1) | length }}",
    "links": "{{ ('http://' * 300000) | urlize }}",
    "nested": "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x | tojson }}",
    "a date": "{{ strftime_now('%Y' * 10**7) }}",
    "a reason": "{{ raise_exception('the mill ' * 10**6) }}",
    "half a character": "{{ '\\ud800' }}",
}

REACHING = {
    "an included file": "{% include '/etc/passwd' %}",
    "an imported file": "{% import '/etc/passwd' as p %}",
    "a file that is extended": "{% extends '/etc/passwd' %}",
    "classes": "{{ ''.__class__.__mro__ }}",
    "classes by a filter": "{{ (messages | attr('__class__')).__mro__ }}",
    "classes by format": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "classes by format_map": "{{ '{m.__class__.__mro__}'.format_map({'m': messages}) }}",
    "classes by a filter of format": "{{ ('{0.__class__.__mro__}' | attr('format'))(messages) }}",
    "classes by a map": "{{ [''] | map(attribute='__class__.__mro__') | join }}",
    "globals of a cycler": "{{ cycler.__init__.__globals__ }}",
    "globals of a joiner": "{{ joiner.__init__.__globals__.os }}",
    "globals of a namespace": "{{ namespace.__init__.__globals__ }}",
    "globals of lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "globals of a function of ours": "{{ raise_exception.__globals__.sys }}",
    "the context": "{{ self._TemplateReference__context.parent }}",
    "a method of a namespace": "{% set ns = namespace() %}{% set ns.__str__ = cycler %}{{ ns }}",
    "a codec's file": "{{ 'a'.encode('rot13') }}",
    "a list that changes": "{{ messages.append(messages) }}",
}

HOSTILE = {**ENDLESS, **LARGE, **REACHING}


def checkpoint(directory: Path) -> Path:
    """A reward model whose tokenizer begins texts with a special token, with a chat template."""
    shutil.copytree(FAMILIES / "llama-classifier", directory)
    (directory / "chat_template.jinja").write_text(OWN_TEMPLATE, "utf-8")
    (directory / "special_tokens_map.json").write_text('{"bos_token": "<|begin|>"}', "utf-8")
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    """A server that takes templates from requests."""
    model = checkpoint(tmp_path_factory.mktemp("hostile") / "reward")
    with serving("--trust-request-chat-template", model=model) as running:
        yield running


@pytest.fixture
def client(server: Millpond) -> Iterator[httpx.Client]:
    with client_of(server) as plain:
        yield plain


def reward(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/v1/chat/reward", json={"messages": [{"role": "user", "content": "the mill"}], **fields})


def refused(client: httpx.Client, **fields: object) -> dict[str, str | None]:
    """The error of a request, answered in time: a machine that is busy with other things gets a second chance."""
    for _ in range(3):
        began = time.monotonic()
        reply = reward(client, **fields)
        if time.monotonic() - began < SECONDS:
            return checked(reply, 400)
    raise AssertionError(f"not within {SECONDS:g} s: {reply.text}")


@contextmanager
def others(server: Millpond) -> Iterator[list[float]]:
    """Another caller, all the while: the seconds that each of its calls takes."""
    waits: list[float] = []
    stop = threading.Event()

    def calls() -> None:
        with client_of(server) as client:
            while not stop.is_set():
                began = time.monotonic()
                reply = reward(client)
                waits.append(time.monotonic() - began if reply.status_code == 200 else float("inf"))

    thread = threading.Thread(target=calls)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_refused_in_time(client: httpx.Client, template: str) -> None:
    error = refused(client, chat_template=template)
    assert error["param"] in ("chat_template", "messages")
    assert len(str(error["message"])) < 1000
    assert "root:" not in str(error["message"])


@pytest.mark.parametrize(
    "variables",
    [{"times": 100_000}, {"times": 10**12}, {"times": 10**9, "filler": "a"}, {"times": 1000, "filler": "a" * 100_000}],
    ids=["loops", "a range", "memory", "text"],
)
def test_variables_that_drive_the_checkpoints_own_template_are_refused_in_time(
    client: httpx.Client, variables: dict[str, object]
) -> None:
    error = refused(client, chat_template_kwargs=variables)
    assert error["param"] in ("chat_template_kwargs", "messages")


def test_nobody_else_is_slowed_and_no_api_process_grows(server: Millpond, client: httpx.Client) -> None:
    (api,) = server.role_processes("api")
    assert reward(client).status_code == 200
    before, threads = api.memory_info().rss, []
    with others(server) as beside:

        def attack(templates: list[str]) -> None:
            with client_of(server) as attacker:
                for template in templates:
                    assert reward(attacker, chat_template=template).status_code in (400, 503)

        for number in range(4):
            threads.append(threading.Thread(target=attack, args=[list(HOSTILE.values())[number::4]]))
            threads[-1].start()
        for thread in threads:
            thread.join()
    # What the attackers compute takes cores, which others share: seen were 32 ms, and 20 ms without attackers.
    assert sorted(beside)[len(beside) // 2] < 0.25
    assert max(beside) < SECONDS
    assert api.memory_info().rss - before < GROWTH_BYTES
    assert client.get("/ready").status_code == 200


def test_a_template_of_a_caller_is_used_where_it_is_well(client: httpx.Client) -> None:
    reply = reward(
        client, chat_template="{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", return_token_ids=True
    )
    assert reply.json()["data"][0]["prompt_tokens"] == "user: the mill"
    error = refused(client, chat_template=["a"])
    assert (error["param"], error["message"]) == ("chat_template", "chat_template is a list; it must be a string.")


def test_no_second_token_begins_a_text(client: httpx.Client) -> None:
    written = reward(client, return_token_ids=True).json()["data"][0]
    assert written["prompt_tokens"] == "<|begin|>the mill"
    framed = reward(client, return_token_ids=True, add_special_tokens=True).json()["data"][0]
    assert framed["prompt_token_ids"] == written["prompt_token_ids"]
    bare = reward(client, return_token_ids=True, add_special_tokens=True, chat_template="{{ messages[0].content }}")
    assert bare.json()["data"][0]["prompt_token_ids"] == written["prompt_token_ids"]
