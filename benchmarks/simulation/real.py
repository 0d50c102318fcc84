"""The same calls through a real Redis, scheduler and Celery workers, whose engines sleep or compute."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
import uvloop
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from api import embedded_redis
from api.options import Options
from benchmarks.simulation.arrivals import Call
from benchmarks.simulation.machines import Deployment
from scheduler.connection import connect, connect_async
from scheduler.cost import Sample
from scheduler.fleet import sample_of
from scheduler.keys import LANES, ModelKeys
from scheduler.messages import Failure, Item
from scheduler.results import Callers
from tests.server import TINY_BERT

VARIABLE = "SLEEPING_ENGINE"
"""Tells `benchmarks.sleeping_engine` what its forwards take."""

MODEL = "sleeping"
START_SECONDS = 180.0
"""Each worker loads Paddle, whatever its engine does."""


@dataclass(frozen=True)
class Real:
    """What came of calls.

    Attributes:
        calls: with the moments at which they were really sent, in their order.
        waits: seconds from each to its answer.
        samples: the forwards that ran, as the scheduler hears of them.
    """

    calls: Sequence[Call]
    waits: Sequence[float]
    samples: Sequence[Sample]

    @property
    def seconds(self) -> float:
        """From the first call until the last answer."""
        ended = max(call.seconds + wait for call, wait in zip(self.calls, self.waits, strict=True))
        return ended - min(call.seconds for call in self.calls)


@dataclass(frozen=True)
class Queue:
    """A Redis, a scheduler and workers that run.

    Attributes:
        processes: by role: redis, scheduler, workers.
    """

    redis_url: str
    processes: Mapping[str, Sequence[psutil.Process]]

    def spent(self) -> dict[str, float]:
        """Processor seconds of each role until now, of all its processes together."""
        return {role: sum(sum(each.cpu_times()[:2]) for each in found) for role, found in self.processes.items()}


@contextmanager
def queue_of(deployment: Deployment) -> Iterator[Queue]:
    """Redis, a scheduler, and a sleeping worker for each engine, once all are there."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mp-")))
        server, _ = embedded_redis.find_server()
        redis_url = f"unix://{embedded_redis.socket_path(directory)}?db=0"
        options = Options(model=str(TINY_BERT), redis_url=redis_url, served_model_name=MODEL)
        shared = {
            **os.environ,
            **options.environment(),
            "MILLPOND_CHECKPOINT": str(TINY_BERT),
            "MILLPOND_INTERACTIVE_TARGET_MS": str(round(deployment.target_seconds * 1000)),
        }

        def start(command: Sequence[str], environment: dict[str, str]) -> psutil.Process:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return psutil.Process(process.pid)

        redis_process = start(embedded_redis.server_command(server, directory), shared)
        client = connect(redis_url)
        _wait_until(lambda: _answers(client), "Redis")
        scheduler = start([sys.executable, "-m", "scheduler"], shared)
        workers = []
        for engine in deployment.engines:
            own = {
                VARIABLE: f"{engine.fixed} {engine.per_token} {engine.per_square}",
                "MILLPOND_MAX_NUM_BATCHED_TOKENS": str(engine.tokens),
                "MILLPOND_MAX_NUM_SEQS": str(engine.sequences),
            }
            workers.append(start([sys.executable, "-m", "benchmarks.sleeping_engine"], shared | own))
        keys = ModelKeys(MODEL)
        _wait_until(lambda: client.scard(keys.workers) == len(deployment.engines), "not all workers")
        yield Queue(redis_url, {"redis": [redis_process], "scheduler": [scheduler], "workers": workers})


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"after {START_SECONDS:.0f} s {what} came up")
        time.sleep(0.1)


def run_real(redis_url: str, calls: Sequence[Call], model: str = MODEL) -> Real:
    """Sends every call at its moment, whatever the answers take, and waits for the last answer."""
    return uvloop.run(_run(redis_url, calls, ModelKeys(model)))


async def _run(redis_url: str, calls: Sequence[Call], keys: ModelKeys) -> Real:
    client = connect_async(redis_url)
    callers, samples = Callers(client), list[Sample]()
    duties = [asyncio.create_task(callers.run([keys.model])), asyncio.create_task(hear(client, keys, samples))]
    began, answers = time.perf_counter(), []
    for number, call in enumerate(sorted(calls, key=lambda call: call.seconds)):
        if (pause := call.seconds - (time.perf_counter() - began)) > 0:
            await asyncio.sleep(pause)
        answers.append(asyncio.create_task(_answer(callers, keys, call, number, began)))
    done = sorted(await asyncio.gather(*answers), key=lambda each: each[0].seconds)
    for duty in duties:
        duty.cancel()
    await asyncio.gather(*duties, return_exceptions=True)
    await client.aclose()
    return Real([call for call, _ in done], [wait for _, wait in done], samples)


async def _answer(callers: Callers, keys: ModelKeys, call: Call, number: int, began: float) -> tuple[Call, float]:
    """A call with the moment at which it was sent, and the seconds until its answer."""
    sent, now_ms = time.perf_counter(), time.time_ns() // 10**6
    name = f"{number}-{time.monotonic_ns()}"
    items = [
        Item(name, index, b"\1\0\0\0" * length, now_ms, tenant=call.tenant) for index, length in enumerate(call.lengths)
    ]
    results = await callers.submit(keys, LANES[call.lane], name, items)
    assert not any(isinstance(each, Failure) for each in results), results
    moved = Call(sent - began, call.lane, call.tenant, call.lengths)
    return moved, time.perf_counter() - sent


async def hear(client: AsyncRedis, keys: ModelKeys, samples: list[Sample]) -> None:
    """Listens to what workers tell the scheduler."""
    async with client.pubsub() as subscription:
        await subscription.subscribe(keys.scheduler_channel)
        async for message in subscription.listen():
            if message["type"] == "message":
                word, *rest = message["data"].decode().split()
                if word == "slot" and (sample := sample_of(rest[2:])):
                    samples.append(sample)
