"""Rows a second through `POST /v1/rows` in the bulk lane, beside the bare engine on the same rows, by turns in one run.

    .venv/bin/python -m benchmarks.bulk --model default --rounds 5 --json FILE
    .venv/bin/python -m benchmarks.bulk --model tiny --rounds 5 --json FILE
    .venv/bin/python -m benchmarks.bulk --model tiny-bert --rounds 5 --json FILE
    .venv/bin/python -m benchmarks.bulk --model tiny --profile

The rows of both are sorted by length and the bare engine's batches are cut by the worker's own budget. Several calls
are in flight, as the bulk commands keep them. All share the machine's cores with the caller, so beside the rows a
second there is the processor time that each role spends on a row. `--profile` names the functions that it goes to.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvloop

from api import embedded_redis
from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.bare_engine import Settings, save_ids, sorted_batches
from benchmarks.callers import Connection
from benchmarks.machine import describe_machine
from benchmarks.texts import mixed_texts
from pooling.config import resolve_spec
from pooling.tokenizing import TokenIds, Tokenizer
from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, Millpond, free_ports, serving

ROWS_PER_CALL = 256
IN_FLIGHT = 4
LANE = {"Millpond-Lane": "bulk"}
PROFILED = ("api", "scheduler", "workers")
ROLES = (*PROFILED, "redis")
MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS = 2048, 256
"""The worker's defaults on a CPU, if the command does not say otherwise."""

PROFILED_FUNCTIONS = 20


@dataclass(frozen=True)
class Work:
    """A model and the rows that it gets.

    Attributes:
        call: the fields of the request beside its rows.
        ids: the rows' tokens.
        budget: tokens of a micro-batch.
    """

    model: Path
    call: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    ids: Sequence[TokenIds]
    budget: int = MAX_NUM_BATCHED_TOKENS

    def options(self) -> list[str]:
        """Those of the server."""
        return ["--max-num-batched-tokens", str(self.budget), "--max-num-seqs", str(MAX_NUM_SEQS)]

    def bodies(self) -> list[bytes]:
        """The calls, short rows first."""
        order = sorted(range(len(self.rows)), key=lambda number: len(self.ids[number]))
        ordered = [self.rows[number] for number in order]
        return [
            orjson.dumps({**self.call, "rows": ordered[begin : begin + ROWS_PER_CALL]})
            for begin in range(0, len(ordered), ROWS_PER_CALL)
        ]


def some_texts(count: int) -> list[str]:
    """Texts of mixed length, the same again where there are not so many."""
    return list(itertools.islice(itertools.cycle(mixed_texts()), count))


def default_work(count: int) -> Work:
    """Texts of mixed length to embed, for the default model."""
    model = checkpoint_directory(Options())
    spec = resolve_spec(model)
    tokenizer = Tokenizer.from_spec(spec)
    texts = some_texts(count)
    ids = [tokenizer.truncate(each, spec.max_model_len) for each in tokenizer.encode(texts)]
    call = {"task": "embed", "encoding_format": "base64", "truncate_prompt_tokens": -1}
    return Work(model, call, [{"text": text} for text in texts], ids)


def tiny_work(count: int, folder: Path) -> Work:
    """Short conversations to score, for a reward model of two layers with a chat template."""
    model = made(golden_of("chat-reward"), folder / "tiny")
    texts = some_texts(count)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{number}: {text[:20]}"},
                {"role": "assistant", "content": text[20:40] or "yes"},
            ]
        }
        for number, text in enumerate(texts)
    ]
    # As the checkpoint's template has it, near enough for a yardstick's lengths; the reply's count is checked.
    rendered = [
        "".join(f"<|endoftext|>{m['role']}\n{_content(m)}<|endoftext|>\n" for m in row["messages"]) for row in rows
    ]
    ids = Tokenizer.from_spec(resolve_spec(model)).encode(rendered, add_special_tokens=False)
    return Work(model, {"task": "score"}, rows, ids)


