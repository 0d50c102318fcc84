"""A stored call is answered in the bytes of a live one; a rehearsed one is refused likewise, or queues nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.callers import ANONYMOUS, Caller
from api.deadlines import Deadline
from api.errors import openai_error
from api.options import Options
from api.replaying import Call, Reply, rehearse, replay
from api.serving import Served
from scheduler.keys import Lane
from tests.answers import assert_one_answer
from tests.server import TINY_BERT, Millpond, redis_of, serving

DEADLINE = Deadline(20.0, "the test")
BODY = {"input": ["a pond", "a mill"], "request_id": "r"}


@pytest.fixture(scope="module")
def server() -> Any:
    with serving() as running:
        yield running


def replayed(server: Millpond, use: Callable[[FastAPI], Awaitable[Any]]) -> Any:
    """What becomes of a call in a process without a port."""

    @asynccontextmanager
    async def application() -> AsyncIterator[FastAPI]:
        options = Options(redis_url=f"unix://{server.data_directory}/redis.sock?db=0", model=str(TINY_BERT))
        app = create_app(options, [Served("tiny-bert", TINY_BERT, options)])
        async with app.router.lifespan_context(app):
            yield app

    async def run() -> Any:
        async with application() as app:
            return await use(app)

    return asyncio.run(run())


def call(path: str = "/v1/embeddings", body: Any = None, lane: Lane = Lane.JOB) -> Call:
    return Call(path, json.dumps(BODY if body is None else body).encode(), {}, lane)


def test_a_replayed_call_gives_the_bytes_of_the_live_one(server: Millpond) -> None:
    live = httpx.post(server.url + "/v1/embeddings", json=BODY, timeout=30)
    reply: Reply = replayed(server, lambda app: replay(app, call(), ANONYMOUS, DEADLINE, "one"))
    assert reply.status == live.status_code == 200
    assert reply.content_type == "application/json"
    assert_one_answer(reply.body, live.content)


def test_a_replayed_call_is_held_to_its_owners_rights(server: Millpond) -> None:
    stranger = Caller("bob", models=frozenset({"other"}))
    reply: Reply = replayed(server, lambda app: replay(app, call(), stranger, DEADLINE, "two"))
    assert reply.status == 403


def test_a_replayed_call_ends_at_its_deadline(server: Millpond) -> None:
    reply: Reply = replayed(server, lambda app: replay(app, call(), ANONYMOUS, Deadline(0.0, "the job"), "three"))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (504, "deadline_exceeded")


def test_a_rehearsal_queues_nothing(server: Millpond) -> None:
    redis = redis_of(server)
    before = redis.hgetall("millpond:{tiny-bert}:counters")
    assert replayed(server, lambda app: rehearse(app, call(), ANONYMOUS, DEADLINE, "four")) is None
    assert redis.hgetall("millpond:{tiny-bert}:counters") == before


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/embeddings", {"input": "a " * 5000}, 400),
        ("/v1/embeddings", {"input": ["x"], "model": "none"}, 404),
        ("/v2/embed", {"model": "tiny-bert", "texts": "x"}, 400),
        ("/v1/chat/reward", {"messages": [{"role": "user", "content": "x"}]}, 400),
    ],
)
def test_a_rehearsal_refuses_what_the_live_call_refuses(
    server: Millpond, path: str, body: dict[str, Any], status: int
) -> None:
    live = httpx.post(server.url + path, json=body, timeout=30)
    own: Reply = replayed(server, lambda app: rehearse(app, call(path, body), ANONYMOUS, DEADLINE, "five"))
    assert (own.status, own.body) == (live.status_code, live.content)
    assert own.status == status
    told: Reply = replayed(
        server, lambda app: rehearse(app, call(path, body), ANONYMOUS, DEADLINE, "six", openai_error)
    )
    assert json.loads(told.body)["error"]["message"]
