"""Three times more calls than a server can do: what it does of them, what it says to the others, and how it recovers.

    .venv/bin/python -m benchmarks.overload --seconds 120 [--times 3] [--sleeping] [--json FILE] [--plot FILE.svg]

First the capacity: calls of one text from 64 callers that each send the next when they have an answer. Then Poisson
arrivals of three times as many, each call with a deadline; who is refused comes once more, after the time of its
Retry-After. Stated are the calls answered in a second against the capacity; how many of those that were accepted were
answered before their deadline; how many of the second tries passed; and after the end, with a few calls a second, when
their latency is back at what it was before (twice the p99 at most).

On a machine of few cores callers and refusals take them from the engine. With `--sleeping` the engine is one that
sleeps for as long as the default model computes on two cores, as if it were on a device of its own.
"""

import argparse
import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uvloop

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.callers import Connection, call_all
from benchmarks.dataplane import api, backstage
from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from benchmarks.reproduction import SLEEPING
from benchmarks.simulation.real import VARIABLE
from benchmarks.texts import mixed_texts
from tests.server import TINY_BERT, Millpond, serving

CALLERS = 64
DEADLINE_MS = 3_000
PROBES_PER_SECOND = 5.0
KEPT_SECONDS = 3.0
IDLE_SECONDS, RECOVERY_SECONDS = 10.0, 20.0


@dataclass
class Tally:
    """What became of the calls.

    Attributes:
        first, second: how many tries ended with which status.
        tries: when each was sent, and its status.
    """

    began: float = field(default_factory=time.perf_counter)
    first: dict[int, int] = field(default_factory=dict)
    second: dict[int, int] = field(default_factory=dict)
    tries: list[tuple[float, int]] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def by_second(self) -> dict[str, list[int]]:
        """How many tries, of those sent in each second, were accepted and refused; and how many answers came in it."""
        moments = {
            "accepted": [at for at, status in self.tries if status != 429],
            "refused": [at for at, status in self.tries if status == 429],
            "answered": self.answered_at,
        }
        seconds = {name: [int(at - self.began) for at in found] for name, found in moments.items()}
        length = 1 + max((second for found in seconds.values() for second in found), default=0)
        return {name: [found.count(second) for second in range(length)] for name, found in seconds.items()}


class Client:
    """Calls of one text with a deadline, over kept connections."""

    def __init__(self, port: int, texts: list[str]) -> None:
        self._port = port
        self._free: list[tuple[float, Connection]] = []
        self._texts = texts
        self._numbers = itertools.count()
        self.chance = random.Random(1)

    def body(self) -> bytes:
        """A text that no other call has."""
        text = f"{next(self._numbers)} {self.chance.choice(self._texts)}"
        return orjson.dumps({"input": text, "encoding_format": "base64", "truncate_prompt_tokens": -1})

    async def call(self, body: bytes | None = None) -> tuple[int, dict[str, str]]:
        """Status and headers of one call; of a text by chance, where none is given."""
        connection = await self._connection()
        content = body or self.body()
        found = await connection.reply("/v1/embeddings", content, {"Millpond-Deadline-Ms": str(DEADLINE_MS)})
        self._free.append((time.perf_counter(), connection))
        return found

    async def _connection(self) -> Connection:
        """One that was used lately: the server closes others."""
        while self._free:
            used, connection = self._free.pop()
            if time.perf_counter() - used < KEPT_SECONDS:
                return connection
            connection.close()
        return await Connection.open(self._port)

    async def call_twice(self, tally: Tally) -> None:
        """One call, and where it is refused, another after the time that it was told."""
        body, sent = self.body(), time.perf_counter()
        status, headers = await self.call(body)
        tally.tries.append((sent, status))
        tally.first[status] = tally.first.get(status, 0) + 1
        if status == 429:
            wait = int(headers["retry-after-ms"]) / 1000
            tally.waits.append(wait)
            await asyncio.sleep(wait)
            sent = time.perf_counter()
            status, _ = await self.call(body)
            tally.tries.append((sent, status))
            tally.second[status] = tally.second.get(status, 0) + 1
        if status == 200:
            tally.answered_at.append(time.perf_counter())

    async def probes(self, seconds: float) -> list[tuple[float, float, int]]:
        """Calls now and then: when each began, seconds from the first, how long it took, and its status."""
        began, found = time.perf_counter(), list[tuple[float, float, int]]()

        async def probe() -> None:
            at = time.perf_counter()
            status, _ = await self.call()
            found.append((at - began, time.perf_counter() - at, status))

        calls = []
        while time.perf_counter() - began < seconds:
            calls.append(asyncio.create_task(probe()))
            await asyncio.sleep(1 / PROBES_PER_SECOND)
        await asyncio.gather(*calls)
        return found

    def close(self) -> None:
        """Ends the connections."""
        for _, connection in self._free:
            connection.close()