def tiny_bert_work(count: int) -> Work:
    """Short texts to score, for a BERT of two layers with one label."""
    model = GOLDEN / "families" / "bert-cross-encoder"
    texts = [f"{number} {text[:30]}" for number, text in enumerate(some_texts(count))]
    ids = Tokenizer.from_spec(resolve_spec(model)).encode(texts)
    return Work(model, {"task": "score"}, [{"text": text} for text in texts], ids)


def _content(message: Mapping[str, str]) -> str:
    return message["content"].strip() if message["role"] == "assistant" else message["content"]


async def post_all(port: int, bodies: Sequence[bytes], in_flight: int) -> tuple[float, list[bytes]]:
    """Seconds for all calls with so many in flight, and the replies."""
    replies = [b""] * len(bodies)
    waiting = iter(enumerate(bodies))

    async def caller(connection: Connection) -> None:
        for number, body in waiting:
            replies[number] = await connection.post("/v1/rows", body, LANE)

    connections = [await Connection.open(port) for _ in range(in_flight)]
    began = time.perf_counter()
    await asyncio.gather(*(caller(connection) for connection in connections))
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return seconds, replies


def checked_tokens(replies: Sequence[bytes]) -> int:
    """The tokens of all replies; raises where a row has an error."""
    found = [orjson.loads(reply) for reply in replies]
    wrong = [entry for reply in found for entry in reply["data"] if "error" in entry]
    assert not wrong, wrong[0]
    return sum(reply["usage"]["total_tokens"] for reply in found)


