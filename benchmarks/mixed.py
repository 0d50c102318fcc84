"""Interactive callers beside a backfill: what it costs them, and what it gets of what they leave.

    .venv/bin/python -m benchmarks.mixed --rounds 2 [--loads 0.2 0.5 0.8] [--workers 2] [--json FILE] [--plot FILE.svg]

First the capacity: calls of one text from 64 callers, each of which sends its next when it has its last answer; and the
rows a second of a backfill (`millpond embed --server`) on the server alone. Then, for each load, Poisson arrivals of as
much of that capacity, in windows by turns: on the server alone, and while the backfill runs. Stated are p50 and p99 of
the calls, the p99 with the backfill against twice that without and the scheduler's target, and the backfill's rows
against its own alone, less the share that the callers use. A call that is answered by anything but 200 ends the run.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import uvloop

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.callers import Connection, call_all
from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from benchmarks.texts import mixed_texts
from benchmarks.two_models import quantiles
from scheduler.settings import INTERACTIVE_TARGET_MS
from tests.server import TINY_BERT, Millpond, redis_of, serving

MODEL = "measured"
ROWS = 300_000
CALLERS = 64
WINDOW_SECONDS = 20.0
SETTLING_SECONDS = 10.0
"""For a backfill to come to its full rate, and for the scheduler to remember or forget interactive callers."""


@dataclass(frozen=True)
class Window:
    """Calls at one load: milliseconds without and with a backfill, and the rows that it got done a second."""

    load: float
    calls: int
    alone: tuple[float, float]
    beside: tuple[float, float]
    rows_per_second: float
    left_over: float

    def __str__(self) -> str:
        bound = 2 * self.alone[1] + INTERACTIVE_TARGET_MS
        return (
            f"{self.load:4.0%}  {self.calls} calls, alone p50 {self.alone[0]:6.1f} p99 {self.alone[1]:6.1f} ms; "
            f"beside {self.rows_per_second:5.1f} rows/s p50 {self.beside[0]:6.1f} p99 {self.beside[1]:6.1f} ms, "
            f"{self.beside[1] / bound:.2f} of the bound; {self.rows_per_second / self.left_over:.2f} of what is left"
        )


async def arrivals(port: int, texts: list[str], rate: float, seconds: float) -> list[float]:
    """Milliseconds of calls that come at random moments, whatever the answers take."""
    chance, free, latencies = random.Random(1), list[Connection](), list[float]()

    async def call(text: str) -> None:
        began = time.perf_counter()
        connection = free.pop() if free else await Connection.open(port)
        body = {"model": MODEL, "input": text, "encoding_format": "base64", "truncate_prompt_tokens": -1}
        await connection.post("/v1/embeddings", orjson.dumps(body))
        latencies.append((time.perf_counter() - began) * 1000)
        free.append(connection)

    calls, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        calls.append(asyncio.create_task(call(chance.choice(texts))))
        await asyncio.sleep(chance.expovariate(rate))
    await asyncio.gather(*calls)
    for connection in free:
        connection.close()
    return latencies


@contextmanager
def backfill(server: Millpond, rows: Path) -> Iterator[None]:
    """One that runs at its full rate, and does not end by itself."""
    output = rows.with_name(f"out-{time.monotonic_ns()}.jsonl")
    command = [sys.executable, "-m", "api.cli", "embed", str(rows), "--output", str(output), "--server", server.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        while not redis_of(server).xlen(f"millpond:{{{MODEL}}}:lane:bulk"):
            if process.poll() is not None:
                raise RuntimeError(f"the backfill ended with {process.returncode}")
            time.sleep(0.2)
        time.sleep(SETTLING_SECONDS)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def answered(server: Millpond) -> int:
    """Items that were answered so far."""
    return int(redis_of(server).hget(f"millpond:{{{MODEL}}}:counters", "items_answered") or 0)


def rows_alone(server: Millpond, rows: Path) -> float:
    """Rows a second of a backfill on a server that does nothing else."""
    with backfill(server, rows):
        before, began = answered(server), time.perf_counter()
        time.sleep(WINDOW_SECONDS)
        return (answered(server) - before) / (time.perf_counter() - began)


def measured(server: Millpond, rows: Path, texts: list[str], load: float, capacity: float, alone: float) -> Window:
    """Both windows at one load."""
    rate = load * capacity
    without = uvloop.run(arrivals(server.port, texts, rate, WINDOW_SECONDS))
    with backfill(server, rows):
        uvloop.run(arrivals(server.port, texts, rate, SETTLING_SECONDS / 2))
        before, began = answered(server), time.perf_counter()
        beside = uvloop.run(arrivals(server.port, texts, rate, WINDOW_SECONDS))
        done = (answered(server) - before - len(beside)) / (time.perf_counter() - began)
    return Window(load, len(beside), quantiles(without), quantiles(beside), done, (1 - load) * alone)


def main() -> None:
    """Prints a line for each load and round; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.2, 0.5, 0.8])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="the tests' tiny BERT in place of the default model")
    add_options(parser)
    options = parser.parse_args()
    texts, windows = [text[:600] for text in mixed_texts()], list[Window]()
    arguments = ("--served-model-name", MODEL, "--workers", str(options.workers))
    checkpoint = TINY_BERT if options.tiny else checkpoint_directory(Options())
    with tempfile.TemporaryDirectory() as folder, serving(*arguments, model=checkpoint) as server:
        rows = Path(folder) / "rows.jsonl"
        with rows.open("w") as file:
            for number in range(ROWS):
                file.write(json.dumps({"text": f"{number} {texts[number % len(texts)]}"[:600]}) + "\n")
        calls = [[text] for text in texts]
        for _ in range(2):  # the first warms up
            capacity = len(calls) / uvloop.run(call_all(server.port, calls, CALLERS)).seconds
        alone = rows_alone(server, rows)
        print(f"capacity {capacity:.1f} calls/s; a backfill alone {alone:.1f} rows/s", flush=True)
        for _ in range(options.rounds):
            for load in options.loads:
                windows.append(measured(server, rows, texts, load, capacity, alone))
                print(windows[-1], flush=True)
    for load in options.loads:
        of_load = [each for each in windows if each.load == load]
        bound = statistics.median(each.beside[1] / (2 * each.alone[1] + INTERACTIVE_TARGET_MS) for each in of_load)
        share = statistics.median(each.rows_per_second / each.left_over for each in of_load)
        print(f"{load:.0%}: p99 {bound:.2f} of the bound, backfill {share:.2f} of what is left over (medians)")
    found = {"capacity": capacity, "backfill_alone": alone, "windows": [asdict(each) for each in windows]}
    target = {"interactive_target_ms": INTERACTIVE_TARGET_MS}
    keep({"benchmark": "mixed", **describe_machine(), "workers": options.workers, **target, **found}, options)


if __name__ == "__main__":
    main()
