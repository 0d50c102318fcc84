"""What an item and a batch cost the scheduler, Redis and a worker, however much is queued.

    .venv/bin/python -m benchmarks.queue_costs [--depths 1000 10000 100000 1000000] [--json FILE]
    .venv/bin/python -m benchmarks.queue_costs --sequences 1 8 64 256

A worker whose engine costs nothing is kept busy from the bulk lane: a call's answer makes the next call, so that the
queue stays as deep. Stated are items a second, with all processes and the caller on the cores of this machine, and the
processor time of each role for an item: for queues of several depths, or for batches of several sizes, from which a
batch's own cost and an item's are fitted. Beside it: the steps that Redis takes for a batch, and what each takes.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import uvloop
from redis.asyncio import Redis

from benchmarks.machine import describe_machine
from benchmarks.simulation.machines import Deployment, Engine
from benchmarks.simulation.real import MODEL, Queue, hear, queue_of
from scheduler.connection import connect_async
from scheduler.cost import Sample
from scheduler.keys import LANES, ModelKeys
from scheduler.messages import Item
from scheduler.results import Callers

KEYS = ModelKeys(MODEL)
ITEMS, TOKENS = 250, 16
"""Items of a call, and tokens of an item."""

AT_ONCE = 16
"""Calls that are handed in at a time, while the queue is filled: each takes a connection."""

SETTLING_SECONDS = 4.0
A_READ = 10_000
"""Items a second that the leader reads at least: it is given the time to come to the end of what was filled in."""


@dataclass(frozen=True)
class Costs:
    """Processor time of an item by role; and Redis's steps: how many for a batch, and microseconds of each."""

    depth: int
    sequences: float
    items_per_second: float
    us_per_item: dict[str, float]
    steps_a_batch: float
    us_a_step: float

    def __str__(self) -> str:
        spent = ", ".join(f"{role} {each:5.1f}" for role, each in self.us_per_item.items())
        return (
            f"{self.depth:>8} queued, batches of {self.sequences:5.1f}: {self.items_per_second:6.0f} items/s; us an "
            f"item: {spent}; {self.steps_a_batch:.2f} steps a batch, {self.us_a_step:.0f} us each"
        )


class Filling:
    """Keeps a queue as deep as it is made."""

    def __init__(self, callers: Callers) -> None:
        self.answered = 0
        self._callers = callers
        self._numbers = iter(range(10**9))
        self._tasks: list[asyncio.Task[None]] = []

    async def fill(self, client: Redis, depth: int) -> None:
        """Returns when so many items are queued."""
        calls = max(2, depth // ITEMS)
        while len(self._tasks) < calls:
            self._tasks += [
                asyncio.create_task(self._call_again()) for _ in range(min(AT_ONCE, calls - len(self._tasks)))
            ]
            while await client.xlen(KEYS.lane(LANES[2])) < (len(self._tasks) - AT_ONCE) * ITEMS:  # noqa: ASYNC110 - only Redis knows
                await asyncio.sleep(0.002)

    async def _call_again(self) -> None:
        ids = b"\1\0\0\0" * TOKENS
        while True:
            name, now_ms = f"{next(self._numbers)}-{time.monotonic_ns()}", time.time_ns() // 10**6
            items = [Item(name, index, ids, now_ms) for index in range(ITEMS)]
            await self._callers.submit(KEYS, LANES[2], name, items)
            self.answered += ITEMS

    async def end(self) -> None:
        """Lets nobody call any more."""
        for begin in range(0, len(self._tasks), AT_ONCE):
            leaving = self._tasks[begin : begin + AT_ONCE]
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)


async def measured(queue: Queue, depth: int, seconds: float) -> Costs:
    """The costs while so many items are queued."""
    client, samples = connect_async(queue.redis_url), list[Sample]()
    callers = Callers(client)
    duties = [asyncio.create_task(callers.run([MODEL])), asyncio.create_task(hear(client, KEYS, samples))]
    filling = Filling(callers)
    await filling.fill(client, depth)
    await asyncio.sleep(SETTLING_SECONDS + depth / A_READ)
    spent, steps, began = queue.spent(), await _steps(client), time.perf_counter()
    items, batches = filling.answered, len(samples)
    await asyncio.sleep(seconds)
    items, batches = filling.answered - items, len(samples) - batches
    taken, spent_now, steps_now = time.perf_counter() - began, queue.spent(), await _steps(client)
    await filling.end()
    for duty in duties:
        duty.cancel()
    await asyncio.gather(*duties, return_exceptions=True)
    await client.aclose()
    calls = steps_now[0] - steps[0]
    us_per_item = {role: (spent_now[role] - before) / items * 1e6 for role, before in spent.items()}
    return Costs(depth, items / batches, items / taken, us_per_item, calls / batches, (steps_now[1] - steps[1]) / calls)


async def _steps(client: Redis) -> tuple[int, int]:
    """Scripts that Redis has run, and the microseconds that they took, with all that they call."""
    found = (await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    return int(found["calls"]), int(found["usec"])


def costs_of(depth: int, sequences: int, seconds: float) -> Costs:
    """Of a queue of its own."""
    engine = Engine(0.0, 0.0, 0.0, tokens=max(2048, sequences * TOKENS), sequences=sequences)
    with queue_of(Deployment([engine])) as queue:
        return uvloop.run(measured(queue, depth, seconds))


def fitted(found: Sequence[Costs], role: str) -> tuple[float, float]:
    """Microseconds of a batch and of each item in it, from batches of several sizes."""
    sizes = np.array([each.sequences for each in found])
    of_batch = np.array([each.us_per_item[role] for each in found]) * sizes
    weights = 1 / of_batch
    features = np.stack([np.ones(len(sizes)), sizes], axis=1) * weights[:, None]
    fixed, of_item = np.linalg.lstsq(features, of_batch * weights, rcond=None)[0].tolist()
    return fixed, of_item


def main() -> None:
    """Prints a line for each; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[10_000])
    parser.add_argument("--sequences", type=int, nargs="+", default=[64], help="of a batch, at most")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[Costs] = []
    for depth in options.depths:
        for sequences in options.sequences:
            found.append(costs_of(depth, sequences, options.seconds))
            print(found[-1], flush=True)
    if len(options.sequences) > 1:
        for role in found[0].us_per_item:
            print(f"{role}: {{:.0f}} us a batch, {{:.1f}} us an item".format(*fitted(found, role)))
    if options.json:
        rows = [asdict(each) for each in found]
        options.json.write_text(json.dumps({**describe_machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
