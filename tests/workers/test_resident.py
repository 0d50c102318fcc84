"""What a worker does with good batches, bad items and slow forwards, on a real queue."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from redis import Redis

from pooling.engine import PoolingInput
from pooling.model_options import ModelOptions
from pooling.pooler_config import Activation, PoolingType
from pooling.started import Finished
from scheduler import leases
from scheduler.connection import connect, connect_async
from scheduler.dispatcher import Dispatcher
from scheduler.keys import Lane, ModelKeys
from scheduler.messages import Failure, Item, Result, Vector
from scheduler.results import Callers
from workers import resident as resident_module
from workers.engine_thread import EngineThread
from workers.hearing import Hearing
from workers.resident import Resident
from workers.settings import WorkerSettings

KEYS = ModelKeys("m")
POISON = 666


class Engine:
    """Doubles token ids; fails on poison, sleeps when told to. Counts how often each id was computed."""

    spec = SimpleNamespace(fingerprint="f")

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.inputs: list[PoolingInput] = []
        self._seconds = seconds

    def warm_up(self, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        """Nothing to warm."""

    def start(self, inputs: Sequence[PoolingInput]) -> Finished:
        firsts = [int(given.ids[0]) for given in inputs]
        self.batches.append(firsts)
        time.sleep(self._seconds)
        if POISON in firsts:
            raise ValueError("poison")
        self.inputs.extend(inputs)
        return Finished([(given.ids * 2).astype("<f4") for given in inputs])


class Direct:
    """A broker that hands batches to a worker in this process: Celery's part is tested end to end."""

    def __init__(self, resident: Resident) -> None:
        self._resident = resident
        self._threads = ThreadPoolExecutor(4)

    def posting(self, worker_id: str, batch_id: str) -> None:
        """Nothing is posted with the lease: every batch comes through `send`."""

    async def send(self, worker_id: str, batch_id: str) -> None:
        assert worker_id == self._resident.worker_id
        self._threads.submit(self._resident.run, batch_id)

    async def discard(self, worker_id: str) -> None:
        """Nothing is kept for a worker."""


@contextmanager
def resident_on(redis: Redis, engine: Engine) -> Iterator[Resident]:
    settings = WorkerSettings("", "", Path(), "m", "cpu", ModelOptions(), 8, 100, 1, 1, 0.9, "text")
    resident = Resident(redis, engine, EngineThread(), settings)  # type: ignore[arg-type]
    resident.start()
    yield resident
    resident.leave()


def items_of(firsts: Sequence[int]) -> list[Item]:
    """Items whose ids begin with these."""
    now_ms = time.time_ns() // 10**6
    return [Item("r", index, np.asarray([each, 1], "<i4").tobytes(), now_ms) for index, each in enumerate(firsts)]


def submit(url: str, resident: Resident, items: Sequence[Item]) -> list[Result]:
    """The results of one request."""

    async def run() -> list[Result]:
        redis = connect_async(url)
        callers = Callers(redis)
        dispatcher = Dispatcher(redis, "m", Direct(resident))
        tasks = [asyncio.create_task(callers.run(["m"])), asyncio.create_task(dispatcher.run())]
        try:
            async with asyncio.timeout(30):
                return await callers.submit(KEYS, Lane.INTERACTIVE, "r", items)
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await redis.aclose()

    return asyncio.run(run())


def test_results_are_what_the_engine_computed(clean_redis_url: str) -> None:
    with connect(clean_redis_url) as redis, resident_on(redis, Engine()) as resident:
        found = submit(clean_redis_url, resident, items_of([7, 8]))
    vectors = [each.data for each in found if isinstance(each, Vector)]
    assert vectors == [np.asarray([14, 2], "<f4").tobytes(), np.asarray([16, 2], "<f4").tobytes()]


def test_each_batch_that_arrives_is_heard(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Hearing] = []
    monkeypatch.setattr(Hearing, "heard", lambda self: heard.append(self))
    with connect(clean_redis_url) as redis, resident_on(redis, Engine()) as resident:
        submit(clean_redis_url, resident, items_of([1]))
    assert len(heard) == 1


def test_results_tell_how_long_their_items_waited_and_were_computed(clean_redis_url: str) -> None:
    old, new = items_of([7, 8])
    old = replace(old, created_ms=old.created_ms - 60_000)
    future = replace(new, index=2, created_ms=new.created_ms + 60_000)
    with connect(clean_redis_url) as redis, resident_on(redis, Engine(seconds=0.2)) as resident:
        found = submit(clean_redis_url, resident, [old, new, future])
    queued_us = [each.queued_us for each in found if isinstance(each, Vector)]
    forward_us = [each.forward_us for each in found if isinstance(each, Vector)]
    assert 60_000_000 <= queued_us[0] < 90_000_000
    assert 0 <= queued_us[1] < 30_000_000
    assert queued_us[2] == 0, "clocks may disagree"
    assert len(forward_us) == 3
    assert all(200_000 <= each < 30_000_000 for each in forward_us)


