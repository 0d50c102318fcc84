"""Where to tokenise: on the event loop, in threads or in processes.

    .venv/bin/python -m benchmarks.tokenizing

64 callers tokenise texts of the same length one after another. Beside the texts a second stands how long the event
loop was held up: the 99th percentile of what a sleep of one millisecond took beyond that.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvloop

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.machine import describe_machine
from pooling.config import resolve_spec
from pooling.tokenizing import TokenIds, Tokenizer

LENGTHS = (16, 128, 512)
CALLERS = 64
SECONDS = 2.0

Way = Callable[[str], Awaitable[TokenIds]]

_tokenizer: Tokenizer | None = None


def load(directory: Path) -> None:
    """Loads the tokenizer, in this process or in one of a pool."""
    global _tokenizer
    _tokenizer = Tokenizer.from_spec(resolve_spec(directory))


def encode(text: str) -> TokenIds:
    """The ids of one text."""
    assert _tokenizer
    return _tokenizer.encode([text])[0]


async def inline(text: str) -> TokenIds:
    """On the event loop itself."""
    await asyncio.sleep(0)
    return encode(text)


def through(pool: Executor) -> Way:
    """In a pool of threads or processes."""

    async def way(text: str) -> TokenIds:
        return await asyncio.get_running_loop().run_in_executor(pool, encode, text)

    return way


@contextmanager
def ways(directory: Path) -> Iterator[dict[str, Way]]:
    """Every way, its pool ready."""
    pools: dict[str, Executor] = {
        f"{count} thread{'s' * (count > 1)}": ThreadPoolExecutor(count) for count in (1, 2, 4)
    }
    pools |= {
        f"{count} process{'es' * (count > 1)}": ProcessPoolExecutor(count, initializer=load, initargs=(directory,))
        for count in (1, 2)
    }
    for pool in pools.values():
        list(pool.map(encode, ["ready?"] * 16))
    yield {"event loop": inline, **{name: through(pool) for name, pool in pools.items()}}
    for pool in pools.values():
        pool.shutdown()


async def measure(way: Way, text: str) -> tuple[float, float]:
    """Texts a second, and milliseconds for which the loop was held up at the 99th percentile."""
    until = time.perf_counter() + SECONDS
    done, late = 0, list[float]()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await way(text)
            done += 1

    async def heart() -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - began - 0.001) * 1000)

    began = time.perf_counter()
    await asyncio.gather(heart(), *(caller() for _ in range(CALLERS)))
    return done / (time.perf_counter() - began), statistics.quantiles(late, n=100)[98]


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    directory = checkpoint_directory(Options())
    load(directory)
    words = ["the", "river", "runs", "down", "to", "the", "mill", "and", "turns", "its", "wheel"]
    rows = []
    print(f"{'tokens':>7}  {'way':<12}{'texts/s':>9}{'held up, ms':>13}")
    with ways(directory) as every:
        for length in LENGTHS:
            text = " ".join(words[number % len(words)] for number in range(length - 2))
            for name, way in every.items():
                rate, late = uvloop.run(measure(way, text))
                rows.append({"tokens": length, "way": name, "texts_per_second": rate, "held_up_ms": late})
                print(f"{length:>7}  {name:<12}{rate:>9.0f}{late:>13.2f}")
    if options.json:
        options.json.write_text(json.dumps({**describe_machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
