"""What each step between a bare forward and an HTTP reply adds, for one caller with one short text at a time.

    make bench, or: .venv/bin/python -m benchmarks.overhead --rounds 10 [--json FILE] [--plot FILE.svg]

Four ways to the same vector, taken by turns in one run: the bare forward on prepared tensors; the engine (checks,
packing, pooling, copying out); the queue (Redis, scheduler, Celery, worker, Redis); HTTP (parsing, tokenising, reply).
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from api.chosen_models import default_name
from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.callers import Connection
from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from pooling.config import resolve_spec
from pooling.device import prepare_process
from pooling.tokenizing import Tokenizer
from scheduler.connection import connect_async
from scheduler.keys import Lane, ModelKeys
from scheduler.messages import Item
from scheduler.results import Callers
from tests.server import Millpond, serving

TEXT = "A millpond stores water so that the wheel turns evenly."
CALLS = 50

Way = Callable[[], Awaitable[None]]


async def measure(server: Millpond, model: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every call, by way."""
    prepare_process("cpu", None)
    import paddle

    from pooling.engine import Engine, PoolingInput
    from pooling.layers.attention import attention_index
    from pooling.packed import PackedBatch

    spec = resolve_spec(model)
    (ids,) = Tokenizer.from_spec(spec).encode([TEXT])
    engine = Engine.load(spec)
    engine.warm_up(1024, 64)
    network = engine._model
    batch = PackedBatch.of([ids])
    tensors = (
        paddle.to_tensor(batch.token_ids),
        paddle.to_tensor(batch.positions),
        paddle.to_tensor(batch.segments),
        attention_index(batch, network.plan, always_masked=False),
    )
    redis = connect_async(f"unix://{server.data_directory}/redis.sock?db=0")
    callers = Callers(redis)
    listening = asyncio.create_task(callers.run([default_name(str(model))]))
    keys = ModelKeys(default_name(str(model)))
    connection = await Connection.open(server.port)
    body = json.dumps({"input": TEXT, "encoding_format": "base64"}).encode()

    async def bare() -> None:
        with paddle.no_grad():
            network(*tensors).numpy()

    async def through_engine() -> None:
        engine.forward([PoolingInput(ids)])

    async def through_queue() -> None:
        request_id = f"overhead-{time.perf_counter_ns()}"
        item = Item(request_id, 0, ids.tobytes(), time.time_ns() // 1_000_000)
        await callers.submit(keys, Lane.INTERACTIVE, request_id, [item])

    async def over_http() -> None:
        await connection.post("/v1/embeddings", body)

    ways: dict[str, Way] = {"bare forward": bare, "engine": through_engine, "queue": through_queue, "HTTP": over_http}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            for _ in range(CALLS):
                began = time.perf_counter()
                await way()
                if round_:  # the first round warms up
                    taken[name].append((time.perf_counter() - began) * 1000)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    connection.close()
    await redis.aclose()
    return taken


def summary(taken: dict[str, list[float]]) -> list[dict[str, float | str]]:
    """Median and tail of each way, what it adds to the one before, and that as a share of the whole."""
    medians = {name: statistics.median(values) for name, values in taken.items()}
    whole = medians["HTTP"]
    rows: list[dict[str, float | str]] = []
    before = 0.0
    for name, values in taken.items():
        added = medians[name] - before
        p99 = statistics.quantiles(values, n=100)[98]
        rows.append({"way": name, "p50_ms": medians[name], "p99_ms": p99, "added_ms": added, "share": added / whole})
        before = medians[name]
    return rows


def main() -> None:
    """Prints the table; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    add_options(parser)
    options = parser.parse_args()
    model = checkpoint_directory(Options())
    with serving(model=model) as server:
        taken = uvloop.run(measure(server, model, options.rounds))
    rows = summary(taken)
    print(f"{'way':<14}{'p50 ms':>8}{'p99 ms':>8}{'added':>8}{'share':>7}")
    for row in rows:
        print(f"{row['way']:<14}{row['p50_ms']:>8.2f}{row['p99_ms']:>8.2f}{row['added_ms']:>8.2f}{row['share']:>7.0%}")
    keep({"benchmark": "overhead", **describe_machine(), "rows": rows}, options)


if __name__ == "__main__":
    sys.exit(main())