class Late(Finished):
    """Rows that are there only once another forward was started."""

    def __init__(self, found: list[np.ndarray], arrived: threading.Event) -> None:
        super().__init__(found)
        self._arrived = arrived

    def rows(self) -> list[np.ndarray]:
        assert self._arrived.wait(10), "the next forward was not started meanwhile"
        self.finished_ns = time.perf_counter_ns()
        return self.found


class Asynchronous(Engine):
    """Computes beside the thread that starts it, as a GPU does."""

    def __init__(self) -> None:
        super().__init__()
        self._both = threading.Event()

    def start(self, inputs: Sequence[PoolingInput]) -> Late:
        found = super().start(inputs).rows()
        if len(self.batches) == 2:
            self._both.set()
        return Late(found, self._both)


def test_the_next_forward_is_started_while_the_device_is_at_one(clean_redis_url: str) -> None:
    engine = Asynchronous()
    with connect(clean_redis_url) as redis, resident_on(redis, engine) as resident:
        found = submit(clean_redis_url, resident, items_of(range(1, 13)))
    assert [len(batch) for batch in engine.batches] == [8, 4]
    assert [np.frombuffer(each.data, "<f4")[0] for each in found if isinstance(each, Vector)] == list(range(2, 26, 2))


def test_a_forward_is_timed_from_the_end_of_the_one_before(clean_redis_url: str) -> None:
    with connect(clean_redis_url) as redis, resident_on(redis, Engine()) as resident:
        first, second = Finished([]), Finished([])
        second.finished_ns = first.finished_ns + 5_000_000
        began_ns = first.finished_ns - 20_000_000
        assert resident._fetched(began_ns, first)[1] == 20_000
        assert resident._fetched(began_ns, second)[1] == 5_000, "both were started at once"


def test_items_are_pooled_as_they_ask(clean_redis_url: str) -> None:
    (item,) = items_of([7])
    asking = replace(item, dimensions=2, normalize=False, second_from=1, pooling_type="ALL", activation="none")
    engine = Engine()
    with connect(clean_redis_url) as redis, resident_on(redis, engine) as resident:
        submit(clean_redis_url, resident, [asking, replace(item, index=1)])
    asked, unsaid = engine.inputs
    assert (asked.dimensions, asked.normalize, asked.second_from) == (2, False, 1)
    assert (asked.pooling_type, asked.activation) == (PoolingType.ALL, Activation.NONE)
    assert (unsaid.pooling_type, unsaid.activation) == (None, None)


def test_a_pooling_of_a_later_version_is_an_error_for_its_item_alone(clean_redis_url: str) -> None:
    item, strange = items_of([7, 8])
    with connect(clean_redis_url) as redis, resident_on(redis, Engine()) as resident:
        good, bad = submit(clean_redis_url, resident, [item, replace(strange, pooling_type="NEWEST")])
    assert isinstance(good, Vector)
    assert isinstance(bad, Failure)
    assert "NEWEST" in bad.message


def test_an_item_that_fails_takes_nobody_down_and_is_given_up_after_three_attempts(clean_redis_url: str) -> None:
    engine = Engine()
    with connect(clean_redis_url) as redis, resident_on(redis, engine) as resident:
        good, bad, also_good = submit(clean_redis_url, resident, items_of([7, POISON, 8]))
        assert int(redis.xlen(KEYS.dead_letters)) == 1
    assert isinstance(good, Vector)
    assert isinstance(also_good, Vector)
    assert isinstance(bad, Failure)
    assert bad.message.count("ValueError: poison") == 3
    assert engine.batches[0] == [7, POISON, 8]
    assert all(len(batch) == 1 for batch in engine.batches[1:]), "what failed together is retried alone"


def test_a_long_forward_keeps_its_lease(clean_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_MS", 500)
    monkeypatch.setattr(resident_module, "RENEWAL_SECONDS", 0.1)
    engine = Engine(seconds=2.0)
    with connect(clean_redis_url) as redis, resident_on(redis, engine) as resident:
        (found,) = submit(clean_redis_url, resident, items_of([7]))
    assert isinstance(found, Vector)
    assert engine.batches == [[7]], "it ran once"
