"""Callers are held to the limits of their keys, on a real Redis."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from api import limiting
from api.callers import Caller
from api.errors import ApiError
from api.limiting import admitted, duration
from scheduler.connection import connect_async
from scheduler.errors import QueueUnavailableError
from scheduler.keys import TenantKeys

LIMITED = Caller("t", tokens_per_minute=600, concurrency=1)
PLACES = TenantKeys("t").calls


def on_redis(url: str, use: Callable[[Redis], Awaitable[None]]) -> None:
    async def run() -> None:
        redis = connect_async(url)
        try:
            await use(redis)
        finally:
            await redis.aclose()

    asyncio.run(run())


def test_a_call_holds_its_place_while_it_runs_and_hears_where_it_stands(clean_redis_url: str) -> None:
    async def use(redis: Redis) -> None:
        async with admitted(redis, LIMITED, 100, 5) as admission:
            assert admission.headers == {
                "x-ratelimit-limit-requests": "1",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "600",
                "x-ratelimit-remaining-tokens": "500",
                "x-ratelimit-reset-tokens": "10s",
            }
            with pytest.raises(ApiError, match="1 calls at once") as caught:
                async with admitted(redis, LIMITED, 1, 5):
                    raise AssertionError("there was no place")
            assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
        async with admitted(redis, LIMITED, 1, 5):
            assert await redis.zcard(PLACES) == 1
        assert await redis.zcard(PLACES) == 0

    on_redis(clean_redis_url, use)


def test_a_refusal_says_when_to_come_back(clean_redis_url: str) -> None:
    async def use(redis: Redis) -> None:
        async with admitted(redis, LIMITED, 600, 5):
            pass
        with pytest.raises(ApiError, match="600 tokens a minute") as caught:
            async with admitted(redis, LIMITED, 30, 5):
                raise AssertionError("there were no tokens")
        headers = dict(caught.value.headers or {})
        assert 2_000 < int(headers["retry-after-ms"]) <= 3_000
        assert headers["Retry-After"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == "1"

    on_redis(clean_redis_url, use)


def test_a_call_that_could_never_pass_is_told_so_without_asking_redis() -> None:
    async def use(redis: Redis) -> None:
        with pytest.raises(ApiError, match="601 tokens, and the key 't' may send 600 a minute") as caught:
            async with admitted(redis, LIMITED, 601, 5):
                raise AssertionError("it is too large")
        assert caught.value.status == 400

    on_redis("redis://127.0.0.1:1", use)


def test_a_key_without_limits_costs_no_question() -> None:
    async def use(redis: Redis) -> None:
        async with admitted(redis, Caller("free"), 10**9, 5) as admission:
            assert admission.headers == {}

    on_redis("redis://127.0.0.1:1", use)


def test_nobody_is_let_in_while_redis_is_away() -> None:
    async def use(redis: Redis) -> None:
        with pytest.raises(QueueUnavailableError, match="count the call"):
            async with admitted(redis, LIMITED, 1, 0.3):
                raise AssertionError("it was not counted")

    on_redis("redis://127.0.0.1:1", use)


def test_a_long_call_is_renewed(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "CALL_RENEWAL_SECONDS", 0.01)

    async def use(redis: Redis) -> None:
        async with admitted(redis, LIMITED, 1, 5), asyncio.timeout(5):
            ((_, first),) = await redis.zrange(PLACES, 0, -1, withscores=True)
            while (await redis.zrange(PLACES, 0, -1, withscores=True))[0][1] == first:
                await asyncio.sleep(0.01)

    on_redis(clean_redis_url, use)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 50])
def test_a_call_that_is_cancelled_at_any_moment_gives_its_place_back(clean_redis_url: str, turns: int) -> None:
    async def use(redis: Redis) -> None:
        async def call() -> None:
            async with admitted(redis, LIMITED, 1, 5):
                await asyncio.Event().wait()

        running = asyncio.create_task(call())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await redis.zcard(PLACES) == 0

    on_redis(clean_redis_url, use)


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(0, "0ms"), (120, "120ms"), (1_000, "1s"), (1_001, "2s"), (360_000, "6m0s"), (3_605_000, "1h0m5s")],
)
def test_times_are_written_as_openai_writes_them(milliseconds: int, written: str) -> None:
    assert duration(milliseconds) == written
