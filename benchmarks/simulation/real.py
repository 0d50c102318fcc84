"""The same arrivals through a real Redis, scheduler and Celery workers, whose engines sleep."""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop

from api import embedded_redis
from api.options import Options
from benchmarks.simulation.arrivals import Arrival
from benchmarks.simulation.events import Outcome, Setting
from scheduler.connection import connect, connect_async
from scheduler.keys import LANES, ModelKeys
from scheduler.messages import Item
from scheduler.results import Callers
from tests.server import TINY_BERT

VARIABLE = "SLEEPING_ENGINE"
"""Tells `benchmarks.sleeping_engine` what its forwards take."""

ITEMS_A_REQUEST = 20
"""Of those that arrive at one moment: each request costs a connection to hand it in."""

MODEL = "sleeping"
KEYS = ModelKeys(MODEL)


@contextmanager
def queue_of(setting: Setting) -> Iterator[str]:
    """Redis, a scheduler, and a worker for each engine of the setting; the URL of the Redis."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mp-")))
        server, _ = embedded_redis.find_server()
        redis_url = f"unix://{embedded_redis.socket_path(directory)}?db=0"
        options = Options(model=str(TINY_BERT), redis_url=redis_url, served_model_name=MODEL)
        environment = {
            **os.environ,
            **options.environment(),
            "MILLPOND_CHECKPOINT": str(TINY_BERT),
            "MILLPOND_MAX_NUM_BATCHED_TOKENS": str(setting.tokens),
            "MILLPOND_MAX_NUM_SEQS": str(setting.sequences),
            "MILLPOND_INTERACTIVE_TARGET_MS": str(round(setting.target_seconds * 1000)),
        }
        commands = [(embedded_redis.server_command(server, directory), environment)]
        commands.append(([sys.executable, "-m", "scheduler"], environment))
        for engine in setting.engines:
            told = {**environment, VARIABLE: f"{engine.fixed} {engine.a_token} {engine.a_square}"}
            commands.append(([sys.executable, "-m", "benchmarks.sleeping_engine"], told))
        for command, variables in commands:
            process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        _wait_for_workers(redis_url, len(setting.engines))
        yield redis_url


def _wait_for_workers(url: str, count: int) -> None:
    redis, until = connect(url), time.monotonic() + 60
    while time.monotonic() < until:
        try:
            names = [KEYS.worker(each.decode()) for each in redis.smembers(KEYS.workers)]
            if names and redis.exists(*names) == count:
                return
        except OSError:
            pass  # Redis has not come up yet
        except Exception as error:
            if time.monotonic() > until - 30:
                raise RuntimeError("Redis does not come up") from error
        time.sleep(0.1)
    raise RuntimeError("the workers do not come up")


def run_real(redis_url: str, arrivals: Sequence[Arrival], until: float) -> Outcome:
    """Hands every item in at its time, some of those that come together in one request; what came of it until then."""
    return uvloop.run(_run(redis_url, arrivals, until))


async def _run(redis_url: str, arrivals: Sequence[Arrival], until: float) -> Outcome:
    redis, outcome = connect_async(redis_url), Outcome()
    callers = Callers(redis)
    listening = asyncio.create_task(callers.run([MODEL]))
    began = time.perf_counter()
    tasks = []

    async def request(number: int, items: Sequence[Arrival]) -> None:
        at, name, first = time.perf_counter(), f"{number}-{time.monotonic_ns()}", items[0]
        made = [
            Item(name, index, b"\1\0\0\0" * each.tokens, _now_ms(), tenant=each.tenant, weight=each.weight)
            for index, each in enumerate(items)
        ]
        await callers.submit(KEYS, LANES[first.lane], name, made)
        ended = time.perf_counter()
        if ended - began <= until:
            place = first.lane, first.tenant
            outcome.waits.setdefault(place, []).extend([ended - at] * len(items))
            outcome.tokens[place] = outcome.tokens.get(place, 0) + sum(each.tokens for each in items)

    for number, items in enumerate(_requests(arrivals)):
        if (pause := items[0].seconds - (time.perf_counter() - began)) > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(request(number, items)))
    await asyncio.sleep(max(0.0, until - (time.perf_counter() - began)))
    outcome.seconds = until
    for task in (*tasks, listening):
        task.cancel()
    await asyncio.gather(*tasks, listening, return_exceptions=True)
    await redis.aclose()
    return outcome


def _requests(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    for _, together in itertools.groupby(arrivals, key=lambda each: (each.seconds, each.lane, each.tenant)):
        while items := list(itertools.islice(together, ITEMS_A_REQUEST)):
            yield items


def _now_ms() -> int:
    return time.time_ns() // 10**6
