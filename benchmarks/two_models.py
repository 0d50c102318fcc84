"""Two models behind one server: the latency of each while the other is idle, and while calls of the other are refused.

    .venv/bin/python -m benchmarks.two_models --rounds 4 [--measured second]

Open-loop calls (Poisson arrivals, one short text each) go to one model, by turns in windows: alone on a server that
serves nothing else; beside the other model, idle; and beside it while a caller whose key is not for that model calls it
50 times a second and is refused. Stated are p50 and p99, and each p99 against that of the same round's first window.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.callers import Connection
from benchmarks.machine import describe_machine
from tests.server import TINY_BERT, Millpond, serving

CALLS_PER_SECOND = 20.0
REFUSED_PER_SECOND = 50.0
WINDOW_SECONDS = 20.0
TEXT = "A millpond stores water so that the wheel turns evenly."

KEYS = {"first": "key-of-the-first", "second": "key-of-the-second"}
"""Each may use its own model only."""


@contextmanager
def server_of(models: dict[str, Path]) -> Iterator[Millpond]:
    """A server of these models, with a key for each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "models.toml"
        file.write_text("".join(f'[models.{name}]\nmodel = "{path}"\n' for name, path in models.items()))
        keys = Path(folder) / "keys.toml"
        keys.write_text("".join(_section(name, key) for name, key in KEYS.items()))
        keys.chmod(0o600)
        with serving("--models-file", str(file), "--key-file", str(keys), model=None) as server:
            yield server


def _section(name: str, key: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f'[keys.{name}]\nsha256 = "{digest}"\nmodels = ["{name}"]\n'


class Caller:
    """Calls at random moments, whatever the answers take."""

    def __init__(self, port: int, model: str, key: str, rate: float, expected: int) -> None:
        self._port = port
        self._body = orjson.dumps({"model": model, "input": TEXT, "encoding_format": "base64"})
        self._key = key
        self._rate = rate
        self._expected = expected
        self._free: list[Connection] = []
        self.latencies: list[float] = []

    async def run(self, seconds: float) -> None:
        """Calls for so long, and waits for the last answer."""
        chance, calls, until = random.Random(1), [], time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            calls.append(asyncio.create_task(self._call(now)))
            await asyncio.sleep(chance.expovariate(self._rate))
        await asyncio.gather(*calls)
        for connection in self._free:
            connection.close()

    async def _call(self, arrived: float) -> None:
        connection = self._free.pop() if self._free else await Connection.open(self._port)
        status = await connection.status("/v1/embeddings", self._body, {"Authorization": f"Bearer {self._key}"})
        assert status == self._expected, status
        self.latencies.append((time.perf_counter() - arrived) * 1000)
        self._free.append(connection)


def window(port: int, model: str, other: str | None = None) -> list[float]:
    """Milliseconds of each call of a model, beside refused calls of another."""

    async def run() -> list[float]:
        caller = Caller(port, model, KEYS[model], CALLS_PER_SECOND, 200)
        refused = [Caller(port, other, KEYS[model], REFUSED_PER_SECOND, 403)] if other else []
        await asyncio.gather(*(each.run(WINDOW_SECONDS) for each in (caller, *refused)))
        return caller.latencies

    return uvloop.run(run())


def quantiles(latencies: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    found = statistics.quantiles(latencies, n=100)
    return found[49], found[98]


def main() -> None:
    """Prints a line for each window, and the ratios; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measured", choices=list(KEYS), default="first", help="the model that is called")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    models = {"first": checkpoint_directory(Options()), "second": TINY_BERT}
    rows: list[dict[str, Any]] = []
    os.environ.pop("MILLPOND_API_KEY", None)
    measured, other = options.measured, next(name for name in models if name != options.measured)
    with server_of({measured: models[measured]}) as alone, server_of(models) as both:
        names = {"alone": (alone, None), "other idle": (both, None), "other refused": (both, other)}
        for round_ in range(options.rounds + 1):
            for name, (server, refused) in names.items():
                p50, p99 = quantiles(window(server.port, measured, refused))
                if round_:  # the first warms up
                    rows.append({"round": round_, "window": name, "p50_ms": p50, "p99_ms": p99})
                    print(f"{round_}  {name:<14} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms", flush=True)
    p99s = {name: [row["p99_ms"] for row in rows if row["window"] == name] for name in names}
    for name in ("other idle", "other refused"):
        ratios = [each / base for each, base in zip(p99s[name], p99s["alone"], strict=True)]
        every = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name}: p99 is {statistics.median(ratios):.2f} times that alone ({every})")
    if options.json:
        options.json.write_text(json.dumps({**describe_machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
