"""How callers wait: lost wake-ups, lost requests, callers that leave, a Redis that goes away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest
from redis.asyncio import Redis

from scheduler import leases, results
from scheduler.connection import connect_async
from scheduler.errors import QueueUnavailableError
from scheduler.keys import Lane, ModelKeys
from scheduler.messages import Entry, Item, Result, Vector
from scheduler.results import Callers

KEYS = ModelKeys("m")
ITEMS = [Item("r", index, b"\1\0\0\0", 1) for index in range(2)]


@asynccontextmanager
async def calling(redis: Redis) -> AsyncIterator[Callers]:
    callers = Callers(redis)
    running = asyncio.create_task(callers.run([KEYS.model]))
    try:
        yield callers
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def answer(redis: Redis, numbers: "count[int]") -> None:
    """Does what scheduler and worker would, as soon as something is in the lane."""
    while not (found := await redis.xrange(KEYS.lanes[0])):
        await asyncio.sleep(0.01)
    token = await leases.lead(KEYS, None).run(redis) or await redis.get(KEYS.leader)
    batch_id = f"b{next(numbers)}"
    entries = [Entry(0, entry_id.decode()) for entry_id, _ in found]
    await leases.lease(KEYS, int(token), batch_id, "w", 9, entries).run(redis)
    batch = leases.claimed_batch(batch_id, await leases.claim(KEYS, batch_id, "w").run(redis))
    assert batch is not None
    answers = [(leased, Vector(b"%d" % leased.item.index)) for leased in batch.items]
    await leases.commit(KEYS, batch_id, answers).run(redis)


async def accepted(redis: Redis, callers: Callers) -> "asyncio.Task[list[Result]]":
    """A request that Redis has taken and nobody has run."""
    waiting = asyncio.create_task(callers.submit(KEYS, Lane.INTERACTIVE, "r", ITEMS))
    while not await redis.exists(KEYS.request("r")):
        await asyncio.sleep(0.01)
    return waiting


def play(url: str, scene: Callable[[Redis], Awaitable[None]]) -> None:
    async def run() -> None:
        redis = connect_async(url)
        try:
            async with asyncio.timeout(30):
                await scene(redis)
        finally:
            await redis.aclose()

    asyncio.run(run())


def test_results_come_in_the_order_of_the_items_and_leave_nothing_behind(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "LOOK_SECONDS", 0.1)

    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = asyncio.create_task(callers.submit(KEYS, Lane.INTERACTIVE, "r", ITEMS))
            await answer(redis, count())
            assert await waiting == [Vector(b"0"), Vector(b"1")]
            assert len(callers) == 0
            while await redis.exists(KEYS.request("r"), KEYS.result("r")):
                await asyncio.sleep(0.01)

    play(clean_redis_url, scene)


def test_the_results_of_many_items_are_fetched(clean_redis_url: str) -> None:
    items = [Item("r", index, b"\1\0\0\0", 1) for index in range(40)]

    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = asyncio.create_task(callers.submit(KEYS, Lane.INTERACTIVE, "r", items))
            await answer(redis, count())
            assert await waiting == [Vector(b"%d" % index) for index in range(40)]

    play(clean_redis_url, scene)


def test_a_lost_wake_up_costs_time_and_no_answer(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LOOK_SECONDS", 0.1)

    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = await accepted(redis, callers)
            await redis.hset(KEYS.request("r"), "channel", "nobody listens here")
            await answer(redis, count())
            assert await waiting == [Vector(b"0"), Vector(b"1")]

    play(clean_redis_url, scene)


def test_a_request_that_redis_lost_is_handed_in_again(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LOOK_SECONDS", 0.1)

    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = await accepted(redis, callers)
            await redis.flushall()
            await answer(redis, count())
            assert await waiting == [Vector(b"0"), Vector(b"1")]

    play(clean_redis_url, scene)


def test_a_request_that_redis_lost_keeps_its_deadline(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LOOK_SECONDS", 0.1)
    deadline_ms = 2**45
    items = [Item("r", 0, b"\1\0\0\0", 1, deadline_ms=deadline_ms)]

    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = asyncio.create_task(callers.submit(KEYS, Lane.INTERACTIVE, "r", items))
            for _ in range(2):
                while not (found := await redis.hget(KEYS.request("r"), "deadline")):
                    await asyncio.sleep(0.01)
                assert int(found) == deadline_ms
                await redis.flushall()
            await answer(redis, count())
            await waiting

    play(clean_redis_url, scene)


def test_a_caller_that_leaves_takes_its_request_along(clean_redis_url: str) -> None:
    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = await accepted(redis, callers)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            assert not await redis.exists(KEYS.request("r"))

    play(clean_redis_url, scene)


def test_a_process_that_stops_tells_its_callers(clean_redis_url: str) -> None:
    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            waiting = await accepted(redis, callers)
            callers.give_up("stopping")
            with pytest.raises(QueueUnavailableError, match="stopping"):
                await waiting
            assert not await redis.exists(KEYS.request("r"))

    play(clean_redis_url, scene)


def test_a_redis_that_never_answers_is_an_error_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ENQUEUE_SECONDS", 0.3)

    async def scene(redis: Redis) -> None:
        async with calling(redis) as callers:
            with pytest.raises(QueueUnavailableError):
                await callers.submit(KEYS, Lane.INTERACTIVE, "r", ITEMS)

    play("unix:///nowhere/redis.sock", scene)
