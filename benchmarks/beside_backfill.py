"""An interactive caller beside a backfill at full rate: its latency, against that on the idle server.

    .venv/bin/python -m benchmarks.beside_backfill --rounds 3

Open-loop calls (Poisson arrivals, one short text each) in windows, by turns: on an idle server, and on the same server
while `millpond embed --server` goes over a file that does not end within the window. Stated are p50 and p99, each p99
against that of the same round's idle window, and the rows that the backfill got done in a second meanwhile.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.machine import describe_machine
from benchmarks.texts import mixed_texts
from benchmarks.two_models import Caller, quantiles
from tests.server import TINY_BERT, Millpond, redis_of, serving

CALLS_PER_SECOND = 20.0
WINDOW_SECONDS = 20.0
SETTLING_SECONDS = 8.0
"""For a backfill to come to its full rate."""

ROWS = 200_000
MODEL = "measured"


def window(server: Millpond) -> list[float]:
    """Milliseconds of each call."""

    async def run() -> list[float]:
        caller = Caller(server.port, MODEL, "none", CALLS_PER_SECOND, 200)
        await caller.run(WINDOW_SECONDS)
        return caller.latencies

    return uvloop.run(run())


def beside(server: Millpond, rows: Path, folder: Path) -> tuple[list[float], float]:
    """The same while a backfill runs, and its rows a second."""
    output = folder / f"out-{time.monotonic_ns()}.jsonl"
    command = [sys.executable, "-m", "api.cli", "embed", str(rows), "--output", str(output), "--server", server.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        while not answered(server, "bulk"):
            if process.poll() is not None:
                raise RuntimeError(f"the backfill ended with {process.returncode}")
            time.sleep(0.2)
        time.sleep(SETTLING_SECONDS)
        before, began = answered(server), time.perf_counter()
        latencies = window(server)
        done = answered(server) - before - len(latencies)
        return latencies, done / (time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def answered(server: Millpond, lane: str | None = None) -> int:
    """Items that were answered; or, of a lane, that wait."""
    redis = redis_of(server)
    if lane:
        return int(redis.xlen(f"millpond:{{{MODEL}}}:lane:{lane}"))
    return int(redis.hget(f"millpond:{{{MODEL}}}:counters", "items_answered") or 0)


def main() -> None:
    """Prints a line for each window, and the ratios; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="the tests' tiny BERT in place of the default model")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    checkpoint = TINY_BERT if options.tiny else checkpoint_directory(Options())
    lines: list[dict[str, Any]] = []
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        rows, texts = Path(name) / "rows.jsonl", mixed_texts()
        with rows.open("w") as file:
            for number in range(ROWS):
                file.write(json.dumps({"text": f"{number} {texts[number % len(texts)][:600]}"}) + "\n")
        with serving("--served-model-name", MODEL, model=checkpoint) as server:
            for round_ in range(options.rounds + 1):
                p50, p99 = quantiles(window(server))
                latencies, rate = beside(server, rows, Path(name))
                busy50, busy99 = quantiles(latencies)
                if round_:  # the first warms up
                    ratios.append(busy99 / p99)
                    lines.append({"idle": [p50, p99], "busy": [busy50, busy99], "rows_per_second": rate})
                    print(
                        f"{round_}  idle p50 {p50:6.1f} p99 {p99:6.1f} ms; beside {rate:.0f} rows/s: "
                        f"p50 {busy50:6.1f} p99 {busy99:6.1f} ms; p99 ratio {ratios[-1]:.2f}",
                        flush=True,
                    )
    print(f"p99 beside a backfill is {statistics.median(ratios):.2f} times that on the idle server (median)")
    if options.json:
        options.json.write_text(json.dumps({**describe_machine(), "rounds": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
