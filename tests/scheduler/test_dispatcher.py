"""The dispatch loop on a real Redis: what is sent, when, and by whom."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from scheduler import leases, window
from scheduler.connection import connect_async
from scheduler.cost import Sample
from scheduler.dispatcher import Dispatcher
from scheduler.keys import Lane, ModelKeys
from scheduler.messages import Item, Vector, encode_profile
from scheduler.queue import LaneReader, Waiting, enqueue
from scheduler.settings import INTERACTIVE_TARGET_MS
from scheduler.turns import QUANTUM

KEYS = ModelKeys("m")


class Scene:
    """A Redis, a worker's life signs, and everything that dispatchers send."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.sent: list[str] = []
        self.workers: dict[str, str] = {}
        self.discarded: list[str] = []
        self.arrived = asyncio.Event()

    def posting(self, worker_id: str, batch_id: str) -> None:
        """Nothing: what is sent is told apart by `send`."""

    async def send(self, worker_id: str, batch_id: str) -> None:
        self.sent.append(batch_id)
        self.workers[batch_id] = worker_id
        self.arrived.set()

    async def discard(self, worker_id: str) -> None:
        self.discarded.append(worker_id)

    async def accept(
        self,
        request_id: str,
        sizes: list[int],
        lane: Lane = Lane.INTERACTIVE,
        priority: int = 0,
        tenant: str = "",
        seconds: float | None = None,
    ) -> None:
        deadline_ms = 0 if seconds is None else time.time_ns() // 10**6 + round(seconds * 1000)
        order = {"priority": priority, "tenant": tenant, "deadline_ms": deadline_ms}
        items = [Item(request_id, index, b"\1\0\0\0" * size, 1, **order) for index, size in enumerate(sizes)]
        await enqueue(KEYS, lane, request_id, items, "channel").run(self.redis)

    async def beat(
        self, worker: str, slots: int = 2, tokens: int = 100, sequences: int = 8, profile: bytes = b""
    ) -> None:
        fields: dict[str, str | bytes | int] = {
            "slots": slots,
            "max_num_batched_tokens": tokens,
            "max_num_seqs": sequences,
            "profile": profile,
        }
        await leases.heartbeat(KEYS, worker, fields).run(self.redis)

    async def batches(self, count: int) -> list[str]:
        """Waits until so many have been sent."""
        async with asyncio.timeout(15):
            while len(self.sent) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.sent

    async def run(self, batch_id: str) -> int:
        """Claims and commits, as a worker would; how many items there were."""
        reply = await leases.claim(KEYS, batch_id, self.workers[batch_id]).run(self.redis)
        batch = leases.claimed_batch(batch_id, reply)
        assert batch is not None
        await leases.commit(KEYS, batch_id, [(leased, Vector(b"")) for leased in batch.items]).run(self.redis)
        return len(batch.items)


