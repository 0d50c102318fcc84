"""What a request costs the api: items a second of one api process and of two, with an engine that costs nothing.

    .venv/bin/python -m benchmarks.dataplane [--json FILE] [--plot FILE.svg]
    .venv/bin/python -m benchmarks.dataplane --profile

Texts and token ids of 16, 128 and 512 tokens, in calls of 1 (64 callers) and of 32 (8 callers), through a real api,
scheduler, Redis and Celery worker; only the forward is left out. All share the machine's cores with the callers, so
beside items a second there is the processor time that the api processes spent on an item: its inverse is what one api
process could do alone on a core. `--profile` shows where that time goes, for texts of 128 tokens in calls of 1 and 32.
"""

import argparse
import asyncio
import itertools
import os
import pstats
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import orjson
import psutil
import uvloop

from api import embedded_redis
from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.callers import Connection
from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from pooling.config import resolve_spec
from pooling.tokenizing import Tokenizer
from tests.server import Millpond, free_ports

LENGTHS = (16, 128, 512)
SHAPES = ((1, 64), (32, 8))
"""Inputs in a call, and callers at once."""

WARM_UP_SECONDS, SECONDS = 1.0, 4.0
MODEL_NAME = "free"

# uvicorn hands SIGTERM on when it has stopped: that must not keep the profile from being written.
PROFILED_API = """
import cProfile, signal, sys
from api.__main__ import main
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
cProfile.run("main()", sys.argv[1])
"""


@dataclass(frozen=True)
class Load:
    """What the callers send."""

    tokens: int
    kind: str
    inputs: int
    callers: int

    def body(self, tokenizer: Tokenizer) -> bytes:
        """A call with inputs of exactly so many tokens, special tokens included."""
        words = itertools.cycle(["the", "river", "runs", "down", "to", "the", "mill", "and", "turns", "its", "wheel"])
        text = " ".join(itertools.islice(words, self.tokens - 2))
        (ids,) = tokenizer.encode([text])
        assert len(ids) == self.tokens, len(ids)
        given: object = text if self.kind == "texts" else ids.tolist()
        return orjson.dumps({"input": [given] * self.inputs, "encoding_format": "base64"})


async def send(port: int, body: bytes, callers: int, seconds: float) -> int:
    """Calls answered within so many seconds by callers that each send the next call when they have their answer."""
    until = time.perf_counter() + seconds
    answered = 0

    async def caller() -> None:
        nonlocal answered
        connection = await Connection.open(port)
        while time.perf_counter() < until:
            await connection.post("/v1/embeddings", body)
            answered += 1
        connection.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answered


@contextmanager
def backstage(
    model: Path, worker: str = "benchmarks.free_engine", told: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """Redis, a scheduler and a worker; the URL of the Redis.

    Args:
        worker: the module that runs as the worker, one with a free engine unless told.
        told: variables of its environment.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mp-")))
        server, _ = embedded_redis.find_server()
        redis_url = f"unix://{embedded_redis.socket_path(directory)}?db=0"
        roles = [embedded_redis.server_command(server, directory)]
        roles += [[sys.executable, "-m", module] for module in ("scheduler", worker)]
        options = Options(model=str(model), redis_url=redis_url, served_model_name=MODEL_NAME)
        environment = {
            **os.environ,
            **options.environment(),
            "MILLPOND_CHECKPOINT": str(model),
            "MILLPOND_MAX_NUM_BATCHED_TOKENS": "16384",
            **told,
        }
        for command in roles:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield redis_url


@contextmanager
def api(model: Path, redis_url: str, processes: int) -> Iterator[Millpond]:
    """So many api processes on one port, ready."""
    name = ["--served-model-name", MODEL_NAME]
    server = Millpond("api", ["--model", str(model), "--redis-url", redis_url, "--api-workers", str(processes), *name])
    try:
        server.wait_for_line("^serving; try")
        deadline = time.monotonic() + 30
        while httpx.get(f"{server.url}/ready").status_code != 200:
            assert time.monotonic() < deadline, server.output
        yield server
    finally:
        server.stop()


def measured(server: Millpond, load: Load, tokenizer: Tokenizer) -> dict[str, object]:
    """Items a second, and microseconds of the api processes' time for an item."""
    body = load.body(tokenizer)
    processes = server.role_processes("api")
    uvloop.run(send(server.port, body, load.callers, WARM_UP_SECONDS))
    before, began = _cpu_seconds(processes), time.perf_counter()
    items = uvloop.run(send(server.port, body, load.callers, SECONDS)) * load.inputs
    seconds, spent = time.perf_counter() - began, _cpu_seconds(processes) - before
    return {
        "api_processes": len(processes),
        "tokens": load.tokens,
        "kind": load.kind,
        "inputs": load.inputs,
        "items_per_second": items / seconds,
        "api_us_per_item": spent / items * 1e6,
    }


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def profiled(server: Millpond, load: Load, tokenizer: Tokenizer) -> str:
    """Where an api process like the one that runs spends its time: the functions that take most of it themselves."""
    environment = server.role_processes("api")[0].environ()
    (port,) = free_ports(1)
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "profile"
        environment |= {"MILLPOND_LISTEN_FD": str(listener.fileno())}
        environment.pop("MILLPOND_READY_FD", None)
        process = subprocess.Popen(
            [sys.executable, "-c", PROFILED_API, str(output)],
            env=environment,
            pass_fds=[listener.fileno()],
        )
        calls = uvloop.run(send(port, load.body(tokenizer), load.callers, 2 * SECONDS))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        text = Path(folder) / "text"
        with text.open("w") as stream:
            statistics = pstats.Stats(str(output), stream=stream)
            statistics.strip_dirs().sort_stats("tottime").print_stats(25)
        found = text.read_text()
    listener.close()
    return f"{load}: {calls} calls\n{found}"


def unlimited(model: Path, folder: Path) -> Path:
    """The model without the limit of its Sentence Transformers files: it takes 512 tokens then."""
    copy = folder / "model"
    copy.mkdir()
    for path in model.iterdir():
        if path.name != "sentence_bert_config.json":
            (copy / path.name).symlink_to(path.resolve())
    return copy


def main() -> None:
    """Prints the table, or the profile; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = unlimited(checkpoint_directory(Options()), Path(folder))
        tokenizer = Tokenizer.from_spec(resolve_spec(model))
        with backstage(model) as redis_url:
            if options.profile:
                with api(model, redis_url, 1) as server:
                    for inputs, callers in SHAPES:
                        print(profiled(server, Load(128, "texts", inputs, callers), tokenizer))
                return
            print(f"{'api':>4}{'inputs':>8}{'tokens':>8}{'kind':>8}{'items/s':>10}{'api us/item':>13}")
            for processes in (1, 2):
                with api(model, redis_url, processes) as server:
                    for inputs, callers in SHAPES:
                        for tokens in LENGTHS:
                            for kind in ("texts", "ids"):
                                row = measured(server, Load(tokens, kind, inputs, callers), tokenizer)
                                rows.append(row)
                                print(
                                    f"{processes:>4}{inputs:>8}{tokens:>8}{kind:>8}"
                                    f"{row['items_per_second']:>10.0f}{row['api_us_per_item']:>13.0f}"
                                )
    keep({"benchmark": "dataplane", **describe_machine(), "rows": rows}, options)


if __name__ == "__main__":
    main()
