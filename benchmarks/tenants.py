"""Ten keys share a model, and one of them sends a hundred times what each other sends: what each gets, and waits.

    .venv/bin/python -m benchmarks.tenants --seconds 30 [--lane bulk] [--json FILE] [--plot FILE.svg]

Each key has callers that send their next call as soon as they have an answer: 4 of them, the greedy key 400. So there
is always more waiting than the model can do, and a fair share is a tenth. Stated are each key's texts a second as a
share of that, and the median and 99th percentile of its calls' latencies.
"""

import argparse
import asyncio
import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.callers import Connection
from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from benchmarks.texts import mixed_texts
from benchmarks.two_models import quantiles
from tests.server import TINY_BERT, Millpond, serving

KEYS = 10
CALLERS, GREEDY_CALLERS = 4, 400
TEXTS_A_CALL = 8
MAX_NUM_BATCHED_TOKENS = "512"
"""Small beside what a key has waiting: who has all of it in the batches that run has none in the line, and no turn."""

SETTLING_SECONDS = 5.0


@dataclass
class Tenant:
    """A key, how many callers use it, and what they got within the time that counts."""

    name: str
    callers: int
    texts: int = 0
    milliseconds: list[float] = field(default_factory=list)


@contextmanager
def server_of(tenants: list[Tenant]) -> Iterator[Millpond]:
    """A server of a tiny model with a key for each."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.toml"
        sections = (
            f'[keys.{each.name}]\nsha256 = "{hashlib.sha256(each.name.encode()).hexdigest()}"' for each in tenants
        )
        keys.write_text("\n".join(sections))
        keys.chmod(0o600)
        with serving(
            "--key-file", str(keys), "--max-num-batched-tokens", MAX_NUM_BATCHED_TOKENS, model=TINY_BERT
        ) as server:
            yield server


async def measured(port: int, tenants: list[Tenant], lane: str, seconds: float) -> None:
    """Lets all call for so long."""
    texts = [text[:120] for text in mixed_texts()]
    begins = time.perf_counter() + SETTLING_SECONDS
    ends = begins + seconds

    async def caller(tenant: Tenant, number: int) -> None:
        connection = await Connection.open(port)
        headers = {"Authorization": f"Bearer {tenant.name}", "Millpond-Lane": lane}
        while (began := time.perf_counter()) < ends:
            chosen = [texts[(number + offset) % len(texts)] for offset in range(TEXTS_A_CALL)]
            await connection.post(
                "/v1/embeddings",
                orjson.dumps({"input": chosen, "encoding_format": "base64", "truncate_prompt_tokens": -1}),
                headers,
            )
            ended = time.perf_counter()
            if begins < ended < ends:
                tenant.texts += TEXTS_A_CALL
                tenant.milliseconds.append((ended - began) * 1000)
            number += TEXTS_A_CALL
        connection.close()

    await asyncio.gather(*(caller(each, 31 * number) for each in tenants for number in range(each.callers)))


def main() -> None:
    """Prints a line for each key; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--lane", default="interactive", choices=["interactive", "job", "bulk"])
    add_options(parser)
    options = parser.parse_args()
    tenants = [Tenant(f"key-{n}", CALLERS) for n in range(1, KEYS)] + [Tenant("greedy", GREEDY_CALLERS)]
    with server_of(tenants) as server:
        uvloop.run(measured(server.port, tenants, options.lane, options.seconds))
    total = sum(each.texts for each in tenants)
    rows: list[dict[str, Any]] = []
    for each in tenants:
        p50, p99 = quantiles(each.milliseconds)
        rows.append({"key": each.name, "share": each.texts / total * KEYS, "p50_ms": p50, "p99_ms": p99})
        print(
            f"{each.name:<8} {each.texts / options.seconds:7.1f} texts/s, {rows[-1]['share']:.3f} of a fair share; "
            f"p50 {p50:8.1f} p99 {p99:8.1f} ms"
        )
    print(f"{total / options.seconds:.0f} texts/s together")
    keep({"benchmark": "tenants", **describe_machine(), "lane": options.lane, "keys": rows}, options)


if __name__ == "__main__":
    main()
