"""Interactive callers beside a backfill: what it costs them, and what it gets of what they leave.

    .venv/bin/python -m benchmarks.mixed --rounds 2 [--loads 0.2 0.5 0.8] [--workers 2 --target-ms 150] [--json FILE]
        [--plot FILE.svg]

First the capacity: calls of one text from 64 callers, each of which sends its next when it has its last answer; and the
tokens a second of a backfill (`millpond embed --server`) on the server alone. Then, for each load, Poisson arrivals of
as much of that capacity, in windows by turns: on the server alone, and while the backfill runs. Stated are p50 and p99
of the calls, the p99 with the backfill against twice that without and the scheduler's target, and the backfill's tokens
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

import httpx
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
    """Calls at one load: milliseconds without and with a backfill, and the tokens that it got done a second."""

    load: float
    calls: int
    alone: tuple[float, float]
    beside: tuple[float, float]
    tokens_per_second: float
    left_over: float
    target_ms: int

    @property
    def bound(self) -> float:
        """The milliseconds that the p99 beside a backfill may have."""
        return 2 * self.alone[1] + self.target_ms

    def __str__(self) -> str:
        share = self.tokens_per_second / self.left_over
        return (
            f"{self.load:4.0%}  {self.calls} calls, alone p50 {self.alone[0]:6.1f} p99 {self.alone[1]:6.1f} ms; "
            f"beside {self.tokens_per_second:5.0f} tokens/s p50 {self.beside[0]:6.1f} p99 {self.beside[1]:6.1f} ms, "
            f"{self.beside[1] / self.bound:.2f} of the bound; {share:.2f} of what is left"
        )


async def arrivals(port: int, texts: list[str], rate: float, seconds: float) -> tuple[list[float], int]:
    """Milliseconds of calls that come at random moments, whatever the answers take; and their tokens."""
    chance, free, latencies, tokens = random.Random(1), list[Connection](), list[float](), list[int]()

    async def call(text: str) -> None:
        began = time.perf_counter()
        connection = free.pop() if free else await Connection.open(port)
        body = {"model": MODEL, "input": text, "encoding_format": "base64", "truncate_prompt_tokens": -1}
        answer = await connection.post("/v1/embeddings", orjson.dumps(body))
        tokens.append(orjson.loads(answer)["usage"]["total_tokens"])
        latencies.append((time.perf_counter() - began) * 1000)
        free.append(connection)

    calls, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        calls.append(asyncio.create_task(call(chance.choice(texts))))
        await asyncio.sleep(chance.expovariate(rate))
    await asyncio.gather(*calls)
    for connection in free:
        connection.close()
    return latencies, sum(tokens)


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


def tokens_sent(server: Millpond) -> float:
    """Tokens of all micro-batches so far."""
    text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("millpond_batch_tokens_sum")
    )


def backfill_alone(server: Millpond, rows: Path) -> float:
    """Tokens a second of a backfill on a server that does nothing else."""
    with backfill(server, rows):
        before, began = tokens_sent(server), time.perf_counter()
        time.sleep(WINDOW_SECONDS)
        return (tokens_sent(server) - before) / (time.perf_counter() - began)


def measured(
    server: Millpond, rows: Path, texts: list[str], load: float, capacity: float, alone: float, target_ms: int
) -> Window:
    """Both windows at one load."""
    rate = load * capacity
    without, _ = uvloop.run(arrivals(server.port, texts, rate, WINDOW_SECONDS))
    with backfill(server, rows):
        uvloop.run(arrivals(server.port, texts, rate, SETTLING_SECONDS / 2))
        before, began = tokens_sent(server), time.perf_counter()
        beside, tokens = uvloop.run(arrivals(server.port, texts, rate, WINDOW_SECONDS))
        done = (tokens_sent(server) - before - tokens) / (time.perf_counter() - began)
    return Window(load, len(beside), quantiles(without), quantiles(beside), done, (1 - load) * alone, target_ms)


def main() -> None:
    """Prints a line for each load and round; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.2, 0.5, 0.8])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--target-ms", type=int, default=INTERACTIVE_TARGET_MS)
    parser.add_argument("--tiny", action="store_true", help="the tests' tiny BERT in place of the default model")
    add_options(parser)
    options = parser.parse_args()
    texts, windows = [text[:600] for text in mixed_texts()], list[Window]()
    target_ms = options.target_ms
    arguments = ("--served-model-name", MODEL, "--workers", str(options.workers))
    arguments += ("--interactive-target-ms", str(target_ms))
    checkpoint = TINY_BERT if options.tiny else checkpoint_directory(Options())
    with tempfile.TemporaryDirectory() as folder, serving(*arguments, model=checkpoint) as server:
        rows = Path(folder) / "rows.jsonl"
        with rows.open("w") as file:
            for number in range(ROWS):
                file.write(json.dumps({"text": f"{number} {texts[number % len(texts)]}"[:600]}) + "\n")
        calls = [[text] for text in texts]
        for _ in range(2):  # the first warms up
            capacity = len(calls) / uvloop.run(call_all(server.port, calls, CALLERS)).seconds
        alone = backfill_alone(server, rows)
        print(f"capacity {capacity:.1f} calls/s; a backfill alone {alone:.0f} tokens/s", flush=True)
        for _ in range(options.rounds):
            for load in options.loads:
                windows.append(measured(server, rows, texts, load, capacity, alone, target_ms))
                print(windows[-1], flush=True)
    for load in options.loads:
        of_load = [each for each in windows if each.load == load]
        bound = statistics.median(each.beside[1] / each.bound for each in of_load)
        share = statistics.median(each.tokens_per_second / each.left_over for each in of_load)
        print(f"{load:.0%}: p99 {bound:.2f} of the bound, backfill {share:.2f} of what is left over (medians)")
    found = {"capacity": capacity, "backfill_alone": alone, "windows": [asdict(each) for each in windows]}
    target = {"interactive_target_ms": target_ms}
    keep({"benchmark": "mixed", **describe_machine(), "workers": options.workers, **target, **found}, options)


if __name__ == "__main__":
    main()