@contextmanager
def bare_engine(work: Work, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The yardstick's process, loaded and warm."""
    save_ids(folder / "ids.npz", work.ids)
    settings = Settings(str(work.model), str(folder / "ids.npz"), work.budget, MAX_NUM_SEQS)
    settings.save(folder / "settings.json")
    command = [sys.executable, "-m", "benchmarks.bare_engine", str(folder / "settings.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def run_bare(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """Seconds of the bare engine for all rows, by the clock and of processor time."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("run\n")
    process.stdin.flush()
    seconds, spent = map(float, process.stdout.readline().split())
    return seconds, spent


def role_seconds(server: Millpond) -> dict[str, float]:
    """Processor time of each role so far; of the api with the processes that render for it."""
    found = {}
    for role in ROLES:
        processes = server.role_processes(role)
        family = [*processes, *(child for each in processes for child in each.children(recursive=True))]
        found[role] = sum(sum(process.cpu_times()[:2]) for process in family)
    return found


def batch_metrics(server: Millpond) -> dict[str, float]:
    """Micro-batches so far, their sequences and tokens, and the seconds in which the engine computed them."""
    text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    names = {
        "batches": "batch_tokens_count",
        "tokens": "batch_tokens_sum",
        "sequences": "batch_sequences_sum",
        "seconds": "stage_seconds_sum",
    }
    return {
        name: sum(
            float(value)
            for key, value in values.items()
            if key.startswith(f"millpond_{metric}") and (metric != "stage_seconds_sum" or '"forward"' in key)
        )
        for name, metric in names.items()
    }


def measure(work: Work, rounds: int, in_flight: int) -> dict[str, object]:
    """The figures of some rounds, after one that warms up."""
    bodies, count = work.bodies(), len(work.rows)
    bare: list[float] = []
    bare_spent: list[float] = []
    ours: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving(*work.options(), model=work.model))
        process = stack.enter_context(bare_engine(work, folder))
        run_bare(process)
        _, replies = uvloop.run(post_all(server.port, bodies, in_flight))
        tokens = checked_tokens(replies)
        assert tokens == sum(map(len, work.ids)), (tokens, sum(map(len, work.ids)))
        spent = dict.fromkeys(ROLES, 0.0)
        before = batch_metrics(server)
        for _ in range(rounds):
            seconds, processor_seconds = run_bare(process)
            bare.append(seconds)
            bare_spent.append(processor_seconds)
            earlier = role_seconds(server)
            ours.append(uvloop.run(post_all(server.port, bodies, in_flight))[0])
            for role, until_now in role_seconds(server).items():
                spent[role] += until_now - earlier[role]
        batches = {name: value - before[name] for name, value in batch_metrics(server).items()}
    return {
        "rows": count,
        "tokens": tokens,
        "rows_per_second": count / statistics.median(ours),
        "rows_per_second_of_the_bare_engine": count / statistics.median(bare),
        "share_of_the_bare_engine": statistics.median(b / o for b, o in zip(bare, ours, strict=True)),
        "shares": [b / o for b, o in zip(bare, ours, strict=True)],
        "share_of_time_in_which_the_engine_computed": batches["seconds"] / sum(ours),
        "us_per_row": {
            "bare engine": statistics.mean(bare_spent) / count * 1e6,
            **{role: seconds / (count * rounds) * 1e6 for role, seconds in spent.items()},
        },
        "batches": {
            "of_the_bare_engine": len(sorted_batches(work.ids, work.budget, MAX_NUM_SEQS)),
            "a_round": batches["batches"] / rounds,
            "rows_each": batches["sequences"] / batches["batches"],
            "tokens_each": batches["tokens"] / batches["batches"],
        },
        "load_average": os.getloadavg()[0],
    }


@dataclass(frozen=True)
class ProfiledRoles:
    """Roles that keep account of their time."""

    port: int
    processes: "Sequence[subprocess.Popen[bytes]]"

    def begin(self) -> None:
        """Forgets what they did until now."""
        for process in self.processes:
            process.send_signal(signal.SIGUSR2)


@contextmanager
def profiled_roles(work: Work, folder: Path) -> Iterator[ProfiledRoles]:
    """Roles as `millpond serve` starts them; what they spent lies in `folder` when they have ended."""
    with serving(*work.options(), model=work.model) as server, ExitStack() as stack:
        environments = {role: server.role_processes(role)[0].environ() for role in PROFILED}
        assert server.data_directory
        server.stop()
        program, _ = embedded_redis.find_server()
        command = embedded_redis.server_command(program, server.data_directory)
        redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(redis.wait)
        stack.callback(redis.terminate)
        (port,) = free_ports(1)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=2048))
        metrics = folder / "metrics"
        metrics.mkdir()
        own = {"MILLPOND_LISTEN_FD": str(listener.fileno()), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        processes = []
        for role in PROFILED:
            environment = {**environments[role], **own}
            environment.pop("MILLPOND_READY_FD", None)
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.profiled", role, str(folder / role)],
                env=environment,
                pass_fds=[listener.fileno()],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes.append(process)
        deadline = time.monotonic() + 60
        while httpx.get(f"http://127.0.0.1:{port}/ready", timeout=60).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield ProfiledRoles(port, processes)


def profile(work: Work, rounds: int, in_flight: int) -> str:
    """Where api, scheduler and worker spend their time: microseconds a row of their costliest functions."""
    bodies, rows = work.bodies(), len(work.rows) * rounds
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with profiled_roles(work, folder) as roles:
            uvloop.run(post_all(roles.port, bodies, in_flight))
            roles.begin()
            for _ in range(rounds):
                uvloop.run(post_all(roles.port, bodies, in_flight))
        for role in PROFILED:
            spent: dict[str, tuple[int, float, float]] = json.loads((folder / role).read_text())
            for title, key in (("alone", 1), ("with what they call", 2)):
                lines.append(f"{role}: us a row of functions {title}, and calls a row")
                costliest = sorted(spent.items(), key=lambda each: -each[1][key])[:PROFILED_FUNCTIONS]
                lines += [
                    f"  {cost[key] / rows * 1e6:8.1f} {cost[0] / rows:8.2f}  {place}" for place, cost in costliest
                ]
    return "\n".join(lines)


def main() -> None:
    """Prints the figures, or the profile; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("default", "tiny", "tiny-bert"), default="tiny")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    parser.add_argument("--max-num-batched-tokens", type=int, default=MAX_NUM_BATCHED_TOKENS)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model == "default":
            work = default_work(options.rows or 512)
        elif options.model == "tiny":
            work = tiny_work(options.rows or 4096, Path(folder))
        else:
            work = tiny_bert_work(options.rows or 8192)
        work = replace(work, budget=options.max_num_batched_tokens)
        if options.profile:
            print(profile(work, options.rounds, options.in_flight))
            return
        report = {**describe_machine(), "model": options.model, **measure(work, options.rounds, options.in_flight)}
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