@asynccontextmanager
async def dispatching(scene: Scene) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(Dispatcher(scene.redis, KEYS.model, scene).run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def on_a_scene(url: str, play: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        redis = connect_async(url)
        try:
            await play(Scene(redis))
        finally:
            await redis.aclose()

    asyncio.run(run())


def test_an_idle_worker_gets_work_at_once_and_a_busy_one_lets_the_batch_grow(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("w", slots=1)
        async with dispatching(scene):
            await scene.accept("first", [10])
            (first,) = await scene.batches(1)
            for number in range(5):
                await scene.accept(f"later {number}", [10])
            assert await scene.run(first) == 1
            _, second = await scene.batches(2)
            assert await scene.run(second) == 5

    on_a_scene(clean_redis_url, play)


def test_each_worker_gets_what_fits_it_and_the_least_busy_one_gets_it_first(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("roomy", slots=1, tokens=1000, sequences=3)
        await scene.beat("narrow", slots=2, tokens=20, sequences=100)
        await scene.accept("r", [10] * 7)
        async with dispatching(scene):
            batches = list(await scene.batches(3))
            got = [(scene.workers[batch], await scene.run(batch)) for batch in batches]
            assert sorted(got) == [("narrow", 2), ("narrow", 2), ("roomy", 3)]
            assert "roomy" in (got[0][0], got[1][0]), "a worker without work comes before one that has some"

    on_a_scene(clean_redis_url, play)


def test_a_worker_that_is_gone_gets_nothing_and_its_queue_is_removed(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("gone")
        await scene.beat("here", slots=1)
        await scene.redis.delete(KEYS.worker("gone"))
        async with dispatching(scene):
            await scene.accept("r", [10])
            (batch,) = await scene.batches(1)
            assert scene.workers[batch] == "here"
            assert scene.discarded == ["gone"]

    on_a_scene(clean_redis_url, play)


def test_nothing_is_sent_while_no_worker_lives_and_all_when_one_comes(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        async with dispatching(scene):
            await scene.accept("r", [10])
            while not await scene.redis.exists(KEYS.leader):
                await asyncio.sleep(0.01)
            assert scene.sent == []
            await scene.beat("w")
            (batch,) = await scene.batches(1)
            assert await scene.run(batch) == 1

    on_a_scene(clean_redis_url, play)


def test_a_lease_that_runs_out_is_sent_again_alone(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("w", slots=1)
        async with dispatching(scene):
            await scene.accept("r", [10, 10])
            (batch,) = await scene.batches(1)
            await leases.claim(KEYS, batch, "w").run(scene.redis)
            await scene.redis.zadd(KEYS.leases, {batch: 1})
            await scene.batches(2)
            assert await scene.run(scene.sent[1]) == 1
            await scene.batches(3)
            assert await scene.run(scene.sent[2]) == 1

    on_a_scene(clean_redis_url, play)


def test_what_cannot_be_sent_goes_back_without_an_attempt(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        refusals = iter([True, False])
        send = scene.send

        async def send_or_fail(worker_id: str, batch_id: str) -> None:
            if next(refusals, False):
                raise ConnectionError("the broker is away")
            await send(worker_id, batch_id)

        scene.send = send_or_fail  # type: ignore[method-assign]
        await scene.beat("w")
        async with dispatching(scene):
            await scene.accept("r", [10])
            (batch,) = await scene.batches(1)
            ((_, fields),) = await scene.redis.xrange(KEYS.lanes[0])
            assert fields[b"attempts"] == b"0"
            assert await scene.run(batch) == 1

    on_a_scene(clean_redis_url, play)


def test_another_scheduler_takes_over_in_under_three_seconds_and_reads_everything_anew(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("w", slots=1)
        async with dispatching(scene) as leader:
            await scene.accept("held", [10])
            (held,) = await scene.batches(1)
            await scene.accept("waiting", [10])
            async with dispatching(scene):
                # As good as killed: it neither resigns nor renews.
                token = await scene.redis.get(KEYS.leader)
                await scene.redis.set(KEYS.leader, "nobody", px=2_500)
                leader.cancel()
                began = asyncio.get_running_loop().time()
                assert await scene.run(held) == 1
                await scene.batches(2)
                assert asyncio.get_running_loop().time() - began < 4
                assert await scene.run(scene.sent[1]) == 1
                assert int(await scene.redis.get(KEYS.leader)) > int(token)

    on_a_scene(clean_redis_url, play)


def test_a_dispatcher_ends_though_a_command_loses_its_cancellation(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, reading = 0, asyncio.Event()

    async def read(_reader: LaneReader, _block_ms: int) -> list[Waiting]:
        nonlocal lost
        reading.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            lost += 1
            if lost > 2:
                raise
        return []

    async def play(scene: Scene) -> None:
        await scene.beat("w")
        async with asyncio.timeout(10), dispatching(scene):
            await reading.wait()

    monkeypatch.setattr(LaneReader, "read", read)
    on_a_scene(clean_redis_url, play)
    assert lost == 3


def test_a_deep_lane_is_read_window_by_window(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("w", slots=1, tokens=100_000, sequences=3_000)
        for number in range(5):
            await scene.accept(f"r{number}", [1] * 2_000)
        async with dispatching(scene):
            done = 0
            number = 0
            while done < 10_000:
                number += 1
                await scene.beat("w", slots=1, tokens=100_000, sequences=3_000)
                done += await scene.run((await scene.batches(number))[number - 1])
            assert done == 10_000
            assert await scene.redis.xlen(KEYS.lanes[0]) == 0

    on_a_scene(clean_redis_url, play)


def test_what_is_late_leaves_its_lane_though_no_worker_lives_and_takes_no_place_in_a_batch(
    clean_redis_url: str,
) -> None:
    async def play(scene: Scene) -> None:
        async with dispatching(scene):
            await scene.accept("late", [10] * 1_000, seconds=0.05)
            await scene.accept("in time", [10] * 2, seconds=60)
            async with asyncio.timeout(15):
                while await scene.redis.xlen(KEYS.lanes[0]) > 2:
                    await asyncio.sleep(0.01)
            await scene.beat("w", sequences=2)
            (batch,) = await scene.batches(1)
            assert await scene.run(batch) == 2
            assert await scene.redis.hget(KEYS.counters, "items_expired") == b"1000"

    on_a_scene(clean_redis_url, play)


def test_a_tenants_urgent_request_goes_before_its_others_and_not_before_anothers_turn(clean_redis_url: str) -> None:
    async def play(scene: Scene) -> None:
        for name, tenant, priority in (("a", "t", 0), ("b", "u", 0), ("c", "t", -1)):
            await scene.accept(name, [QUANTUM], tenant=tenant, priority=priority)
        await scene.beat("w", slots=3, sequences=1)
        async with dispatching(scene):
            order = []
            for batch in await scene.batches(3):
                reply = await leases.claim(KEYS, batch, "w").run(scene.redis)
                found = leases.claimed_batch(batch, reply)
                assert found is not None
                order += [leased.item.request_id for leased in found.items]
            assert order == ["c", "b", "a"]

    on_a_scene(clean_redis_url, play)


def test_a_tenant_with_more_than_the_window_holds_hides_nobody_behind_it_and_is_served_whole(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "WINDOW", 20)

    async def play(scene: Scene) -> None:
        for number in range(3):
            await scene.accept(f"many {number}", [10] * 300, Lane.BULK, tenant="many")
        await scene.accept("one", [10], Lane.BULK, tenant="one")
        await scene.beat("w", slots=1, tokens=2 * QUANTUM, sequences=1_000)
        done = 0
        async with dispatching(scene):
            for number in range(1, 10_000):
                batch = (await scene.batches(number))[-1]
                done += await scene.run(batch)
                if number <= 8 and await scene.redis.hlen(KEYS.result("one")):
                    monkeypatch.setattr(window, "WINDOW", 100)  # the rest in larger steps
                if done == 901:
                    break
            assert await scene.redis.hlen(KEYS.result("one")) == 1
        assert window.WINDOW == 100, "the one was served among the first"
        assert [await scene.redis.hlen(KEYS.result(f"many {number}")) for number in range(3)] == [300] * 3

    on_a_scene(clean_redis_url, play)


def test_an_interactive_caller_overtakes_what_waits_at_a_worker_full_of_other_work(
    clean_redis_url: str,
) -> None:
    async def play(scene: Scene) -> None:
        await scene.beat("w", slots=2, sequences=1)
        async with dispatching(scene):
            await scene.accept("bulk", [10] * 5, Lane.BULK)
            await scene.batches(2)
            await scene.accept("now", [10])
            await scene.accept("now too", [10])
            *_, express = await scene.batches(3)
            assert await scene.redis.hget(KEYS.held, "w") == b"3"
            await scene.run(express)
            assert await scene.redis.hlen(KEYS.result("now")) == 1
            assert await scene.run((await scene.batches(4))[3]) == 1
            assert await scene.redis.hlen(KEYS.result("now too")) == 1, "before any of the bulk lane"

    on_a_scene(clean_redis_url, play)


def test_batches_of_other_lanes_are_brief_while_interactive_callers_come(clean_redis_url: str) -> None:
    """As brief as the worker's profile makes them, and of other lanes alone."""
    seconds_a_token = 0.001

    async def play(scene: Scene) -> None:
        profile = [Sample(tokens, tokens * 10, tokens * seconds_a_token) for tokens in (10, 50, 100, 500, 1_000)]
        await scene.beat("w", slots=1, tokens=1_000, sequences=1_000, profile=encode_profile(profile))
        async with dispatching(scene):
            await scene.accept("bulk", [10] * 150, Lane.BULK)
            (first,) = await scene.batches(1)
            assert await scene.run(first) == 100, "nobody else is there"
            await scene.batches(2)
            await scene.accept("now", [10])
            assert await scene.run((await scene.batches(3))[2]) == 1, "the caller's batch is its own"
            await scene.accept("bulk too", [10] * 150, Lane.BULK)
            await scene.run(scene.sent[1])
            brief = await scene.run((await scene.batches(4))[3])
            assert brief == pytest.approx(INTERACTIVE_TARGET_MS / 1000 / seconds_a_token / 10, abs=1)

    on_a_scene(clean_redis_url, play)


class ClosesWhenCancelled(Redis):
    """A client whose connection closes at the very moment of a cancellation, and says so in place of it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self.closed = False

    async def execute_command(self, *arguments: object, **options: object) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.closed:
                raise
            self.closed = True
            raise RedisConnectionError("Connection closed by server.") from None


def test_a_dispatcher_ends_though_its_connection_closes_at_the_same_moment() -> None:
    async def run() -> None:
        redis = ClosesWhenCancelled()
        task = asyncio.create_task(Dispatcher(redis, KEYS.model, Scene(redis)).run())
        await redis.waiting.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert redis.closed
        assert task.cancelled()

    asyncio.run(run())