async def overloaded(client: Client, rate: float, seconds: float) -> tuple[Tally, float]:
    """Calls at this rate for so long; the tally, and how many were answered in a second of that time."""
    tally, calls = Tally(), list[asyncio.Task[None]]()
    while time.perf_counter() - tally.began < seconds:
        calls.append(asyncio.create_task(client.call_twice(tally)))
        await asyncio.sleep(client.chance.expovariate(rate))
    ended = time.perf_counter()
    # The first seconds fill the queue.
    settled = tally.began + min(5.0, seconds / 4)
    goodput = sum(settled < at < ended for at in tally.answered_at) / (ended - settled)
    waiting = [call for call in calls if not call.done()]
    print(f"{len(calls)} calls; {len(waiting)} second tries still to come", flush=True)
    await asyncio.gather(*calls)
    return tally, goodput


async def measured(port: int, texts: list[str], rate: float, seconds: float) -> tuple[dict[str, object], Tally]:
    """All figures but the capacity, and the tally."""
    client = Client(port, texts)
    before = sorted(took for _, took, _ in await client.probes(IDLE_SECONDS))
    tally, goodput = await overloaded(client, rate, seconds)
    after = sorted(await client.probes(RECOVERY_SECONDS))
    client.close()
    late = [at for at, took, status in after if status != 200 or took > 2 * before[-1]]
    accepted = {status: count for status, count in tally.first.items() if status != 429}
    passed = tally.second.get(200, 0) / max(1, sum(tally.second.values()))
    figures: dict[str, object] = {
        "answered_per_second": goodput,
        "accepted_and_answered": accepted.get(200, 0) / max(1, sum(accepted.values())),
        "refused": tally.first.get(429, 0) / max(1, sum(tally.first.values())),
        "second_tries_passed": passed,
        "seconds_to_recover": max(late, default=0.0),
        "waits": statistics.quantiles(tally.waits, n=20)[::9] if len(tally.waits) > 1 else [],
    }
    return figures, tally


@contextmanager
def served(checkpoint: Path, *, sleeping: bool) -> Iterator[Millpond]:
    """A server of the model, or one whose worker only sleeps."""
    if not sleeping:
        with serving(model=checkpoint) as server:
            yield server
        return
    costs = f"{SLEEPING.fixed} {SLEEPING.per_token} {SLEEPING.per_square}"
    told = {VARIABLE: costs, "MILLPOND_MAX_NUM_BATCHED_TOKENS": str(SLEEPING.tokens)}
    with (
        backstage(checkpoint, "benchmarks.sleeping_engine", told) as redis_url,
        api(checkpoint, redis_url, 1) as server,
    ):
        yield server


def main() -> None:
    """Prints the figures; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--times", type=float, default=3.0, help="of the capacity")
    parser.add_argument("--tiny", action="store_true", help="the tests' tiny BERT in place of the default model")
    parser.add_argument("--sleeping", action="store_true", help="an engine that sleeps in place of one that computes")
    add_options(parser)
    options = parser.parse_args()
    texts = [text[:600] for text in mixed_texts()]
    checkpoint = TINY_BERT if options.tiny else checkpoint_directory(Options())
    with served(checkpoint, sleeping=options.sleeping) as server:
        calls = [[text] for text in texts]
        for _ in range(2):  # the first warms up
            capacity = len(calls) / uvloop.run(call_all(server.port, calls, CALLERS)).seconds
        print(f"capacity {capacity:.1f} calls/s", flush=True)
        figures, tally = uvloop.run(measured(server.port, texts, options.times * capacity, options.seconds))
    print(f"first tries {tally.first}, second tries {tally.second}")
    for name, value in {**figures, "of_the_capacity": float(str(figures["answered_per_second"])) / capacity}.items():
        print(f"{name:<24} {value if isinstance(value, list) else round(float(str(value)), 3)}")
    found = {
        "sleeping": options.sleeping,
        "capacity": capacity,
        "seconds": options.seconds,
        "first": tally.first,
        "second": tally.second,
        **figures,
    }
    keep({"benchmark": "overload", **describe_machine(), **found, "by_second": tally.by_second()}, options)


if __name__ == "__main__":
    main()
