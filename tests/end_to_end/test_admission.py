"""A queue that is full says so, and when to come again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest

from scheduler.keys import ModelKeys
from tests.conftest import eventually
from tests.end_to_end.waiting import held_still, metric
from tests.server import TINY_BERT, Millpond, client_of, redis_of, serving

KEYS = ModelKeys("tiny-bert")
TEXTS = ["water stone mill wheel"] * 40
"""400 tokens in all: two calls fit, and none besides."""


@pytest.fixture(scope="module")
def server() -> Iterator[Millpond]:
    with serving("--max-queued-tokens", "1200", model=TINY_BERT) as server:
        eventually(lambda: redis_of(server).get(KEYS.pace))
        yield server


def refusals(server: Millpond, reason: str) -> int:
    return int(metric(server, "millpond_refused_total", model="tiny-bert", lane="interactive", reason=reason))


def body(first: str) -> dict[str, object]:
    return {"input": [first, *TEXTS]}


@contextmanager
def filled(server: Millpond) -> Iterator[list[httpx.Response]]:
    """A queue with as much in it as goes in, while the worker stands still; what became of it, after that."""
    replies: list[httpx.Response] = []

    def call(number: int) -> None:
        with client_of(server) as client:
            replies.append(client.post("/v1/embeddings", json=body(str(number))))

    with held_still(server):
        threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: int(redis_of(server).hget(KEYS.queued, "0") or 0) > 600)
        yield replies
    for thread in threads:
        thread.join(30)


def test_a_full_queue_refuses_names_its_flag_and_has_room_when_it_said(server: Millpond) -> None:
    with client_of(server) as client:
        before = refusals(server, "lane_full")
        with filled(server) as replies:
            queued = metric(server, "millpond_queued_tokens", model="tiny-bert", lane="interactive")
            assert metric(server, "millpond_max_queued_tokens", model="tiny-bert", lane="interactive") == 1200
            assert queued == int(redis_of(server).hget(KEYS.queued, "0"))
            refused = client.post("/v1/embeddings", json={"input": ["other", *TEXTS, *TEXTS]})
        assert refusals(server, "lane_full") == before + 1
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["type"]) == (429, "queue_full", "rate_limit_error")
        assert "--max-queued-tokens" in error["message"]
        assert int(refused.headers["retry-after"]) * 1000 >= int(refused.headers["retry-after-ms"]) > 0
        time.sleep(int(refused.headers["retry-after"]))
        assert client.post("/v1/embeddings", json={"input": ["other", *TEXTS, *TEXTS]}).status_code == 200
    assert [reply.status_code for reply in replies] == [200] * 2
    eventually(lambda: not redis_of(server).exists(KEYS.queued))
    assert metric(server, "millpond_queued_tokens", model="tiny-bert") == 0


def test_a_deadline_that_cannot_be_met_is_refused_at_once(server: Millpond) -> None:
    before = refusals(server, "deadline")
    with client_of(server) as client, filled(server):
        began = time.monotonic()
        refused = client.post("/v1/embeddings", json={"input": "late"}, headers={"Millpond-Deadline-Ms": "20"})
        assert time.monotonic() - began < 5
    # Or it passed on the way: twenty milliseconds are few.
    assert (refused.status_code, refused.json()["error"]["code"]) in ((429, "queue_full"), (504, "deadline_exceeded"))
    assert refusals(server, "deadline") - before == (refused.status_code == 429)


def test_the_openai_client_gets_through_by_its_own_retries(server: Millpond) -> None:
    found: list[int] = []
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=4) as client:

        def call() -> None:
            found.append(len(client.embeddings.create(model="default", input=["retried", *TEXTS, *TEXTS]).data))

        thread = threading.Thread(target=call)
        with filled(server):
            thread.start()
            eventually(lambda: list(redis_of(server).scan_iter(KEYS.promise("*"))))
        thread.join(60)
    assert found == [81]


def test_what_could_never_be_queued_is_refused_for_good(server: Millpond) -> None:
    with client_of(server) as client:
        refused = client.post("/v1/embeddings", json={"input": TEXTS * 6})
    assert refusals(server, "too_large") == 1
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (413, "request_too_large", "input")
    assert "--max-queued-tokens" in error["message"]
